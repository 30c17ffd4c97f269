"""One flow with all that its picture, its page and its text show."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from llmflow.arrays import F64, I64, Bool, run_end_mask, run_starts
from llmflow.capture.records import NANOSECOND
from llmflow.features.extract import LEAST_CHUNKS, MODEL_FEATURES, SCALES, SegmentFeatures
from llmflow.features.segments import Segments, cut_segments
from llmflow.learn.attribution import Attribution, attribute
from llmflow.learn.model import Model
from llmflow.quality.experience import measure
from llmflow.quality.stalls import STALL
from llmflow.report.tables import tabulate
from llmflow.report.terminal import bytes_text, endpoint_text

# Columns of the turn table: heading, its unit, column of TURN_SCHEMA (or of ours), digits.
TURN_COLUMNS = [
    ("turn", "", "name", None),
    ("start", "s", "start_s", 2),
    ("request", "bytes", "request_bytes", 0),
    ("ttft", "s", "ttft_s", 2),
    ("reply", "s", "reply_s", 2),
    ("chunks", "", "chunks", 0),
    ("gap p50", "ms", "gap_p50_ms", 1),
    ("stall", "s", "stall_s", 1),
    ("score", "", "score", 3),
    ("label", "", "label", None),
]
NO_SCORE = f"No score: no reply has {LEAST_CHUNKS} chunks or more"


@dataclass(frozen=True)
class Explained:
    """One flow, all slices; times are seconds since its first packet.

    Parameters
    ----------
    flow : dict
        Row of ``FLOW_SCHEMA``: of the slice with the highest score, times and counts of them all.
    turns : list of dict
        Rows of ``TURN_SCHEMA`` with ``name`` (as in ``classify``; with the slice, if there are
        several), ``start_s`` (request) and ``stop_s`` (last data of the reply).
    time, size, up
        Of each packet: time, bytes of the IP packet, whether it goes to the server.
    gap_time, gap, gap_turn
        Of each gap between chunks of a reply: its end, its length in seconds, row of its turn.
    threshold : float
        Scores from here on are ``llm-stream``.
    model_id : str
    moved : Attribution or None
        What moved the score of the turn with the highest one; None if no turn has a score.
    windows : list of (str, float, float)
        The segments in ``moved``: what it is, first and last packet.
    """

    flow: dict[str, Any]
    turns: list[dict[str, Any]]
    time: F64
    size: I64
    up: Bool
    gap_time: F64
    gap: F64
    gap_turn: I64
    threshold: float
    model_id: str
    moved: Attribution | None = None
    windows: list[tuple[str, float, float]] = field(default_factory=list)

    @cached_property
    def title(self) -> str:
        """Who talks to whom."""
        return f"{endpoint_text(self.flow, 'client')} → {endpoint_text(self.flow, 'server')}"

    @cached_property
    def protocol(self) -> str:
        """Protocol and id."""
        return f"{self.flow['protocol']}, flow {self.flow['flow_id']}"

    @cached_property
    def names(self) -> str:
        """What the flow said of itself in clear, and whose it is; empty where nothing is known."""
        said = {
            "server name": self.flow["sni"],
            "ALPN": self.flow["alpn"],
            "JA4": self.flow["ja4"],
            "service": self.flow["provider"],
            "perhaps": self.flow["provider_weak"],
        }
        return ", ".join(f"{name} {text}" for name, text in said.items() if text)

    @cached_property
    def verdict(self) -> str:
        """Label and score."""
        score = self.flow["score"]
        judged = "no score" if score is None else f"score {score:.3f}"
        return f"{self.flow['label']}, {judged} (llm-stream from {self.threshold:.3f})"

    @cached_property
    def volume(self) -> str:
        """How long and how much."""
        f, turns = self.flow, len(self.turns)
        return (
            f"{turns} turn{'' if turns == 1 else 's'}, {f['duration_s']:.1f} s, "
            f"{bytes_text(f['up_bytes'])} up, {bytes_text(f['down_bytes'])} down"
        )

    @cached_property
    def span(self) -> float:
        """Length of the time axis: never 0."""
        return max(float(self.time[-1]), 1e-3)

    @cached_property
    def stalled(self) -> Bool:
        """Which gaps are stalls."""
        long: Bool = self.gap > STALL / NANOSECOND
        return long

    @cached_property
    def best(self) -> dict[str, Any] | None:
        """The turn with the highest score."""
        return self.turns[self.moved.turn] if self.moved else None

    def sum_text(self) -> str:
        """How the contributions add up."""
        if self.moved is None or self.best is None:
            return NO_SCORE
        m = self.moved
        return (
            f"Turn {self.best['name']}: base {m.base:.3f}, features {m.moved.sum():+.3f}, "
            f"raw score {m.raw:.3f}, calibrated {self.best['score']:.3f}"
        )

    def feature_rows(self) -> list[tuple[str, str, list[str], float]]:
        """Name, unit, value in each of ``windows``, and contribution; the strongest first."""
        if self.moved is None:
            return []
        column = {name: number for number, name in enumerate(MODEL_FEATURES)}
        return [
            (
                name,
                MODEL_FEATURES[name].unit,
                [number_text(v) for v in self.moved.values[:, column[name]]],
                float(self.moved.moved[column[name]]),
            )
            for name in self.moved.ranked()
        ]


def number_text(value: float) -> str:
    """A feature's value in three digits; ``null`` for NaN.

    Examples
    --------
    >>> [number_text(v) for v in (0.01234567, 12345.6, 2.0, float("nan"))]
    ['0.0123', '12346', '2', 'null']
    """
    if np.isnan(value):
        return "null"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004


def turn_cell(turn: dict[str, Any], key: str, digits: int | None) -> str:
    """A cell of the turn table; ``-`` where nothing is known."""
    value = turn[key]
    if value is None:
        return "-"
    return str(value) if digits is None else f"{value:,.{digits}f}"


def explain(replies: Segments, features: SegmentFeatures, model: Model) -> Explained:
    """Gather what is to be told of a flow.

    Parameters
    ----------
    replies : Segments
        Of all turns of a batch, at scale ``turn``; the batch holds the slices of one flow, at least
        one, in order of time.
    features : SegmentFeatures
    model : Model
    """
    batch, turns, down = replies.batch, replies.turns, replies.down
    p, raw = batch.packets, model.score_turns(features, len(turns))
    results = tabulate(batch, turns, measure(replies), model, raw)
    start = p.time[0]

    def seconds(time: I64) -> F64:
        since: F64 = (time - start) / NANOSECOND
        return since

    # Times are told in seconds here: Python has no type for nanoseconds.
    rows = results.turns.drop_columns(["start"]).to_pylist()
    begin, stop = seconds(p.time[turns.request]), seconds(p.time[turns.reply_last])
    for row, start_s, stop_s in zip(rows, begin.tolist(), stop.tolist(), strict=True):
        number = f"{row['slice']}.{row['turn']}" if len(batch.flows) > 1 else str(row["turn"])
        row |= {"name": number, "start_s": start_s, "stop_s": stop_s}
    moved = attribute(model, features, int(np.nanargmax(raw))) if len(features) else None
    inner = np.flatnonzero(down.chunk_of[1:] == down.chunk_of[:-1]) + 1
    return Explained(
        flow=_one_row(
            results.flows.drop_columns(["start"]).to_pylist(), float(seconds(p.time)[-1])
        ),
        turns=rows,
        time=seconds(p.time),
        size=p.ip_bytes,
        up=p.up,
        gap_time=seconds(down.chunk_time[inner]),
        gap=down.gap / NANOSECOND,
        gap_turn=down.gap_of,
        threshold=model.threshold,
        model_id=model.model_id,
        moved=moved,
        windows=_windows(replies, moved, int(start)) if moved else [],
    )


def _one_row(slices: list[dict[str, Any]], duration: float) -> dict[str, Any]:
    """The slices of a flow as one row."""
    best = max(slices, key=lambda row: -1.0 if row["score"] is None else row["score"])
    counts = [name for name in best if name.startswith(("up_", "down_"))]
    sums = {name: sum(row[name] for row in slices) for name in [*counts, "turns", "stream_seconds"]}
    return best | sums | {"duration_s": duration}


def _windows(replies: Segments, moved: Attribution, start: int) -> list[tuple[str, float, float]]:
    """Where the segments behind a score lie."""
    names, windows = list(SCALES), []
    for number, place in zip(moved.scale, moved.segment, strict=True):
        turn = np.array([moved.turn])
        cut = cut_segments(replies.batch, replies.data, replies.turns, names[number], turn)
        cut = cut.keep(cut.down.chunks >= LEAST_CHUNKS)
        of, time = cut.down.of, (cut.down.time - start) / NANOSECOND
        first, last = time[run_starts(of)][place], time[run_end_mask(of)][place]
        name = "reply" if names[number] == "turn" else f"best {names[number][:-1]} s"
        windows.append((name, float(first), float(last)))
    return windows
