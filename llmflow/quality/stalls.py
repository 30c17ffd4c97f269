"""Stalls of each reply, and how much of them the network caused (docs/definitions.md).

Stall ratios follow the wording of Eloquent (arXiv 2401.12961): the proportion of token rendering
wait time. Thresholds, attribution and the counterfactual are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import F64, I64, Bool, row_quantiles, row_sums, run_end_mask, sort_in_rows
from llmflow.capture.columns import Columns
from llmflow.capture.records import NANOSECOND
from llmflow.flows.episodes import CHUNK_GAP
from llmflow.quality.delivery import Delivery

STALL = NANOSECOND // 2  # a longer silence is a stall
THRESHOLDS = (NANOSECOND // 5, STALL, NANOSECOND)
DEVIATIONS = 6  # of the adaptive threshold, above the median
LEAST_SILENCES = 7  # fewer say nothing of what is usual: those of a reply of 8 chunks


@dataclass(frozen=True, slots=True)
class Stalls(Columns):
    """One row per reply. Silences longer than 5 ms between packets as they are rendered count.

    Parameters
    ----------
    seconds : ndarray of float64
        What the silences last beyond 0.5 s, summed.
    ratio_200ms, ratio_500ms, ratio_1s : ndarray of float64
        The same beyond 0.2, 0.5 and 1 s, as a part of the time from the first rendered packet to
        the last; NaN if that is 0.
    threshold : ndarray of float64
        Adaptive threshold: the larger of 0.5 s and median + 6 MAD of the silences, s; NaN below 7
        silences.
    ratio_adaptive : ndarray of float64
        The ratio beyond that threshold, NaN with it.
    count : ndarray of float64
        Silences longer than 0.5 s.
    p50, p95, longest : ndarray of float64
        Median, 95th percentile and maximum of their lengths, s; NaN if there are none.
    network : ndarray of float64
        Part of ``seconds`` in which arrived bytes waited for a loss in front of them. NaN where
        losses cannot be seen (not TCP, or one direction only).
    server : ndarray of float64
        The rest of ``seconds``; NaN with ``network``.
    avoidable : ndarray of float64
        Part of ``seconds`` that would not have been, had each packet carried what the one before
        it did; NaN with ``network``.
    hol_ratio : ndarray of float64
        Time in which arrived bytes waited, as a part of the time from the first rendered packet to
        the last; NaN if that is 0, and with ``network``.
    """

    seconds: F64
    ratio_200ms: F64
    ratio_500ms: F64
    ratio_1s: F64
    threshold: F64
    ratio_adaptive: F64
    count: F64
    p50: F64
    p95: F64
    longest: F64
    network: F64
    server: F64
    avoidable: F64
    hol_ratio: F64


def measure_stalls(delivery: Delivery) -> Stalls:
    """Measure the stalls of all replies; each has a packet."""
    of, n = delivery.of, len(delivery.known)
    same = of[1:] == of[:-1]
    at, silence = _silences(delivery.rendered, same)
    row = of[at]
    first = np.append(True, ~same)[: len(of)]
    span = (delivery.rendered[run_end_mask(of)] - delivery.rendered[first]).astype(np.float64)
    span[span == 0] = np.nan

    beyond = [row_sums(np.maximum(silence - theta, 0), row, n) for theta in THRESHOLDS]
    total = beyond[THRESHOLDS.index(STALL)]
    ordered = sort_in_rows(silence, row)
    theta = _adaptive(silence, ordered, row, n)
    above = np.nan_to_num(np.maximum(silence - theta[row], 0))
    long = ordered > STALL
    count = row_sums(long, row, n)
    lengths = row_quantiles(ordered[long], count.astype(np.int64), (0.5, 0.95, 1.0))

    known = np.where(delivery.known, 1.0, np.nan)
    network = row_sums(_waiting(delivery, at), row, n) * known
    other, shorter = _silences(delivery.repaired, same)
    repaired = row_sums(np.maximum(shorter - STALL, 0), of[other], n)
    return Stalls(
        total / NANOSECOND,
        ratio_200ms=beyond[0] / span,
        ratio_500ms=total / span,
        ratio_1s=beyond[2] / span,
        threshold=theta / NANOSECOND,
        ratio_adaptive=np.where(np.isnan(theta), np.nan, row_sums(above, row, n) / span),
        count=count,
        p50=lengths[:, 0] / NANOSECOND,
        p95=lengths[:, 1] / NANOSECOND,
        longest=lengths[:, 2] / NANOSECOND,
        network=network / NANOSECOND,
        server=(total - network) / NANOSECOND,
        avoidable=np.maximum(total - repaired, 0) * known / NANOSECOND,
        hol_ratio=_blocked(delivery, n) * known / span,
    )


def _silences(time: I64, same: Bool) -> tuple[I64, I64]:
    """The silences inside replies: the packet that ends each, and how long it is, ns."""
    gap = np.diff(time)
    before = np.flatnonzero(same & (gap > CHUNK_GAP))
    return before + 1, gap[before]


def _adaptive(silence: I64, ordered: I64, row: I64, n: int) -> F64:
    """The larger of 0.5 s and median + 6 MAD of the silences, ns; NaN where they are few."""
    counts: I64 = np.bincount(row, minlength=n)
    median = row_quantiles(ordered, counts, (0.5,))[:, 0]
    # Medians of whole numbers are multiples of a half.
    off = np.abs(2 * silence - (2 * median[row]).astype(np.int64))
    deviation = row_quantiles(sort_in_rows(off, row), counts, (0.5,))[:, 0] / 2
    theta = np.maximum(STALL, median + DEVIATIONS * deviation)
    return np.where(counts >= LEAST_SILENCES, theta, np.nan)


def _waiting(delivery: Delivery, at: I64) -> I64:
    """How long, of each stall, the packet that ends it had arrived; it is the first to wait."""
    since = np.maximum(delivery.rendered[at - 1] + STALL, delivery.arrived[at])
    part: I64 = np.maximum(delivery.rendered[at] - since, 0)
    return part


def _blocked(delivery: Delivery, n: int) -> F64:
    """Time in which any packet of the reply waited, ns.

    Arrival and rendering both ascend, so each packet adds what lies behind the one before it.
    """
    late = np.flatnonzero(delivery.rendered > delivery.arrived)
    before = np.maximum(late - 1, 0)
    follows = (late > 0) & (delivery.of[before] == delivery.of[late])
    since = np.where(follows, delivery.rendered[before], 0)
    waited = delivery.rendered[late] - np.maximum(delivery.arrived[late], since)
    return row_sums(np.maximum(waited, 0), delivery.of[late], n)
