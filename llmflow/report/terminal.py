"""Results for people: a table that fits the terminal, and a summary."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from llmflow.learn.model import LLM_STREAM, UNDECIDED
from llmflow.report import output

if TYPE_CHECKING:
    from rich.console import Console

# (heading, justify, least width of the terminal at which the column is shown)
_COLUMNS = [
    ("label", "left", 0),
    ("score", "right", 0),
    ("flow", "left", 40),
    ("client", "left", 70),
    ("server", "left", 0),
    ("start (UTC)", "left", 148),
    ("duration", "right", 108),
    ("turns", "right", 88),
    ("streaming", "right", 98),
    ("up", "right", 127),
    ("down", "right", 127),
    ("provider", "left", 160),
]


_UNBOUND = 160
_FLOW_DIGITS = 8  # enough for `llmflow explain --flow`


def bytes_text(number: float) -> str:
    """Bytes with a decimal prefix.

    Examples
    --------
    >>> bytes_text(1234567)
    '1.2 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:  # noqa: PLR2004
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def endpoint_text(row: dict[str, Any], side: str) -> str:
    """Address and port of one end of a row of ``FLOW_SCHEMA``."""
    address, port = row[f"{side}_ip"], row[f"{side}_port"]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@contextlib.contextmanager
def standard_output(bound: int) -> Iterator[Console]:
    """A console on standard output, of ``bound`` columns where there is no width to keep.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    from rich.console import Console  # noqa: PLC0415 - heavy

    # Not on a terminal there is no width to keep, unless COLUMNS asks for one.
    with output.standard_output():
        wide = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else bound
        yield Console(highlight=False, width=wide)


class Summary:
    """Gathers result batches: totals of all flows, and the flows most worth showing.

    Parameters
    ----------
    limit : int
        How many flows to keep for the table.
    names : bool
        Whether names were looked for.
    """

    def __init__(self, limit: int, *, names: bool = True) -> None:
        self._limit, self._with_names = limit, names
        self._top: pa.Table | None = None
        self.flows = self.streams = self.undecided = self.turns = 0
        self.named = self.both = 0
        self.bytes = self.stream_bytes = 0
        self.stream_seconds = 0.0

    def add(self, flows: pa.RecordBatch) -> None:
        """Count a batch of flows."""
        table = pa.Table.from_batches([flows])
        start = pc.strftime(table["start"].cast(pa.timestamp("s", "UTC"), safe=False))
        table = table.drop_columns("start").append_column("start", start)
        volume = pc.add(table["up_bytes"], table["down_bytes"])
        streaming = pc.equal(table["label"], LLM_STREAM)
        self.flows += table.num_rows
        self.streams += pc.sum(streaming).as_py() or 0
        self.undecided += pc.sum(pc.equal(table["label"], UNDECIDED)).as_py() or 0
        self.bytes += pc.sum(volume).as_py() or 0
        named = pc.is_valid(table["provider"])
        self.named += pc.sum(named).as_py() or 0
        self.both += pc.sum(pc.and_(named, streaming)).as_py() or 0
        self.stream_bytes += pc.sum(pc.if_else(streaming, volume, 0)).as_py() or 0
        self.stream_seconds += pc.sum(table["stream_seconds"]).as_py() or 0.0
        # Streams first, then what was judged, then what was not; each by volume.
        table = table.append_column("_volume", volume).append_column("_stream", streaming)
        judged = pc.fill_null(table["score"], -1.0)
        table = table.append_column("_judged", judged)
        if self._top is not None:
            table = pa.concat_tables([self._top, table])
        order = [("_stream", "descending"), ("_judged", "descending"), ("_volume", "descending")]
        ranked = pc.sort_indices(table, order)  # stable
        self._top = table.take(ranked[: self._limit])

    def text(self) -> str:
        """A few sentences on all flows."""
        share = 100 * self.stream_bytes / self.bytes if self.bytes else 0.0
        noun = "flow" if self.flows == 1 else "flows"
        return (
            f"{self.flows} {noun}: {self.streams} llm-stream, {self.undecided} undecided, "
            f"{self.flows - self.streams - self.undecided} other. "
            f"LLM streams: {bytes_text(self.stream_bytes)} of {bytes_text(self.bytes)} "
            f"({share:.1f} %), {self.stream_seconds:.1f} s of streaming.{self._names()}"
        )

    def _names(self) -> str:
        """Where the two witnesses differ."""
        if not self._with_names:
            return ""
        return (
            f" Names: {self.named} of LLM services, {self.named - self.both} of them without "
            f"streaming; {self.streams - self.both} llm-stream without a name."
        )

    def print(self) -> None:
        """Show the table and the summary on standard output.

        Raises
        ------
        OutputError
            Standard output cannot be written.
        """
        with standard_output(_UNBOUND) as console:
            self._print(console)

    def _print(self, console: Console) -> None:
        from rich.table import Table  # noqa: PLC0415 - heavy

        shown = [column for column in _COLUMNS if console.width >= column[2]]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading, justify, _ in shown:
            table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
        rows = self._top.to_pylist() if self._top is not None else []
        for row in rows:
            cells = _cells(row)
            style = "bold green" if row["label"] == LLM_STREAM else ""
            table.add_row(*(cells[heading] for heading, _, _ in shown), style=style)
        if rows:
            console.print(table)
            console.print()
        if self.flows > len(rows):
            console.print(f"{len(rows)} of {self.flows} flows shown; --limit or -f shows more.")
        console.print(self.text())


def _cells(row: dict[str, Any]) -> dict[str, str]:
    from rich.markup import escape  # noqa: PLC0415 - heavy

    score = row["score"]
    return {
        "label": row["label"],
        "score": "-" if score is None else f"{score:.3f}",
        "flow": row["flow_id"][:_FLOW_DIGITS],
        "client": endpoint_text(row, "client"),
        "server": f"{endpoint_text(row, 'server')}/{row['protocol']}",
        "start (UTC)": row["start"].replace("T", " "),
        "duration": f"{row['duration_s']:.1f} s",
        "turns": str(row["turns"]),
        "streaming": f"{row['stream_seconds']:.1f} s",
        "up": bytes_text(row["up_bytes"]),
        "down": bytes_text(row["down_bytes"]),
        # Lists of providers hold printable text; what looks like markup is shown as it is.
        "provider": escape(row["provider"] or "-"),
    }
