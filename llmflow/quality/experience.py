"""Experience of each turn, from the times of its downlink chunks alone (docs/definitions.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import F64, row_sums
from llmflow.capture.columns import Columns
from llmflow.features.segments import Segments
from llmflow.flows.batch import NANOSECOND

STALL = NANOSECOND // 2  # a longer gap between chunks is a stall
EPISODE_SILENCE = 2 * NANOSECOND  # longer silences are not streaming
_FOLLOWERS = 3  # chunks that must follow the first token's chunk


@dataclass(frozen=True, slots=True)
class Experience(Columns):
    """One row per turn.

    Parameters
    ----------
    ttft : ndarray of float64
        TTFT*: from the last uplink data of the request to the first chunk that three more follow,
        each within 2 s; s. NaN without a request or without such a chunk. A lower bound where
        other uploads follow the request.
    chunks : ndarray of float64
        Downlink chunks.
    gap_p50 : ndarray of float64
        Median gap between chunks, s; NaN for a single chunk.
    reply_seconds : ndarray of float64
        From the first chunk to the last.
    reply_bytes : ndarray of float64
        New downlink bytes.
    stream_seconds : ndarray of float64
        The reply less its silences longer than 2 s.
    stall_seconds : ndarray of float64
        What the gaps last beyond 0.5 s, summed.
    """

    ttft: F64
    chunks: F64
    gap_p50: F64
    reply_seconds: F64
    reply_bytes: F64
    stream_seconds: F64
    stall_seconds: F64


def measure(replies: Segments) -> Experience:
    """Measure the replies of all turns (segments of scale ``turn``)."""
    down, n = replies.down, len(replies)
    short = np.where(down.gap <= EPISODE_SILENCE, down.gap, 0.0)
    beyond = np.maximum(down.gap - STALL, 0.0)
    return Experience(
        ttft=_first_token(replies) + replies.per_turn(replies.turns.wait),
        chunks=down.chunks,
        gap_p50=down.gap_quantiles[:, 1] / NANOSECOND,
        reply_seconds=down.duration,
        reply_bytes=down.bytes,
        stream_seconds=row_sums(short, down.gap_of, n) / NANOSECOND,
        stall_seconds=row_sums(beyond, down.gap_of, n) / NANOSECOND,
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
