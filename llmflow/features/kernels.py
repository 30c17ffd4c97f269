"""The feature definitions: one short numpy kernel each, over all segments at once.

Only size, time and direction enter, and only relative to the segment: no address, port, name,
TTL, sequence number or absolute time. No kernel uses a transcendental function, so results do not
depend on the machine's maths library.
"""

from __future__ import annotations

import numpy as np

from llmflow.arrays import F64, I64, row_sums, run_counts, run_starts
from llmflow.features.registry import feature
from llmflow.features.segments import Segments
from llmflow.flows.batch import NANOSECOND

_DOWN = "downlink packets with new data"
_CHUNKS = "downlink chunks"
_UP = "uplink packets"
_NEVER = "never"
_FEW_GAPS = "fewer than 2 gaps"
_ONE_WAY = "the flow shows no uplink packet"

FULL_PACKET, SMALL_PACKET = 1200, 400  # bytes of payload
LONG_GAP = NANOSECOND
LEAST_RELATED = 3  # values that a correlation needs


def _spread(values: F64, rows: I64, count: int) -> tuple[F64, F64, F64]:
    """(number, mean, standard deviation) of each row."""
    number = np.bincount(rows, minlength=count).astype(np.float64)
    mean = row_sums(values, rows, count) / number
    variance = row_sums((values - mean[rows]) ** 2, rows, count) / number
    return number, mean, np.sqrt(variance)


def _null_below(values: F64, number: F64, least: int) -> F64:
    return np.where(number >= least, values, np.nan)


def _two_way(s: Segments, values: F64) -> F64:
    return np.where(s.two_way, values, np.nan)


# -- cadence -------------------------------------------------------------------------------------


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_NEVER)
def chunks(s: Segments) -> F64:
    """Number of chunks."""
    return s.down.chunks


@feature(unit="s", group="cadence", counts=_CHUNKS, null=_NEVER)
def duration(s: Segments) -> F64:
    """Time from the first chunk to the last."""
    return s.down.duration


@feature(unit="1/s", group="cadence", counts=_CHUNKS, null="a single chunk")
def chunk_rate(s: Segments) -> F64:
    """Gaps divided by duration."""
    return _null_below(s.down.gaps / s.down.duration, s.down.gaps, 1)


@feature(unit="s", group="cadence", counts=_CHUNKS, null="a single chunk")
def gap_p50(s: Segments) -> F64:
    """Median gap between the starts of neighbouring chunks."""
    return s.down.gap_quantiles[:, 1] / NANOSECOND


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_FEW_GAPS)
def gap_p10_ratio(s: Segments) -> F64:
    """10th percentile of the gaps divided by their median."""
    return _null_below(s.down.gap_quantiles[:, 0] / s.down.gap_quantiles[:, 1], s.down.gaps, 2)


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_FEW_GAPS)
def gap_p90_ratio(s: Segments) -> F64:
    """90th percentile of the gaps divided by their median."""
    return _null_below(s.down.gap_quantiles[:, 2] / s.down.gap_quantiles[:, 1], s.down.gaps, 2)


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_FEW_GAPS)
def gap_cv(s: Segments) -> F64:
    """Standard deviation of the gaps divided by their mean."""
    number, mean, deviation = _spread(s.down.gap, s.down.gap_of, len(s))
    return _null_below(deviation / mean, number, 2)


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_FEW_GAPS)
def gap_steady_share(s: Segments) -> F64:
    """Share of the gaps within 0.5 to 2 times their median."""
    gap, median = s.down.gap, s.down.gap_quantiles[s.down.gap_of, 1]
    steady = (2 * gap >= median) & (gap <= 2 * median)
    return _null_below(row_sums(steady, s.down.gap_of, len(s)) / s.down.gaps, s.down.gaps, 2)


@feature(unit="1", group="cadence", counts=_CHUNKS, null=_FEW_GAPS)
def gap_clock_share(s: Segments) -> F64:
    """Share of the gaps within 10 % of their median: high where a clock drives the sender."""
    gap, median = s.down.gap, s.down.gap_quantiles[s.down.gap_of, 1]
    ticking = 10 * np.abs(gap - median) <= median
    return _null_below(row_sums(ticking, s.down.gap_of, len(s)) / s.down.gaps, s.down.gaps, 2)


@feature(unit="1", group="cadence", counts=_CHUNKS, null="a single chunk")
def gap_max_share(s: Segments) -> F64:
    """Longest gap divided by the duration."""
    return s.down.gap_quantiles[:, 3] / NANOSECOND / s.down.duration


@feature(unit="1", group="cadence", counts=_CHUNKS, null="a single chunk")
def gap_long_share(s: Segments) -> F64:
    """Share of the duration that lies in gaps longer than 1 s."""
    long = np.where(s.down.gap > LONG_GAP, s.down.gap, 0.0)
    seconds = row_sums(long, s.down.gap_of, len(s)) / NANOSECOND
    return _null_below(seconds / s.down.duration, s.down.gaps, 1)


@feature(unit="1", group="cadence", counts=_CHUNKS, null="fewer than 3 gaps or all equal")
def gap_lag1(s: Segments) -> F64:
    """Correlation of each gap with the next one (lag-1 autocorrelation)."""
    of, gap = s.down.gap_of, s.down.gap
    number, mean, deviation = _spread(gap, of, len(s))
    around = gap - mean[of]
    neighbours = of[1:] == of[:-1]
    products = row_sums((around[1:] * around[:-1])[neighbours], of[1:][neighbours], len(s))
    return np.where(
        (number >= LEAST_RELATED) & (deviation > 0), products / (number * deviation**2), np.nan
    )


# -- size ----------------------------------------------------------------------------------------


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
    _, mean, deviation = _spread(s.down.chunk_size, s.down.chunk_of, len(s))
    return deviation / mean


@feature(unit="1", group="size", counts=_CHUNKS, null=_NEVER)
def chunk_size_mode_share(s: Segments) -> F64:
    """Share of the chunks that have the most frequent size: high under constant padding."""
    of, size = s.down.chunk_of, s.down.chunk_size[s.down.size_order]
    first = run_starts(of, size)
    most = np.zeros(len(s))
    np.maximum.at(most, of[first], run_counts(first, len(of)))
    return most / s.down.chunks


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
    _, mean, rank_deviation = _spread(rank, of, len(s))
    number, middle, deviation = _spread(position.astype(np.float64), of, len(s))
    products = row_sums((rank - mean[of]) * (position - middle[of]), of, len(s))
    return np.where(
        (number >= LEAST_RELATED) & (rank_deviation > 0),
        products / (number * rank_deviation * deviation),
        np.nan,
    )


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


@feature(unit="bytes/s", group="size", counts=_DOWN, null="a single chunk")
def down_byte_rate(s: Segments) -> F64:
    """New downlink bytes divided by the duration."""
    return _null_below(s.down.bytes / s.down.duration, s.down.gaps, 1)


# -- what the uplink does meanwhile --------------------------------------------------------------


@feature(unit="1", group="uplink", counts="all packets", null=_ONE_WAY)
def up_packet_share(s: Segments) -> F64:
    """Uplink packets divided by uplink packets and downlink data packets."""
    return _two_way(s, s.up.packets / (s.up.packets + s.down.packets))


@feature(unit="1", group="uplink", counts="packets with new data", null=_ONE_WAY)
def up_payload_share(s: Segments) -> F64:
    """New uplink bytes divided by new bytes both ways."""
    return _two_way(s, s.up.bytes / (s.up.bytes + s.down.bytes))


@feature(unit="1", group="uplink", counts="packets with new data", null=_ONE_WAY)
def up_data_per_chunk(s: Segments) -> F64:
    """Uplink data packets divided by downlink chunks."""
    return _two_way(s, s.up.data / s.down.chunks)


@feature(unit="1", group="uplink", counts=_UP, null=_ONE_WAY + ", or none in the segment")
def up_ack_share(s: Segments) -> F64:
    """Share of the uplink packets that only acknowledge."""
    return _two_way(s, row_sums(s.up.ack, s.up.of, len(s)) / s.up.packets)


@feature(unit="1", group="uplink", counts=_UP, null=_ONE_WAY)
def acks_per_packet(s: Segments) -> F64:
    """Uplink packets that only acknowledge, divided by downlink data packets."""
    return _two_way(s, row_sums(s.up.ack, s.up.of, len(s)) / s.down.packets)


@feature(unit="bytes/s", group="uplink", counts=_UP, null=_ONE_WAY + ", or a single chunk")
def up_byte_rate(s: Segments) -> F64:
    """New uplink bytes divided by the duration."""
    return _two_way(s, _null_below(s.up.bytes / s.down.duration, s.down.gaps, 1))


@feature(unit="1/s", group="uplink", counts=_UP, null=_ONE_WAY + ", or a single chunk")
def up_data_rate(s: Segments) -> F64:
    """Uplink data packets divided by the duration."""
    return _two_way(s, _null_below(s.up.data / s.down.duration, s.down.gaps, 1))


@feature(unit="1", group="uplink", counts="packets with new data", null=_ONE_WAY)
def answer_share(s: Segments) -> F64:
    """Downlink data right behind uplink data (an echo, a call's answer), per chunk."""
    return _two_way(s, s.answers / s.down.chunks)


@feature(unit="1", group="uplink", counts=_UP, null=_ONE_WAY + ", or no uplink data")
def up_full_share(s: Segments) -> F64:
    """Share of the uplink data packets with at least 1,200 new bytes: uploads, not keystrokes."""
    return _two_way(s, row_sums(s.up.size >= FULL_PACKET, s.up.of, len(s)) / s.up.data)


# -- the request in front of the reply -----------------------------------------------------------


@feature(unit="bytes", group="request", counts=_UP, null="no request was seen")
def request_bytes(s: Segments) -> F64:
    """New uplink bytes from the turn's request up to its first downlink data."""
    return s.per_turn(s.turns.request_bytes)


@feature(unit="s", group="request", counts="packets with new data", null="no request was seen")
def wait(s: Segments) -> F64:
    """Time from the last uplink data in front of the reply to the first downlink data."""
    return s.per_turn(s.turns.wait)
