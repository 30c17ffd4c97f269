"""One flow for the terminal: bytes over time, a row per turn, and what moved the score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmflow.arrays import F64, I64, row_sums
from llmflow.learn.model import LLM_STREAM
from llmflow.report.explained import TURN_COLUMNS, Explained, turn_cell
from llmflow.report.terminal import bytes_text, standard_output

if TYPE_CHECKING:
    from rich.console import Console

_FULL, _PLAIN = "▁▂▃▄▅▆▇█", ".:-=+*#@"
_MARGIN = 6  # of the timeline: the names of its lines
_SHOWN = 8  # features
_LEAST = {"stall": 50, "request": 56, "start": 60, "ttft": 66, "gap p50": 72}
_BAR, _BAR_FROM = 20, 64  # the longest bar, and columns of a terminal that has room for it


def print_explained(told: Explained, note: str = "") -> None:
    """Show a flow on standard output.

    Parameters
    ----------
    told : Explained
    note : str
        Said first, where there is something to say.

    Raises
    ------
    OutputError
        Standard output cannot be written.
    """
    with standard_output(bound=80) as console:
        width = min(console.width, 100)
        plain = not _can_print(_FULL + "→", console.encoding)
        blocks = _PLAIN if plain else _FULL
        said = [told.title, told.protocol, told.names, told.verdict, told.volume]
        for line in filter(None, [note, *said]):
            console.print(line.replace("→", "->") if plain else line, markup=False)
        console.print()
        console.print("\n".join(timeline(told, width, blocks)), markup=False)
        console.print()
        _print_turns(told, console, width)
        console.print()
        console.print(told.sum_text(), markup=False)
        _print_features(told, console, width, blocks[-1])


def _can_print(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def timeline(told: Explained, width: int, blocks: str = _FULL) -> list[str]:
    """Bytes up and down per slot of time, the turns, stalls, and the axis.

    Parameters
    ----------
    told : Explained
    width : int
        Columns at most.
    blocks : str
        Characters for more and more bytes.
    """
    slots, span = width - _MARGIN, told.span

    def slot(time: F64) -> I64:
        return np.minimum(time / span * slots, slots - 1).astype(np.int64)

    lines, peaks = [], []
    for name, mask in (("up", told.up), ("down", ~told.up)):
        volume = row_sums(told.size[mask], slot(told.time[mask]), slots)
        lines.append(f"{name:<{_MARGIN}}{_ramp(volume, blocks)}".rstrip())
        peaks.append(f"{name} {bytes_text(volume.max())}")
    turns, stalls = [" "] * slots, [" "] * slots
    for number, turn in enumerate(told.turns):
        first, last = slot(np.array([turn["start_s"], turn["stop_s"]])).tolist()
        # Two lines in turn, so that neighbours are told apart where no name fits.
        turns[first : last + 1] = "-="[number % 2] * (last + 1 - first)
        if len(turn["name"]) <= last - first:
            turns[first : first + len(turn["name"])] = turn["name"]
    for gap_end, gap in zip(told.gap_time[told.stalled], told.gap[told.stalled], strict=True):
        first, last = slot(np.array([gap_end - gap, gap_end])).tolist()
        stalls[first : last + 1] = "x" * (last + 1 - first)
    lines.append(f"{'turn':<{_MARGIN}}{''.join(turns)}".rstrip())
    if told.stalled.any():
        lines.append(f"{'stall':<{_MARGIN}}{''.join(stalls)}".rstrip())
    right = f"{told.time[-1]:.1f} s"
    lines.append(f"{'':<{_MARGIN}}0 s{right:>{slots - 3}}")
    lines.append(f"{'':<{_MARGIN}}{span / slots:.2g} s a column, most in one:")
    lines.append(f"{'':<{_MARGIN}}{', '.join(peaks)}")
    return lines


def _ramp(volume: F64, blocks: str) -> str:
    """A character per slot; any byte at all gives at least the lowest."""
    level = np.ceil(volume / max(volume.max(), 1.0) * len(blocks)).astype(int)
    return "".join((" " + blocks)[number] for number in level)


def _print_turns(told: Explained, console: Console, width: int) -> None:
    from rich.table import Table  # noqa: PLC0415 - heavy

    shown = [column for column in TURN_COLUMNS if width >= _LEAST.get(column[0], 0)]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading, unit, _, _ in shown:
        side = "left" if heading in ("turn", "label") else "right"
        table.add_column(f"{heading}\n{unit}", justify=side, no_wrap=True)  # type: ignore[arg-type]
    for turn in told.turns:
        style = "bold green" if turn["label"] == LLM_STREAM else ""
        table.add_row(*(turn_cell(turn, key, digits) for _, _, key, digits in shown), style=style)
    if told.turns:
        console.print(table)
    else:
        console.print("No turn: the server sent no data.")


def _print_features(told: Explained, console: Console, width: int, mark: str) -> None:
    from rich.table import Table  # noqa: PLC0415 - heavy

    rows = told.feature_rows()
    if not rows:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("feature", no_wrap=True)
    table.add_column("in reply", justify="right", no_wrap=True)
    table.add_column("moved", justify="right", no_wrap=True)
    if width >= _BAR_FROM:
        table.add_column("")
    most = max(abs(moved) for *_, moved in rows) or 1.0
    for name, unit, values, moved in rows[:_SHOWN]:
        value = values[0] + (f" {unit}" if unit != "1" else "")
        bar = (mark if moved > 0 else "-") * round(abs(moved) / most * _BAR)
        cells = [name, value, f"{moved:+.3f}", *([bar] if width >= _BAR_FROM else [])]
        table.add_row(*cells, style="" if moved > 0 else "dim")
    rest = sum(moved for *_, moved in rows[_SHOWN:])
    table.add_row(f"{len(rows) - _SHOWN} others", "", f"{rest:+.3f}")
    console.print(table)
