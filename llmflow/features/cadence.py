"""Cadence: when chunks come, how regularly, and how long nothing comes.

No kernel here or in the modules beside uses a transcendental function, so results do not depend
on the machine's maths library.
"""

from __future__ import annotations

import numpy as np

from llmflow.arrays import F64, row_sums, run_starts
from llmflow.capture.records import NANOSECOND
from llmflow.features.registry import feature
from llmflow.features.segments import Segments
from llmflow.features.statistics import LEAST_RELATED, null_below, row_max, spread

_CHUNKS = "downlink chunks"
_NEVER = "never"
_SINGLE = "a single chunk"
_FEW_GAPS = "fewer than 2 gaps"

LONG_GAP = NANOSECOND
PAUSES = NANOSECOND // 2, 2 * NANOSECOND
STEADY_GAP = 7 * NANOSECOND // 10
FLUSH = 180_000_000, 220_000_000  # ns; interfaces flush what has come every 200 ms


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_NEVER)
def chunks(s: Segments) -> F64:
    """Number of chunks."""
    return s.down.chunks


@feature(unit="s", group="cadence", counts=_CHUNKS, null=_NEVER)
def duration(s: Segments) -> F64:
    """Time from the first chunk to the last."""
    return s.down.duration


@feature(unit="1/s", group="cadence", counts=_CHUNKS, null=_SINGLE)
def chunk_rate(s: Segments) -> F64:
    """Gaps divided by duration."""
    return null_below(s.down.gaps / s.down.duration, s.down.gaps, 1)


@feature(unit="s", group="cadence", counts=_CHUNKS, null=_SINGLE)
def gap_p50(s: Segments) -> F64:
    """Median gap between the starts of neighbouring chunks."""
    return s.down.gap_quantiles[:, 1] / NANOSECOND


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_FEW_GAPS)
def gap_p10_ratio(s: Segments) -> F64:
    """10th percentile of the gaps divided by their median."""
    return null_below(s.down.gap_quantiles[:, 0] / s.down.gap_quantiles[:, 1], s.down.gaps, 2)


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_FEW_GAPS)
def gap_p90_ratio(s: Segments) -> F64:
    """90th percentile of the gaps divided by their median."""
    return null_below(s.down.gap_quantiles[:, 2] / s.down.gap_quantiles[:, 1], s.down.gaps, 2)


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_FEW_GAPS)
def gap_cv(s: Segments) -> F64:
    """Standard deviation of the gaps divided by their mean."""
    number, mean, deviation = spread(s.down.gap, s.down.gap_of, len(s))
    return null_below(deviation / mean, number, 2)


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_FEW_GAPS)
def gap_steady_share(s: Segments) -> F64:
    """Share of the gaps within 0.5 to 2 times their median."""
    gap, median = s.down.gap, s.down.gap_quantiles[s.down.gap_of, 1]
    steady = (2 * gap >= median) & (gap <= 2 * median)
    return null_below(row_sums(steady, s.down.gap_of, len(s)) / s.down.gaps, s.down.gaps, 2)


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_FEW_GAPS)
def gap_clock_share(s: Segments) -> F64:
    """Share of the gaps within 10 % of their median: high where a clock drives the sender."""
    gap, median = s.down.gap, s.down.gap_quantiles[s.down.gap_of, 1]
    ticking = 10 * np.abs(gap - median) <= median
    return null_below(row_sums(ticking, s.down.gap_of, len(s)) / s.down.gaps, s.down.gaps, 2)


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_SINGLE)
def gap_max_share(s: Segments) -> F64:
    """Longest gap divided by the duration."""
    return s.down.gap_quantiles[:, 3] / NANOSECOND / s.down.duration


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_SINGLE)
def gap_long_share(s: Segments) -> F64:
    """Share of the duration that lies in gaps longer than 1 s."""
    long = np.where(s.down.gap > LONG_GAP, s.down.gap, 0.0)
    seconds = row_sums(long, s.down.gap_of, len(s)) / NANOSECOND
    return null_below(seconds / s.down.duration, s.down.gaps, 1)


@feature(unit="1", group="cadence", counts=_CHUNKS, null="fewer than 3 gaps or all equal")
def gap_lag1(s: Segments) -> F64:
    """Correlation of each gap with the next one (lag-1 autocorrelation)."""
    of, gap = s.down.gap_of, s.down.gap
    number, mean, deviation = spread(gap, of, len(s))
    around = gap - mean[of]
    neighbours = of[1:] == of[:-1]
    products = row_sums((around[1:] * around[:-1])[neighbours], of[1:][neighbours], len(s))
    return np.where(
        (number >= LEAST_RELATED) & (deviation > 0), products / (number * deviation**2), np.nan
    )


@feature(unit="1", group="clock", counts=_CHUNKS, null=_FEW_GAPS)
def gap_local_variation(s: Segments) -> F64:
    """Mean of ((a - b) / (a + b))^2 over neighbouring gaps a and b: 0 for a metronome."""
    of, gap = s.down.gap_of, s.down.gap
    neighbours = of[1:] == of[:-1]
    change = ((gap[1:] - gap[:-1]) / (gap[1:] + gap[:-1]))[neighbours]
    pairs = s.down.gaps - 1
    return null_below(row_sums(change * change, of[1:][neighbours], len(s)) / pairs, pairs, 1)


@feature(unit="1", group="clock", counts=_CHUNKS, null=_FEW_GAPS)
def gap_multiple_share(s: Segments) -> F64:
    """Share of the gaps within 0.1 median gaps of a whole multiple of it: ticks, some left out."""
    gap, median = s.down.gap, s.down.gap_quantiles[s.down.gap_of, 1]
    times = np.maximum(np.rint(gap / median), 1.0)
    ticking = 10 * np.abs(gap - times * median) <= median
    return null_below(row_sums(ticking, s.down.gap_of, len(s)) / s.down.gaps, s.down.gaps, 2)


@feature(unit="1", group="clock", counts=_CHUNKS, null=_SINGLE)
def gap_200ms_share(s: Segments) -> F64:
    """Share of the gaps from 180 to 220 ms: interfaces that flush on a clock."""
    flush = (s.down.gap >= FLUSH[0]) & (s.down.gap <= FLUSH[1])
    return row_sums(flush, s.down.gap_of, len(s)) / s.down.gaps


@feature(unit="1", group="pauses", counts=_CHUNKS, null=_SINGLE)
def gap_500ms_share(s: Segments) -> F64:
    """Share of the duration that lies in gaps longer than 0.5 s."""
    return _paused(s, PAUSES[0])


@feature(unit="1", group="pauses", counts=_CHUNKS, null=_SINGLE)
def gap_2s_share(s: Segments) -> F64:
    """Share of the duration that lies in gaps longer than 2 s."""
    return _paused(s, PAUSES[1])


def _paused(s: Segments, pause: int) -> F64:
    long = np.where(s.down.gap > pause, s.down.gap, 0.0)
    return row_sums(long, s.down.gap_of, len(s)) / NANOSECOND / s.down.duration


@feature(unit="1", group="pauses", counts=_CHUNKS, null=_SINGLE)
def steady_run_share(s: Segments) -> F64:
    """Share of the duration that the longest run of gaps of at most 0.7 s takes."""
    steady = s.down.gap <= STEADY_GAP
    first = run_starts(s.down.gap_of, steady)
    run = np.repeat(np.arange(len(first)), np.diff(first, append=len(steady)))
    length = row_sums(np.where(steady, s.down.gap, 0.0), run, len(first))
    return row_max(length, s.down.gap_of[first], len(s)) / NANOSECOND / s.down.duration
