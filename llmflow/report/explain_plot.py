"""One flow as a picture, with matplotlib (extra ``plots``)."""

from __future__ import annotations

import textwrap
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from llmflow.arrays import F64, I64
from llmflow.learn.model import LLM_STREAM, OTHER, UNDECIDED
from llmflow.quality.stalls import STALL
from llmflow.report.explained import NO_SCORE, Explained

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours: told apart by the colour-blind, too.
UP, DOWN, STALLED = "#d55e00", "#0072b2", "#b3005e"
LABEL_COLOURS = {LLM_STREAM: "#009e73", OTHER: "#8c8c8c", UNDECIDED: "#e0c060"}
# The same, mixed with white: not every viewer knows transparency.
_SHADES = {LLM_STREAM: "#def2ec", OTHER: "#f0f0f0", UNDECIDED: "#fbf6e7"}
_INK = "#222222"
_COLUMNS = 800  # packets of one direction beyond this are drawn as the largest of each column
_DOTS = 2000  # more are drawn as pixels
_SHOWN = 10  # features
_LETTER = 0.085  # width of a letter, inches
_WIDE = 6.0  # inches that have room for long headings
# Inches: heights of the panels over time, what is above and left of each, a line of text.
_PANELS, _OVER_PANEL, _LEFT, _LINE = (2.0, 1.1, 1.7), 0.38, 0.85, 0.205


def draw_flow(
    told: Explained, sink: IO[bytes], form: str, width: float = 8.0, *, titled: bool = True
) -> None:
    """Draw packets, score and cadence over time, and what moved the score.

    Parameters
    ----------
    told : Explained
    sink : binary file
    form : {"svg", "png"}
    width : float
        Inches; the letters keep their size.
    titled : bool
        Say whose flow it is.
    """
    import matplotlib as mpl  # noqa: PLC0415 - heavy
    from matplotlib.figure import Figure  # noqa: PLC0415 - heavy

    style: Any = {
        "svg.hashsalt": f"llmflow {width}",  # same input, same bytes; two widths fit in one page
        "svg.fonttype": "none",
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": _INK,
        "text.parse_math": False,
    }
    wide = width >= _WIDE
    said = [told.title, told.protocol, told.verdict, told.volume] if titled else []
    over = _wrapped(said if told.moved else [*said, NO_SCORE], width)
    below = _wrapped(["What moved the score", told.sum_text()], width) if told.moved else []
    # Inches, from above. Not left to a solver: its last digits differ from run to run.
    tops, top = [], _LINE * len(over)
    for high in _PANELS:
        tops.append(top + _OVER_PANEL)
        top = tops[-1] + high
    heading = top + 0.65
    last = heading + _LINE * len(below) + 0.1
    bars = 0.24 * (_SHOWN + 1)
    height = last + bars + 0.55 if told.moved else heading
    with mpl.rc_context(style):
        figure = Figure(figsize=(width, height))

        def place(left: float, top: float, high: float, **more: Any) -> Axes:  # noqa: ANN401
            wide_as = width - left - 0.15
            box = (left / width, 1 - (top + high) / height, wide_as / width, high / height)
            return figure.add_axes(box, **more)

        def write(lines: list[str], top: float) -> None:
            figure.text(0.1 / width, 1 - top / height, "\n".join(lines), va="top", linespacing=1.35)

        write(over, 0.08)
        first = place(_LEFT, tops[0], _PANELS[0])
        axes = [first, *(place(_LEFT, tops[n], _PANELS[n], sharex=first) for n in (1, 2))]
        _packets(told, axes[0], wide=wide)
        _scores(told, axes[1], width)
        _gaps(told, axes[2], wide=wide)
        for one in axes:
            _shade(told, one)
            one.tick_params(labelbottom=one is axes[2])
        axes[2].set_xlabel("time since the first packet (s)")
        axes[2].set_xlim(-0.01 * told.span, 1.01 * told.span)
        if told.moved:
            write(below, heading)
            _features(told, place(2.75 if wide else 1.7, last, bars), wide=wide)
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type")) if form == "svg" else {}
        figure.savefig(sink, format=form, dpi=150, metadata=metadata)


def _wrapped(lines: list[str], width: float) -> list[str]:
    most = int(width / _LETTER)
    return [part for line in lines for part in textwrap.wrap(line, most)]


def _shade(told: Explained, axes: Axes) -> None:
    for turn in told.turns:
        colour = _SHADES[turn["label"]]
        axes.axvspan(turn["start_s"], turn["stop_s"], color=colour, lw=0, zorder=0)


def _stems(time: F64, size: I64, span: float) -> tuple[F64, F64]:
    """A line per packet from 0 to its size; of many packets the largest of each column."""
    if len(time) > _COLUMNS:
        column = np.minimum(time / span * _COLUMNS, _COLUMNS - 1).astype(np.int64)
        largest = np.zeros(_COLUMNS)
        np.maximum.at(largest, column, size)
        filled = np.flatnonzero(largest)
        time, height = (filled + 0.5) * span / _COLUMNS, largest[filled]
    else:
        height = size.astype(np.float64)
    none = np.full(len(time), np.nan)
    x = np.stack([time, time, none], axis=1).ravel()
    return x, np.stack([np.zeros(len(time)), height, none], axis=1).ravel()


def _root(value: F64) -> F64:
    root: F64 = np.sign(value) * np.sqrt(np.abs(value))
    return root


def _square(value: F64) -> F64:
    square: F64 = np.sign(value) * value**2
    return square


def _packets(told: Explained, axes: Axes, *, wide: bool) -> None:
    for name, mask, sign, colour in (("up", told.up, 1, UP), ("down", ~told.up, -1, DOWN)):
        x, y = _stems(told.time[mask], told.size[mask], told.span)
        label = f"{name} ({int(mask.sum()):,})" if wide else name
        axes.plot(x, sign * y, color=colour, lw=0.9, label=label, solid_capstyle="butt")
    axes.axhline(0, color=_INK, lw=0.6)
    if told.stalled.any():
        end, gap = told.gap_time[told.stalled], told.gap[told.stalled]
        none = np.full(len(end), np.nan)
        x = np.stack([end - gap, end, none], axis=1).ravel()
        axes.plot(x, x * 0, color=STALLED, lw=3, solid_capstyle="butt", label="stall")
    many = max(int(told.up.sum()), int((~told.up).sum())) > _COLUMNS
    long = f"{'Largest packets' if many else 'Packets'}: up, and down below the line"
    axes.set_title(long if wide else "Largest" if many else "Packets")
    axes.set_ylabel("IP bytes (root scale)")
    # Small packets are the point: on a linear scale a full one hides them.
    axes.set_yscale("function", functions=(_root, _square))
    largest = float(told.size.max())
    round_ones = (100, 500, 1000, 5000, 10000, 50000)
    ticks = [t for t in round_ones if 0.02 * largest <= t <= 1.1 * largest] or [int(largest)]
    axes.set_yticks([*(-t for t in ticks), 0, *ticks])
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    axes.set_ylim(-1.1 * largest, 1.1 * largest)
    axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 0.98),
                borderaxespad=0, handlelength=1, columnspacing=1)  # fmt: skip


def _scores(told: Explained, axes: Axes, width: float) -> None:
    span = told.span
    letter = 0.9 * _LETTER / (width - 1) * span  # of a smaller size, in seconds
    free = -np.inf
    for turn in told.turns:
        score, start, stop = turn["score"], turn["start_s"], turn["stop_s"]
        axes.bar(start, score or 0, width=max(stop - start, span / 500), align="edge",
                 color=LABEL_COLOURS[turn["label"]])  # fmt: skip
        told_score = "-" if score is None else f"{score:.2f}"
        # The number alone where there is no more room; that of a slice looks like a score.
        short = [turn["name"]] if turn["name"].isdigit() else []
        for text in (f"{turn['name']}: {told_score}", *short):
            half = len(text) * letter / 2
            middle = min(max((start + stop) / 2, half), span - half)
            if middle - half >= free:  # no text over another
                axes.text(middle, (score or 0) + 0.04, text, ha="center", va="bottom", fontsize=9)
                free = middle + half + letter
                break
    axes.axhline(told.threshold, color=_INK, lw=0.8, ls="--")
    axes.set(ylim=(0, 1.25), yticks=(0, 0.5, 1), ylabel="score")
    used = {turn["label"] for turn in told.turns}
    handles = [axes.bar(0, 0, color=c, label=n) for n, c in LABEL_COLOURS.items() if n in used]
    long = f"Score of each turn (dashed: llm-stream from {told.threshold:.2f})"
    axes.set_title(long if width >= _WIDE else "Turns")
    axes.legend(handles=handles, frameon=False, ncols=3, loc="lower right", handlelength=1,
                bbox_to_anchor=(1, 0.96), borderaxespad=0, columnspacing=1)  # fmt: skip


def _gaps(told: Explained, axes: Axes, *, wide: bool) -> None:
    axes.set(yscale="log", ylabel="gap (ms)")
    many = len(told.gap) > _DOTS
    for mask, colour, marker, name in (
        (~told.stalled, DOWN, ".", "gap between chunks"),
        (told.stalled, STALLED, "x", f"stall ({int(told.stalled.sum())})"),
    ):
        if mask.any():
            axes.plot(told.gap_time[mask], 1000 * told.gap[mask], marker, color=colour, ms=4,
                      label=name, rasterized=many)  # fmt: skip
    name = told.best["name"] if told.best else ""
    axes.set_title(
        "Gap in front of each chunk"
        + (f"; bars: best windows of turn {name}" if wide and name else "")
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if not len(told.gap):
        axes.set_ylim(4, 1000)
        axes.text(0.5, 0.5, "no reply has two chunks", ha="center", transform=axes.transAxes)
        return
    axes.axhline(STALL / 1e6, color=STALLED, lw=0.8, ls=":")
    # The bars of the windows have the upper quarter for themselves.
    axes.set_ylim(4, 4 * max(STALL / 4e6, 250 * float(told.gap.max())) ** (4 / 3))
    for number, (scale, first, last) in enumerate(told.windows[1:]):
        height = 0.93 - 0.12 * number
        axes.plot(
            [first, last], [height] * 2, color=_INK, lw=2, transform=axes.get_xaxis_transform()
        )
        right = last < 0.8 * told.span
        axes.annotate(
            scale,
            (last if right else first, height),
            xycoords=axes.get_xaxis_transform(),
            xytext=(4 if right else -4, 0),
            textcoords="offset points",
            va="center",
            ha="left" if right else "right",
            fontsize=8,
        )


def _features(told: Explained, axes: Axes, *, wide: bool) -> None:
    rows = told.feature_rows()
    names = [
        f"{name} = {values[0]}{'' if unit == '1' else ' ' + unit}" if wide else name
        for name, unit, values, _ in rows[:_SHOWN]
    ]
    moved = [row[3] for row in rows]
    moved = [*moved[:_SHOWN], sum(moved[_SHOWN:])]
    names.append(f"{len(rows) - _SHOWN} others")
    place = np.arange(len(names))
    axes.barh(place, moved, color=[LABEL_COLOURS[LLM_STREAM if m > 0 else OTHER] for m in moved])
    for y, m in zip(place, moved, strict=True):
        # Right of the axis also where the bar goes left, so that no name is in the way.
        axes.annotate(f"{m:+.3f}", (max(m, 0.0), y), xytext=(3, 0), textcoords="offset points",
                      va="center", fontsize=8)  # fmt: skip
    axes.axvline(0, color=_INK, lw=0.6)
    axes.set_yticks(place, names, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.2 if wide else 0.3)
    axes.locator_params(axis="x", nbins=6 if wide else 4)
    axes.set_xlabel("change of the raw score")
