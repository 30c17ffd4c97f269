"""Waits and gaps of each reply, from the times of its chunks at the tap (docs/definitions.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import F64, row_quantiles, row_sums, sort_in_rows
from llmflow.capture.columns import Columns
from llmflow.capture.records import NANOSECOND
from llmflow.features.segments import Segments
from llmflow.flows.episodes import EPISODE_SILENCE

_FOLLOWERS = 3  # chunks that must follow the first token's chunk


@dataclass(frozen=True, slots=True)
class Cadence(Columns):
    """One row per reply.

    Parameters
    ----------
    ttfb : ndarray of float64
        TTFB*: from the last uplink data of the request to the first downlink data, s. NaN without a
        request. A lower bound where other uploads follow the request.
    ttft : ndarray of float64
        TTFT*: the same to the first chunk that three more follow, each within 2 s. NaN also
        without such a chunk.
    chunks : ndarray of float64
        Downlink chunks.
    gap_p50, gap_p95, gap_max : ndarray of float64
        Median, 95th percentile and maximum of the gaps between chunks, s; NaN for a single chunk.
    reply_seconds : ndarray of float64
        From the first chunk to the last.
    reply_bytes : ndarray of float64
        New downlink bytes.
    stream_seconds : ndarray of float64
        The reply less its silences longer than 2 s.
    """

    ttfb: F64
    ttft: F64
    chunks: F64
    gap_p50: F64
    gap_p95: F64
    gap_max: F64
    reply_seconds: F64
    reply_bytes: F64
    stream_seconds: F64


def measure_cadence(replies: Segments) -> Cadence:
    """Measure waits and gaps."""
    down, n = replies.down, len(replies)
    short = np.where(down.gap <= EPISODE_SILENCE, down.gap, 0.0)
    wait = replies.per_turn(replies.turns.wait)
    ordered = sort_in_rows(down.gap.astype(np.int64), down.gap_of)
    gaps = row_quantiles(ordered, down.gaps.astype(np.int64), (0.5, 0.95, 1.0)) / NANOSECOND
    return Cadence(
        ttfb=wait,
        ttft=_first_token(replies) + wait,
        chunks=down.chunks,
        gap_p50=gaps[:, 0],
        gap_p95=gaps[:, 1],
        gap_max=gaps[:, 2],
        reply_seconds=down.duration,
        reply_bytes=down.bytes,
        stream_seconds=row_sums(short, down.gap_of, n) / NANOSECOND,
    )


def _first_token(replies: Segments) -> F64:
    """Seconds into the reply of its first chunk with three followers; NaN where there is none."""
    time, of = replies.down.chunk_time, replies.down.chunk_of
    followed = np.zeros(len(of), np.bool_)
    last = len(of) - _FOLLOWERS
    if last > 0:
        followed[:last] = of[:last] == of[_FOLLOWERS:]
        for step in range(_FOLLOWERS):
            ahead = time[step + 1 : last + step + 1] - time[step : last + step]
            followed[:last] &= ahead <= EPISODE_SILENCE
    start = replies.batch.packets.time[replies.turns.reply]
    out = np.full(len(replies), np.inf)
    np.minimum.at(out, of[followed], (time - start[of])[followed] / NANOSECOND)
    return np.where(np.isfinite(out), out, np.nan)
