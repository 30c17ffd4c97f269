"""Sizes: how large chunks and packets are, how few sizes there are, and how they grow."""

from __future__ import annotations

import numpy as np

from llmflow.arrays import F64, row_sums, run_counts, run_starts
from llmflow.features.registry import feature
from llmflow.features.segments import Segments
from llmflow.features.statistics import correlation, null_below, spread

_DOWN = "downlink packets with new data"
_CHUNKS = "downlink chunks"
_NEVER = "never"
_SINGLE = "a single chunk"

FULL_PACKET, SMALL_PACKET = 1200, 400  # bytes of payload
LEAST_STEP = 16  # bytes; every size lies on a finer ladder


@feature(unit="bytes", group="size", counts=_CHUNKS, null=_NEVER)
def chunk_size_p50(s: Segments) -> F64:
    """Median chunk size."""
    return s.down.size_quantiles[:, 1]


@feature(unit="1", group="size", counts=_CHUNKS, null=_NEVER)
def chunk_size_p10_ratio(s: Segments) -> F64:
    """10th percentile of the chunk sizes divided by their median."""
    return s.down.size_quantiles[:, 0] / s.down.size_quantiles[:, 1]


@feature(unit="1", group="size", counts=_CHUNKS, null=_NEVER)
def chunk_size_p90_ratio(s: Segments) -> F64:
    """90th percentile of the chunk sizes divided by their median."""
    return s.down.size_quantiles[:, 2] / s.down.size_quantiles[:, 1]


@feature(unit="1", group="size", counts=_CHUNKS, null=_NEVER)
def chunk_size_cv(s: Segments) -> F64:
    """Standard deviation of the chunk sizes divided by their mean."""
    _, mean, deviation = spread(s.down.chunk_size, s.down.chunk_of, len(s))
    return deviation / mean


@feature(unit="1", group="size", counts=_CHUNKS, null=_NEVER)
def chunk_size_mode_share(s: Segments) -> F64:
    """Share of the chunks that have the most frequent size: high under constant padding."""
    return s.down.chunk_sizes.most / s.down.chunks


@feature(unit="1", group="size", counts=_CHUNKS, null="fewer than 3 chunks or all of one size")
def chunk_size_growth(s: Segments) -> F64:
    """Spearman rank correlation of chunk size and position: +1 where every chunk is larger."""
    of, size, n = s.down.chunk_of, s.down.chunk_size, len(s.down.chunk_of)
    starts = run_starts(of)
    counts = run_counts(starts, n)
    position = np.arange(n) - np.repeat(starts, counts)
    # Average ranks: equal sizes share the mean of the places they take.
    order = s.down.size_order
    first = run_starts(of, size[order])
    ties = run_counts(first, n)
    rank = np.empty(n)
    rank[order] = np.repeat(first + (ties - 1) / 2, ties) - np.repeat(starts, counts)
    return correlation(rank, position.astype(np.float64), of, len(s))


@feature(unit="1", group="size", counts=_DOWN, null=_NEVER)
def packets_per_chunk(s: Segments) -> F64:
    """Downlink data packets divided by chunks."""
    return s.down.packets / s.down.chunks


@feature(unit="1", group="size", counts=_DOWN, null=_NEVER)
def full_packet_share(s: Segments) -> F64:
    """Share of the downlink data packets with at least 1,200 new bytes."""
    return row_sums(s.down.size >= FULL_PACKET, s.down.of, len(s)) / s.down.packets


@feature(unit="1", group="size", counts=_DOWN, null=_NEVER)
def small_packet_share(s: Segments) -> F64:
    """Share of the downlink data packets with fewer than 400 new bytes."""
    return row_sums(s.down.size < SMALL_PACKET, s.down.of, len(s)) / s.down.packets


@feature(unit="bytes/s", group="size", counts=_DOWN, null=_SINGLE)
def down_byte_rate(s: Segments) -> F64:
    """New downlink bytes divided by the duration."""
    return null_below(s.down.bytes / s.down.duration, s.down.gaps, 1)


@feature(unit="1", group="size", counts=_CHUNKS, null=_SINGLE)
def chunk_size_rise_share(s: Segments) -> F64:
    """Share of the chunks, but the first, that are larger than the one before."""
    of, size = s.down.chunk_of, s.down.chunk_size
    rises = (of[1:] == of[:-1]) & (size[1:] > size[:-1])
    return row_sums(rises, of[1:], len(s)) / s.down.gaps


@feature(unit="1", group="size", counts=_CHUNKS, null="fewer than 3 gaps, all equal or one size")
def gap_size_correlation(s: Segments) -> F64:
    """Correlation of gap and size of the chunk that ends it: + where tokens wait for a flush."""
    return correlation(s.down.gap, s.down.size_behind_gap, s.down.gap_of, len(s))


@feature(unit="1", group="padding", counts=_CHUNKS, null=_SINGLE)
def chunk_size_repeat(s: Segments) -> F64:
    """Chance that two of the chunks have the same size (Simpson's index)."""
    n = s.down.chunks
    return null_below(s.down.chunk_sizes.pairs / (n * (n - 1)), n, 2)


@feature(unit="1", group="padding", counts=_CHUNKS, null=_NEVER)
def chunk_size_distinct(s: Segments) -> F64:
    """Distinct chunk sizes divided by chunks."""
    return s.down.chunk_sizes.distinct / s.down.chunks


@feature(unit="1", group="padding", counts=_DOWN, null=_NEVER)
def size_mod8_share(s: Segments) -> F64:
    """Share of the packet sizes with the most frequent remainder by 8: high under padding."""
    return _remainder_share(s, 8)


@feature(unit="1", group="padding", counts=_DOWN, null=_NEVER)
def size_mod16_share(s: Segments) -> F64:
    """Share of the packet sizes with the most frequent remainder by 16."""
    return _remainder_share(s, 16)


def _remainder_share(s: Segments, by: int) -> F64:
    times = np.bincount(s.down.of * by + s.down.size % by, minlength=len(s) * by)
    share: F64 = times.reshape(-1, by).max(axis=1) / s.down.packets
    return share


@feature(unit="1", group="padding", counts=_DOWN, null="a single packet")
def packet_size_repeat(s: Segments) -> F64:
    """Chance that two of the downlink data packets have the same size (Simpson's index)."""
    n = s.down.packets
    return null_below(s.down.packet_sizes.pairs / (n * (n - 1)), n, 2)


@feature(unit="1", group="padding", counts=_DOWN, null="all of one size")
def packet_size_two_share(s: Segments) -> F64:
    """Share of the downlink data packets that have one of the two most frequent sizes."""
    tally = s.down.packet_sizes
    row, first, second = tally.leaders
    out = np.full(len(s), np.nan)
    out[row] = (tally.times[first] + tally.times[second]) / s.down.packets[row]
    return out


@feature(unit="1", group="padding", counts=_DOWN, null="top two under 16 bytes apart")
def packet_size_ladder_share(s: Segments) -> F64:
    """Share of the sizes whole steps from the most frequent; a step: from it to the second."""
    tally = s.down.packet_sizes
    row, first, second = tally.leaders
    step, base = np.zeros((2, len(s)), np.int64)
    step[row] = np.abs(tally.value[first] - tally.value[second])
    base[row] = tally.value[first]
    coarse = step >= LEAST_STEP
    of = tally.of
    on = (tally.value - base[of]) % np.where(coarse, step, 1)[of] == 0
    share = row_sums(np.where(on, tally.times, 0), of, len(s)) / s.down.packets
    return np.where(coarse, share, np.nan)
