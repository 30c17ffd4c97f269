"""What features are computed on: segments of a flow, and views of the packets in them.

A *segment* is a stretch of one turn's reply: all of it, from the first downlink data packet to the
last (scale ``turn``), or a window of it (scales ``5s``, ``2s``), counted from the reply's start.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from llmflow.arrays import (
    F64,
    I64,
    Bool,
    order_in_rows,
    ragged_index,
    row_quantiles,
    row_sums,
    run_counts,
    run_end_mask,
    run_mask,
    run_starts,
    sort_in_rows,
)
from llmflow.capture.records import NANOSECOND
from llmflow.features.statistics import Tally
from llmflow.flows.batch import FlowBatch
from llmflow.flows.episodes import CHUNK_GAP
from llmflow.flows.requests import BURST_SILENCE
from llmflow.flows.turns import Data, Turns

# Window lengths in ns; None is the whole reply. `flow` spans all turns of a flow, and is offered
# for export only.
SCALES = {"turn": None, "5s": 5 * NANOSECOND, "2s": 2 * NANOSECOND}
FLOW = "flow"


@dataclass(frozen=True)
class Segments:
    """Segments of one scale over a batch, and the packets in them.

    Parameters
    ----------
    turn : ndarray of int64, shape (segments,)
        Row of the segment's turn in ``turns``.
    row : ndarray of int64, shape (packets,)
        Rows of the packets that lie in a segment, in order.
    of : ndarray of int64, shape (packets,)
        Segment of each of these packets, not decreasing.
    """

    batch: FlowBatch
    data: Data
    turns: Turns
    turn: I64
    row: I64
    of: I64

    def __len__(self) -> int:
        return len(self.turn)

    def keep(self, wanted: Bool) -> Segments:
        """Only the segments picked by a mask."""
        number = np.cumsum(wanted) - 1
        inside = wanted[self.of]
        return Segments(
            self.batch,
            self.data,
            self.turns,
            self.turn[wanted],
            self.row[inside],
            number[self.of[inside]],
        )

    @cached_property
    def down(self) -> Downlink:
        """The downlink data packets."""
        at = np.flatnonzero(self.data.down[self.row])
        return Downlink(
            len(self),
            self.of[at],
            self.batch.packets.time[self.row[at]],
            self.data.new[self.row[at]],
        )

    @cached_property
    def up(self) -> Uplink:
        """The uplink packets."""
        at = np.flatnonzero(self.batch.packets.up[self.row])
        rows = self.row[at]
        return Uplink(len(self), self.of[at], self.data.new[rows], self.data.ack[rows])

    @cached_property
    def two_way(self) -> Bool:
        """Whether the segment's flow shows any uplink packet at all."""
        seen = row_sums(self.batch.packets.up, self.data.flow, len(self.batch.flows)) > 0
        two_way: Bool = seen[self.turns.flow[self.turn]]
        return two_way

    def if_two_way(self, values: F64) -> F64:
        """The values, null where no uplink packet was seen."""
        return np.where(self.two_way, values, np.nan)

    @cached_property
    def _with_data(self) -> I64:
        """Places of the packets with new data, both ways."""
        return np.flatnonzero(self.data.down[self.row] | self.data.up[self.row])

    @cached_property
    def answers(self) -> F64:
        """Downlink data packets right behind an uplink data packet, per segment."""
        down, of = self.data.down[self.row[self._with_data]], self.of[self._with_data]
        behind = np.zeros(len(down), np.bool_)
        behind[1:] = down[1:] & ~down[:-1] & (of[1:] == of[:-1])
        return row_sums(behind, of, len(self))

    @cached_property
    def bursts(self) -> Bursts:
        """The uplink bursts: uplink data without downlink data or a long silence in between."""
        row, of = self.row[self._with_data], self.of[self._with_data]
        up, time = self.data.up[row], self.batch.packets.time[row]
        apart = np.diff(time, prepend=time[:1]) > BURST_SILENCE
        begins = up & (run_mask(of, up) | apart)
        burst = np.cumsum(begins)[up] - 1
        return Bursts(of[begins], row_sums(self.data.new[row[up]], burst, int(begins.sum())))

    def per_turn(self, values: F64) -> F64:
        """Spread a column of the turns to their segments."""
        spread: F64 = values[self.turn]
        return spread


class Bursts(NamedTuple):
    """Uplink bursts: the segment of each, and its new bytes."""

    of: I64
    size: F64


@dataclass(frozen=True)
class Downlink:
    """Downlink data packets of segments, and the chunks they form.

    ``of`` is each packet's segment, ``time`` its time in ns, ``size`` its new bytes. A chunk is a
    run of packets at most ``CHUNK_GAP`` apart, at its first one's time. Times stay whole
    nanoseconds (exact in float64 for 100 days), so that comparisons do not hang on rounding.
    """

    count: int
    of: I64
    time: I64
    size: I64

    @cached_property
    def _starts(self) -> I64:
        apart = np.diff(self.time, prepend=self.time[:1]) > CHUNK_GAP
        return np.flatnonzero(apart | run_mask(self.of))

    @cached_property
    def packets(self) -> F64:
        """Downlink data packets per segment."""
        return _counts(self.of, self.count).astype(np.float64)

    @cached_property
    def bytes(self) -> F64:
        """New downlink bytes per segment."""
        return row_sums(self.size, self.of, self.count)

    @cached_property
    def chunk_of(self) -> I64:
        """Segment of each chunk."""
        return self.of[self._starts]

    @cached_property
    def chunk_size(self) -> F64:
        """Bytes of each chunk."""
        chunk = np.repeat(np.arange(len(self._starts)), run_counts(self._starts, len(self.of)))
        return row_sums(self.size, chunk, len(self._starts))

    @cached_property
    def chunk_time(self) -> I64:
        """Time of each chunk's first packet, ns."""
        return self.time[self._starts]

    @cached_property
    def chunks(self) -> F64:
        """Chunks per segment."""
        return _counts(self.chunk_of, self.count).astype(np.float64)

    @cached_property
    def _inner(self) -> Bool:
        return ~run_mask(self.chunk_of)

    @cached_property
    def gap_of(self) -> I64:
        """Segment of each gap between neighbouring chunks."""
        return self.chunk_of[self._inner]

    @cached_property
    def gap(self) -> F64:
        """Gaps between the starts of neighbouring chunks, whole ns."""
        return np.diff(self.chunk_time, prepend=0)[self._inner].astype(np.float64)

    @cached_property
    def size_behind_gap(self) -> F64:
        """Bytes of the chunk that ends each gap."""
        return self.chunk_size[self._inner]

    @cached_property
    def gaps(self) -> F64:
        """Gaps per segment: one less than its chunks."""
        return _counts(self.gap_of, self.count).astype(np.float64)

    @cached_property
    def duration(self) -> F64:
        """From the first chunk to the last, seconds."""
        return row_sums(self.gap, self.gap_of, self.count) / NANOSECOND

    @cached_property
    def gap_quantiles(self) -> F64:
        """10th, 50th and 90th percentile and maximum of the gaps, ns."""
        ordered = sort_in_rows(self.gap.astype(np.int64), self.gap_of)
        return row_quantiles(ordered, _counts(self.gap_of, self.count), (0.1, 0.5, 0.9, 1.0))

    @cached_property
    def size_order(self) -> I64:
        """The order of the chunks by segment, then size."""
        return order_in_rows(self.chunk_size.astype(np.int64), self.chunk_of)

    @cached_property
    def chunk_sizes(self) -> Tally:
        """How often each chunk size occurs in each segment."""
        ordered = self.chunk_size[self.size_order].astype(np.int64)
        return Tally.of_sorted(ordered, self.chunk_of, self.count)

    @cached_property
    def packet_sizes(self) -> Tally:
        """How often each packet size occurs in each segment."""
        return Tally.of_sorted(sort_in_rows(self.size, self.of), self.of, self.count)

    @cached_property
    def size_quantiles(self) -> F64:
        """10th, 50th and 90th percentile of the chunk sizes."""
        ordered = self.chunk_size[self.size_order]
        return row_quantiles(ordered, _counts(self.chunk_of, self.count), (0.1, 0.5, 0.9))


@dataclass(frozen=True)
class Uplink:
    """Uplink packets of segments: ``size`` new bytes (0 for none), ``ack`` carries no data."""

    count: int
    of: I64
    size: I64
    ack: Bool

    @cached_property
    def packets(self) -> F64:
        """Uplink packets per segment."""
        return _counts(self.of, self.count).astype(np.float64)

    @cached_property
    def data(self) -> F64:
        """Uplink packets with new data per segment."""
        return row_sums(self.size > 0, self.of, self.count)

    @cached_property
    def bytes(self) -> F64:
        """New uplink bytes per segment."""
        return row_sums(self.size, self.of, self.count)


def _counts(rows: I64, count: int) -> I64:
    counts: I64 = np.bincount(rows, minlength=count)
    return counts


def cut_segments(
    batch: FlowBatch, data: Data, turns: Turns, scale: str, only: I64 | None = None
) -> Segments:
    """Cut the replies of turns into segments of one scale.

    Parameters
    ----------
    batch, data, turns
        A batch of flows, what its packets carry, and its turns.
    scale : str
        A key of ``SCALES``, or ``FLOW``.
    only : ndarray of int64, optional
        Rows of the turns to cut; all if not given. Not for ``FLOW``.

    Returns
    -------
    Segments
        Only segments with downlink data, turn by turn, in order of time.
    """
    turn = np.arange(len(turns)) if only is None else only
    first, last = turns.reply[turn], turns.reply_last[turn]
    if scale == FLOW:
        turn = run_starts(turns.flow)
        first, last = first[turn], last[run_end_mask(turns.flow)]
    counts = last - first + 1
    row = ragged_index(first, counts)
    part = np.repeat(np.arange(len(turn)), counts)
    length = SCALES.get(scale)
    if length is None:
        return Segments(batch, data, turns, turn, row, part)
    window = (batch.packets.time[row] - batch.packets.time[first[part]]) // length
    starts = run_starts(part, window)
    of = np.repeat(np.arange(len(starts)), run_counts(starts, len(row)))
    filled = row_sums(data.down[row], of, len(starts)) > 0
    return Segments(batch, data, turns, turn[part[starts]], row, of).keep(filled)
