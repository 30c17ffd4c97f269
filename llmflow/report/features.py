"""Feature columns as Arrow tables, for export."""

from __future__ import annotations

import pyarrow as pa

from llmflow.features.extract import FEATURES, FLOW
from llmflow.features.registry import compute
from llmflow.features.segments import cut_segments
from llmflow.flows.batch import FlowBatch
from llmflow.flows.keys import identify
from llmflow.flows.turns import Data, Turns
from llmflow.report import arrow


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
