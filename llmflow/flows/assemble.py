"""Packets to bidirectional flows, in a stream, without a loop over packets or flows.

Packets of flows that may still go on are held; the rest leave as a :class:`FlowBatch`. Where a flow
is cut depends on its own packets and the capture's clock only, never on how the input was split:
the clock is the largest time seen, and packets may be late by up to ``reorder`` behind it. A
larger step back starts a new *epoch*: all flows end there (two captures glued together, a clock
that was set back).

Flows leave in the order of the time at which they are known to have ended, then of their start,
then of their key; so the order of the output does not depend on the split either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import (
    I64,
    ragged_index,
    run_counts,
    run_mask,
    run_starts,
)
from llmflow.capture.columns import FIN, PacketColumns
from llmflow.flows.batch import EndReason, FlowBatch, FlowColumns, FlowOptions, FlowPackets
from llmflow.flows.slices import Resumed, Slices, cut
from llmflow.flows.waiting import KeyTable, Waiting, by_key, wait

_NEVER = -(1 << 62)
_BATCH = 1 << 18  # packets in a batch of finished flows, more only where one flow has more


@dataclass(slots=True)
class FlowAssembler:
    """Turns a stream of packet columns into a stream of finished flows.

    Parameters
    ----------
    options : FlowOptions
    hold : int
        New packets to gather before flows are looked for; changes speed and memory, and which
        flows are closed where memory is scarce.

    Attributes
    ----------
    watch : callable
        Called with packets when they are taken, and with whether they begin a new epoch: whoever
        watches has seen exactly the packets that the flows which leave were made from.
    closed_early : int
        Flows closed so far for lack of memory.
    """

    options: FlowOptions = field(default_factory=FlowOptions)
    hold: int = 1 << 18
    watch: Callable[[PacketColumns, bool], None] = lambda _packets, _anew: None
    closed_early: int = 0
    _kept: Waiting | None = None  # what earlier rounds left
    _resumed: Resumed = field(default_factory=Resumed.empty)
    _keys: KeyTable = field(default_factory=KeyTable.empty)
    _fresh: list[tuple[Waiting, KeyTable]] = field(default_factory=list)
    _new: int = 0  # packets in `_fresh`
    _clock: int = _NEVER
    _settled: int = _NEVER  # the flows that ended before have left; nothing earlier will come

    def push(self, packets: PacketColumns) -> Iterator[FlowBatch]:
        """Take packets in capture order; yield the flows that are known to have ended."""
        for part, steps_back in self._epochs(packets):
            if steps_back:
                yield from self._round(last=True)
                self._clock = int(part.time[0])
            # Rounds begin at the same packets wherever the input was cut.
            at = 0
            while at < len(part):
                room = self._patience() - self._new
                some = part.take(slice(at, at + room))
                self.watch(some, steps_back and at == 0)
                self._clock = max(self._clock, int(some.time.max()))
                self._fresh.append(wait(some))
                self._new += len(some)
                at += len(some)
                if len(some) == room:
                    yield from self._round(last=False)

    def _patience(self) -> int:
        """New packets to gather before the next round."""
        most, kept = self.options.most_packets, 0 if self._kept is None else len(self._kept)
        # Where memory is scarce, at most two thirds of it are kept; see _scarce.
        return max(1, min(max(self.hold, 2 * kept // 5), most // 3, most - kept))

    def open_flows(self) -> tuple[KeyTable, I64, int]:
        """Keys of the flows that may go on, their starts, and the time from which more may begin.

        Of a key there is one such flow at most; what is newer than that time is not among them.
        """
        if self._kept is None:
            return KeyTable.empty(), np.empty(0, np.int64), self._settled
        key, time = self._kept.key, self._kept.time.copy()
        time[self._kept.field("context")] = self._resumed.origin
        order = np.lexsort((time, key))
        order = order[run_mask(key[order])]
        return self._keys.take(self._keys.find(key[order])), time[order], self._settled

    def finish(self) -> Iterator[FlowBatch]:
        """Yield the flows that the end of the capture cut off."""
        yield from self._round(last=True)

    def _epochs(self, packets: PacketColumns) -> Iterator[tuple[PacketColumns, bool]]:
        """Cut where the time steps back by more than the reorder window."""
        late, at, clock, steps_back = self.options.ns("reorder"), 0, self._clock, False
        if len(packets) and packets.time.min() >= max(clock, int(packets.time.max())) - late:
            yield packets, False
            return
        size = 1024
        begin = 0
        while at < len(packets):
            window = packets.time[at : at + size]
            newest = np.maximum(np.maximum.accumulate(window), clock)
            back = np.flatnonzero(window < newest - late)
            if len(back) == 0:
                at, clock, size = at + len(window), int(newest[-1]), size * 2
                continue
            stop = at + int(back[0])
            if stop > begin:
                yield packets.take(slice(begin, stop)), steps_back
            begin = at = stop
            clock, steps_back, size = int(packets.time[stop]), True, 1024
        if begin < len(packets):
            yield packets.take(slice(begin, None)), steps_back

    def _round(self, *, last: bool) -> Iterator[FlowBatch]:
        parts = [] if self._kept is None else [self._kept]
        if self._fresh:
            numbers, self._keys = self._keys.intern(KeyTable.concat([k for _, k in self._fresh]))
            before = 0
            for rows, keys in self._fresh:
                parts.append(replace(rows, key=numbers[before : before + len(keys)][rows.key]))
                before += len(keys)
        self._fresh, self._new, self._kept = [], 0, None
        self._settled = _NEVER if last else self._clock - self.options.ns("reorder")
        if not any(map(len, parts)):
            return
        rows = _in_order(parts)
        slices = cut(rows, self._keys, self._resumed, self.options, self._clock, last=last)
        self.closed_early += int((slices.reason == EndReason.LACK_OF_RESOURCES).sum())
        out, keys = _release(rows, slices, self._keys)
        if last:
            self._keys, self._resumed = KeyTable.empty(), Resumed.empty()
        else:
            columns = rows.columns()
            # Few leave: a copy of these, so that _hold_back can let go of all.
            rows = rows.take(ragged_index(out.first, out.sizes))
            out = replace(out, first=np.cumsum(out.sizes) - out.sizes)
            self._kept, self._resumed = _hold_back(columns, slices)
            self._keys = self._keys.keep(self._kept.key[run_mask(self._kept.key)])
        yield from _batches(rows, out, keys)


def _in_order(parts: list[Waiting]) -> Waiting:
    """All rows by key and time. Empties ``parts``: a column is let go as soon as it is sorted."""
    columns = [part.columns() for part in parts]
    parts.clear()
    order, key, time = by_key(*(np.concatenate([c.pop(0) for c in columns]) for _ in range(2)))
    rest = np.concatenate([column.pop() for column in columns])
    return Waiting(key, time, rest[order])


def _hold_back(columns: list[NDArray[Any]], slices: Slices) -> tuple[Waiting, Resumed]:
    """The rows of slices that may go on, and a context row where earlier ones have left.

    Empties ``columns``, those of the rows: each is let go as soon as it is copied.
    """
    next_leaves = np.zeros_like(slices.leaves)
    next_leaves[:-1] = slices.leaves[1:] & ~slices.final[:-1]
    ghosts = slices.take(slices.leaves & ~next_leaves & slices.alive)
    held = np.flatnonzero(np.repeat(~slices.leaves, slices.sizes))
    index = np.concatenate([ghosts.first + ghosts.sizes - 1, held])
    del held
    kept = Waiting(*(columns.pop(0)[index] for _ in Waiting.names()))
    context = kept.take(slice(0, len(ghosts)))  # a view
    context.field("flags")[:] = np.where(ghosts.showed_end, FIN, 0)
    context.field("context")[:] = True
    return kept, Resumed(context.key, ghosts.origin, ghosts.client_is_a, ghosts.basis)


def _release(rows: Waiting, slices: Slices, keys: KeyTable) -> tuple[Slices, KeyTable]:
    """The slices that have ended, in the order of their ends, with their keys."""
    out = slices.take(slices.leaves & ~rows.field("context")[slices.first])
    full = keys.take(out.key_row)
    order = np.lexsort((*full.columns()[:0:-1], out.origin, out.ended))
    return out.take(order), full.take(order)


def _batches(rows: Waiting, out: Slices, full: KeyTable) -> Iterator[FlowBatch]:
    # What comes behind works on whole batches: small ones stay in cache and bound memory.
    part = np.cumsum(out.sizes) // _BATCH
    starts = run_starts(part)
    for begin, count in zip(starts.tolist(), run_counts(starts, len(part)).tolist(), strict=True):
        some = slice(begin, begin + count)
        yield _batch(rows, out.take(some), full.take(some))


def _batch(rows: Waiting, out: Slices, full: KeyTable) -> FlowBatch:
    flows = FlowColumns(
        np.cumsum(out.sizes) - out.sizes,
        out.sizes,
        *full.a,
        *full.b,
        full.protocol,
        out.client_is_a,
        out.basis,
        out.origin,
        out.number,
        out.ended,
        out.reason.astype(np.uint8),
    )
    rows = rows.take(ragged_index(out.first, out.sizes))
    packets = FlowPackets(
        rows.time,
        rows.field("forward") == np.repeat(out.client_is_a, out.sizes),
        np.repeat(full.protocol, out.sizes),
        rows.field("flags").copy(),
        rows.field("hint").copy(),
        rows.field("ip_bytes").astype(np.int64),
        rows.field("payload").astype(np.int64),
        rows.field("seq").copy(),
        rows.field("ack").copy(),
        rows.field("window").copy(),
    )
    return FlowBatch(flows, packets)
