"""Quality of one reply once more, from the definitions, in plain Python: slow and obvious."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SECOND = 1_000_000_000
WRITE = 5_000_000  # ns; silences longer than this lie between writes
NAN = math.nan


class Piece(NamedTuple):
    """A downlink data packet of a reply; times in ns."""

    arrived: int
    early: int  # delivered, without what was lost behind the tap
    late: int  # delivered, with it
    size: int


def silences(times: Sequence[int]) -> list[int]:
    """What lies between writes."""
    return [b - a for a, b in itertools.pairwise(times) if b - a > WRITE]


def with_redundancy(pieces: Sequence[Piece]) -> list[int]:
    """When each packet could be shown if the next one to arrive brought what was lost."""
    lost = [
        piece.late > piece.early and (i == 0 or piece.late > pieces[i - 1].late)
        for i, piece in enumerate(pieces)
    ]
    out = []
    for i, piece in enumerate(pieces):
        later = [p.arrived for p, gone in zip(pieces[i:], lost[i:], strict=True) if not gone]
        out.append(min([piece.late, *later[:1]]) if lost[i] else piece.arrived)
    return out


def covered(intervals: Sequence[tuple[int, int]], low: int, high: int) -> int:
    """How much of ``low`` to ``high`` the union of some intervals covers."""
    edges = sorted({low, high, *(e for pair in intervals for e in pair if low < e < high)})
    return sum(
        b - a
        for a, b in itertools.pairwise(edges)
        if any(begin <= a and b <= end for begin, end in intervals)
    )


def stalls(pieces: Sequence[Piece], *, known: bool) -> dict[str, float]:
    """The columns of ``Stalls``."""
    times = [piece.late for piece in pieces]
    gaps, span = silences(times), times[-1] - times[0]

    def beyond(theta: float, of: Sequence[int] = gaps) -> float:
        return sum(max(0, gap - theta) for gap in of)

    def part(value: float) -> float:
        return value / span if span else NAN

    theta = NAN
    if len(gaps) >= 7:
        median = statistics.median(gaps)
        theta = max(SECOND / 2, median + 6 * statistics.median(abs(g - median) for g in gaps))
    long = [gap / SECOND for gap in gaps if gap > SECOND / 2]
    waits = [(piece.arrived, piece.late) for piece in pieces if piece.late > piece.arrived]
    network = sum(
        covered(waits, a + SECOND // 2, b)
        for a, b in itertools.pairwise(times)
        if b - a > SECOND / 2
    )
    total = beyond(SECOND / 2)
    blocked = covered(waits, min(p.arrived for p in pieces), times[-1]) if waits else 0
    repaired = beyond(SECOND / 2, silences(with_redundancy(pieces)))
    return {
        "seconds": total / SECOND,
        "ratio_200ms": part(beyond(SECOND / 5)),
        "ratio_500ms": part(total),
        "ratio_1s": part(beyond(SECOND)),
        "threshold": theta / SECOND,
        "ratio_adaptive": NAN if math.isnan(theta) else part(beyond(theta)),
        "count": len(long),
        "p50": statistics.median(long) if long else NAN,
        "p95": float(np.percentile(long, 95)) if long else NAN,
        "longest": max(long, default=NAN),
        "network": network / SECOND if known else NAN,
        "server": (total - network) / SECOND if known else NAN,
        "avoidable": max(0, total - repaired) / SECOND if known else NAN,
        "hol_ratio": part(blocked) if known else NAN,
    }


def reading(arrivals: Sequence[tuple[float, int]], asked: float, pace: float) -> dict[str, float]:
    """Rebuffering and QoE, token by token: (seconds after the first, tokens that come at once)."""
    tokens = [came for came, count in arrivals for _ in range(count)]
    if len(tokens) <= 1:
        return {"rebuffer": NAN, "qoe": NAN}
    consumed: list[float] = []
    rebuffer = 0.0
    for came in tokens:
        wanted = consumed[-1] + 1 / pace if consumed else came
        consumed.append(max(came, wanted))
        rebuffer += max(0.0, came - wanted)
    ideal = [1 + j / pace for j in range(len(tokens))]  # seconds after the request
    actual = [asked + at for at in consumed]
    late = sum(max(0.0, a - i) for a, i in zip(actual, ideal, strict=True))
    return {"rebuffer": rebuffer, "qoe": 1 - late / sum(actual)}
