"""The parts of replies: a turn's downlink data cut at silences, and what each part is.

A model may think for minutes within one reply, a page may load on the connection in between, and
heartbeats keep it alive; the reply as a whole shows none of that. Its *episodes* do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import I64, U8, ragged_index, run_counts, run_mask, run_starts
from llmflow.capture.columns import Columns
from llmflow.capture.records import NANOSECOND
from llmflow.flows.batch import FlowBatch
from llmflow.flows.data import Data
from llmflow.flows.turns import Turns

CHUNK_GAP = 5_000_000  # ns; downlink data closer together is one server write (a flush)
EPISODE_SILENCE = 2 * NANOSECOND  # longer silences are not streaming
STEADY_GAP = 7 * NANOSECOND // 10  # between the chunks of a steady run, at most

STREAM_CHUNKS, STREAM_TIME = 8, NANOSECOND  # of the steady run, at least
BULK_PACKETS, BULK_TIME = 8, 10_000  # at least; ns for each byte, less than: 100 kB/s
FULL_PACKET = 1200  # bytes; from here on a packet is full
CONTROL_CHUNKS, CONTROL_PACKET = 3, 200  # at most; bytes, less than


class Kind:
    """What an episode is.

    ``CONTROL``: few small packets. ``BULK``: mostly full packets, fast. ``STREAM``: a steady
    trickle of chunks. ``SHORT``: the rest, very short replies among it. The first that fits counts.
    """

    SHORT, STREAM, BULK, CONTROL = 0, 1, 2, 3
    NAMES = ("short", "stream", "bulk", "control")


@dataclass(frozen=True, slots=True)
class Episodes(Columns):
    """One row per episode, turn by turn, in order of time. Rows of packets are rows of the batch.

    Parameters
    ----------
    turn : ndarray of int64
        Row of its turn.
    row, last : ndarray of int64
        First and last downlink data packet.
    packets, chunks, size : ndarray of int64
        Downlink data packets, chunks, new bytes.
    steady_row, steady_last : ndarray of int64
        First packets of the first and the last chunk of the *steady run*: of the runs of chunks at
        most ``STEADY_GAP`` apart the one that lasts longest (the first of them).
    steady_chunks : ndarray of int64
        Chunks of the steady run.
    kind : ndarray of uint8
        A number of ``Kind``.
    """

    turn: I64
    row: I64
    last: I64
    packets: I64
    chunks: I64
    size: I64
    steady_row: I64
    steady_last: I64
    steady_chunks: I64
    kind: U8


def find_episodes(batch: FlowBatch, data: Data, turns: Turns) -> Episodes:
    """Cut the replies of turns into episodes.

    Returns
    -------
    Episodes
        At least one of each turn.
    """
    counts = turns.reply_last - turns.reply + 1
    inside = ragged_index(turns.reply, counts)
    kept = np.flatnonzero(data.down[inside])
    down, turn = inside[kept], np.repeat(np.arange(len(turns)), counts)[kept]
    time, new = batch.packets.time[down], data.new[down]
    gap = np.diff(time, prepend=time[:1])
    begins = run_mask(turn) | (gap > EPISODE_SILENCE)
    start = np.flatnonzero(begins)
    packets = run_counts(start, len(down))
    last = start + packets - 1
    chunk = np.flatnonzero(begins | (gap > CHUNK_GAP))
    chunk_of = (np.cumsum(begins) - 1)[chunk]
    first_steady, last_steady = _steady_runs(time[chunk], chunk_of)
    steady_row, steady_last = chunk[first_steady], chunk[last_steady]
    chunks = np.bincount(chunk_of, minlength=len(start))
    steady_chunks = last_steady - first_steady + 1

    size = np.add.reduceat(new, start) if len(start) else packets
    full = np.add.reduceat(np.where(new >= FULL_PACKET, new, 0), start) if len(start) else packets
    largest = np.maximum.reduceat(new, start) if len(start) else packets
    fast = size * BULK_TIME > time[last] - time[start]
    is_steady = time[steady_last] - time[steady_row] >= STREAM_TIME
    kind = np.select(
        [
            (chunks <= CONTROL_CHUNKS) & (largest < CONTROL_PACKET),
            (packets >= BULK_PACKETS) & (2 * full >= size) & fast,
            (steady_chunks >= STREAM_CHUNKS) & is_steady,
        ],
        [Kind.CONTROL, Kind.BULK, Kind.STREAM],
        Kind.SHORT,
    ).astype(np.uint8)
    return Episodes(
        turn[start],
        down[start],
        down[last],
        packets,
        chunks,
        size,
        down[steady_row],
        down[steady_last],
        steady_chunks,
        kind,
    )


def _steady_runs(time: I64, of: I64) -> tuple[I64, I64]:
    """The longest steady run of each episode.

    Parameters
    ----------
    time, of : ndarray of int64, shape (chunks,)
        When each chunk begins, ns; its episode.

    Returns
    -------
    first, last : ndarray of int64, shape (episodes,)
        Chunks.
    """
    apart = np.diff(time, prepend=time[:1]) > STEADY_GAP
    first = np.flatnonzero(apart | run_mask(of))
    last = first + run_counts(first, len(time)) - 1
    order = np.lexsort((time[first] - time[last], of[first]))
    best = order[run_starts(of[first][order])]
    return first[best], last[best]
