"""Feature columns as Arrow tables, for export, and their definitions."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from llmflow.features.extract import FEATURES, FLOW, MODEL_FEATURES, schema_hash
from llmflow.features.registry import compute
from llmflow.features.segments import cut_segments
from llmflow.flows.batch import FlowBatch
from llmflow.flows.keys import identify
from llmflow.flows.turns import Data, Turns
from llmflow.report import arrow
from llmflow.report.terminal import standard_output

_UNBOUND = 160
_TABLE_FROM = 70  # columns of a terminal


def feature_schema() -> pa.Schema:
    """Columns of :func:`feature_table`, with unit and formula in each field's metadata."""
    time = pa.timestamp("ns", tz="UTC")
    keys = [
        pa.field("flow_id", pa.string()),
        pa.field("slice", pa.int64()),
        pa.field("turn", pa.int64()),
        pa.field("reply_start", time),
    ]
    return pa.schema(
        keys
        + [
            pa.field(f.name, pa.float64(), metadata={"unit": f.unit, "formula": f.formula})
            for f in FEATURES.values()
        ]
    )


def feature_table(batch: FlowBatch, data: Data, turns: Turns, level: str) -> pa.RecordBatch:
    """Features of the replies of a batch.

    Parameters
    ----------
    batch, data, turns
        Flows, what their packets carry, their turns.
    level : str
        ``turn``: a row per turn; ``flow``: a row per flow, numbered as its first turn.
    """
    segments = cut_segments(batch, data, turns, "turn" if level == "turn" else FLOW)
    values = compute(segments)
    f, turn = batch.flows, segments.turn
    flow = turns.flow[turn]
    flow_id, _ = identify(f.a, f.b, f.protocol, f.origin)
    schema = feature_schema()
    columns = [
        arrow.codes(flow_id[flow]),
        arrow.numbers(f.slice_no[flow], pa.int64()),
        arrow.numbers(turns.number[turn], pa.int64()),
        arrow.numbers(batch.packets.time[turns.reply[turn]], schema.field("reply_start").type),
        *(arrow.numbers(column, pa.float64()) for column in values.T),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def definitions() -> list[dict[str, Any]]:
    """The registry as rows; ``model`` says whether models read the feature."""
    return [
        {
            "name": f.name,
            "unit": f.unit,
            "group": f.group,
            "counts": f.counts,
            "null": f.null,
            "formula": f.formula,
            "version": f.version,
            "model": f.name in MODEL_FEATURES,
        }
        for f in FEATURES.values()
    ]


def print_definitions() -> None:
    """Show the registry as a table.

    Raises
    ------
    OutputError
        Standard output cannot be written.
    """
    from rich.table import Table  # noqa: PLC0415 - heavy

    with standard_output(_UNBOUND) as console:
        rows = definitions()
        if console.width >= _TABLE_FROM:
            table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
            for heading in ("name", "unit", "group", "v", "formula", "null"):
                table.add_column(heading, no_wrap=heading in ("name", "unit", "group", "v"))
            for row in rows:
                cells = (row["name"], row["unit"], row["group"], row["version"], row["formula"])
                table.add_row(*map(str, cells), row["null"])
            console.print(table)
        else:
            for row in rows:
                about = f"{row['unit']}, {row['group']}, version {row['version']}"
                console.print(f"[bold]{row['name']}[/] ({about})")
                console.print(f"{row['formula']} Null: {row['null']}.")
        console.print("\nModels read all groups but request; v is the version of a formula.")
        console.print(f"Schema {schema_hash(FEATURES)}", soft_wrap=True)
