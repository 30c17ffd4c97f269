"""Sequence numbers on a line: no wraps, and the packets of each direction side by side (RFC 9293).

A *direction* is one of the two halves of a flow, number ``2 * flow`` for uplink and one more for
downlink. A *run* is what is counted with one initial sequence number: a direction, cut where a SYN
brings another one (a port that was used again).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import I64, U32, Bool, ragged_index, run_counts
from llmflow.flows.batch import FlowBatch


@dataclass(frozen=True, slots=True)
class Line:
    """Segments on one line of int64, run behind run and never touching.

    Parameters
    ----------
    begin, end : ndarray of int64
        First sequence number of each segment, and the one behind its last.
    highest : ndarray of int64
        Largest ``end`` of the run up to and with the segment; ascends over all runs.
    before : ndarray of int64
        Largest ``end`` of the run in front of the segment, its own ``begin`` if it is the first:
        the *next expected sequence number*.
    run : ndarray of int64
        Number of the segment's run.
    starts : ndarray of int64, shape (runs,)
        Where the runs begin.
    """

    begin: I64
    end: I64
    highest: I64
    before: I64
    run: I64
    starts: I64


def sequence_line(seq: U32, length: I64, starts: I64) -> Line:
    """Lay out the segments of all runs.

    Parameters
    ----------
    seq : ndarray of uint32, shape (n,)
        Sequence numbers, run by run in order of time.
    length : ndarray of int64, shape (n,)
        Sequence numbers that each segment takes.
    starts : ndarray of int64
        Where the runs begin.
    """
    if not len(seq):
        return Line(*(np.empty(0, np.int64) for _ in range(6)))
    begin = np.zeros(len(seq), np.int64)
    # Sequence numbers wrap; the signed 32-bit difference of neighbours does not care.
    np.cumsum(np.diff(seq).view(np.int32), dtype=np.int64, out=begin[1:])
    low = np.minimum.reduceat(begin, starts)
    high = np.maximum.reduceat(begin + length, starts)
    room = high - low + 2
    run = np.repeat(np.arange(len(starts)), run_counts(starts, len(seq)))
    begin += (np.cumsum(room) - room - low)[run]
    end = begin + length
    highest = np.maximum.accumulate(end)
    before = np.concatenate([begin[:1], highest[:-1]])
    before[starts] = begin[starts]
    return Line(begin, end, highest, before, run, starts)


@dataclass(frozen=True, slots=True)
class Order:
    """Some packets of a batch, direction by direction, each direction in order of time.

    Parameters
    ----------
    row : ndarray of int64, shape (n,)
        The packets' rows in the batch.
    direction : ndarray of int64, shape (n,)
    first, size : ndarray of int64, shape (2 * flows,)
        Where each direction lies.
    """

    row: I64
    direction: I64
    first: I64
    size: I64
    _rank: I64  # place among the packets in the batch's order

    @classmethod
    def of(cls, batch: FlowBatch, rows: I64) -> Order:
        """Order packets given by their rows, which ascend."""
        up = batch.packets.up[rows]
        bounds = np.searchsorted(rows, np.append(batch.flows.first, len(batch.packets)))
        ups = np.diff(np.concatenate([[0], np.cumsum(up)])[bounds])
        size = np.stack([ups, np.diff(bounds) - ups], axis=1).ravel()
        first = np.cumsum(size) - size
        rank = np.empty(len(rows), np.int64)
        rank[ragged_index(first[::2], size[::2])] = np.flatnonzero(up)
        rank[ragged_index(first[1::2], size[1::2])] = np.flatnonzero(~up)
        direction = np.repeat(np.arange(len(first)), size)
        return cls(rows[rank], direction, first, size, rank)

    def opposite(self, items: I64) -> tuple[I64, Bool]:
        """The latest packet of the other direction in front of some packets, and if there is one.

        Where there is none, it is any packet.
        """
        direction = self.direction[items]
        flow_first = self.first[direction & ~1]
        others = (self._rank[items] - flow_first) - (items - self.first[direction])
        there = others > 0
        return np.where(there, self.first[direction ^ 1] + others - 1, 0), there


def first_cover(low: I64, high: I64, count: int) -> I64:
    """Which of several intervals is the first that covers each cell.

    Intervals are laid as two overlapping ones of a power of two each, the longest first, and each
    round halves what lies there: log2(longest) rounds.

    Parameters
    ----------
    low, high : ndarray of int64, shape (n,)
        Interval ``i`` covers the cells ``low[i]`` to ``high[i] - 1``, at least one.
    count : int
        Number of cells.

    Returns
    -------
    ndarray of int64, shape (count,)
        Smallest number of an interval, ``n`` where none covers the cell.

    Examples
    --------
    >>> first_cover(np.array([2, 0]), np.array([3, 4]), 5)
    array([1, 1, 0, 1, 2])
    """
    out = np.full(count, len(low), np.int64)
    level = np.frexp(high - low)[1] - 1
    for power in range(int(level.max(initial=0)), -1, -1):
        width = 1 << power
        mine = np.flatnonzero(level == power)
        np.minimum.at(out, low[mine], mine)
        np.minimum.at(out, high[mine] - width, mine)
        if power:
            half = width >> 1
            out[half:] = np.minimum(out[half:], out[:-half])
    return out
