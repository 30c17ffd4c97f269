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

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import (
    I64,
    U8,
    U64,
    Bool,
    ragged_index,
    run_counts,
    run_end_mask,
    run_mask,
    run_starts,
)
from llmflow.capture.columns import ACK, FIN, RST, SYN, TCP, Columns, PacketColumns
from llmflow.flows.batch import EndReason, FlowBatch, FlowColumns, FlowOptions, FlowPackets
from llmflow.flows.direction import initiator
from llmflow.flows.keys import Endpoint, choose, key_hash

_NEVER = -(1 << 62)


@dataclass(frozen=True, slots=True)
class _Held(PacketColumns):
    """Packets in waiting.

    A *context* row stands for the part of a flow that has left as earlier slices: it is counted
    nowhere, and keeps the flow's last time, its start, its client and whether it showed FIN or RST.
    """

    hash: U64
    forward: Bool  # sent by endpoint a
    context: Bool
    origin: I64
    client_is_a: Bool
    basis: U8


def _ends(p: PacketColumns) -> tuple[Endpoint, Endpoint]:
    """Source and destination."""
    return Endpoint(p.src_hi, p.src_lo, p.src_port), Endpoint(p.dst_hi, p.dst_lo, p.dst_port)


def _hold(p: PacketColumns) -> _Held:
    source, target = _ends(p)
    forward = source.at_most(target)
    a, b = choose(forward, source, target), choose(forward, target, source)
    n = len(p)
    none = [np.zeros(n, kind) for kind in (np.bool_, np.int64, np.bool_, np.uint8)]
    columns = [*p.columns(), key_hash(*a, *b, p.protocol), forward, *none]
    return _Held(*columns)


@dataclass(slots=True)
class FlowAssembler:
    """Turns a stream of packet columns into a stream of finished flows.

    Parameters
    ----------
    options : FlowOptions
    hold : int
        New packets to gather before flows are looked for; changes speed and memory only.
    """

    options: FlowOptions = field(default_factory=FlowOptions)
    hold: int = 1 << 18
    _waiting: list[_Held] = field(default_factory=list)
    _fresh: int = 0  # packets in `_waiting` that no round has seen
    _kept: int = 0
    _clock: int = _NEVER

    def push(self, packets: PacketColumns) -> Iterator[FlowBatch]:
        """Take packets in capture order; yield the flows that are known to have ended."""
        for part, steps_back in self._epochs(packets):
            if steps_back:
                yield from self._round(last=True)
                self._clock = int(part.time[0])
            self._clock = max(self._clock, int(part.time.max()))
            self._waiting.append(_hold(part))
            self._fresh += len(part)
        if self._fresh >= max(self.hold, self._kept // 2):
            yield from self._round(last=False)

    def finish(self) -> Iterator[FlowBatch]:
        """Yield the flows that the end of the capture cut off."""
        yield from self._round(last=True)

    def _epochs(self, packets: PacketColumns) -> Iterator[tuple[PacketColumns, bool]]:
        """Cut where the time steps back by more than the reorder window."""
        late, at, clock, steps_back = self.options.ns("reorder"), 0, self._clock, False
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
        if not self._waiting:
            return
        rows = _sorted(_Held.concat(self._waiting))
        self._waiting, self._fresh, self._kept = [], 0, 0
        batch, kept = _assemble(rows, self.options, self._clock, last=last)
        if len(kept):
            self._waiting, self._kept = [kept], len(kept)
        if len(batch.flows):
            yield batch


def _key_columns(rows: _Held) -> list[NDArray[Any]]:
    source, target = _ends(rows)
    a, b = choose(rows.forward, source, target), choose(rows.forward, target, source)
    return [rows.hash, *a, *b, rows.protocol]


def _sorted(rows: _Held) -> _Held:
    """By key, then time, then position, with context rows in front of packets of the same time."""
    order = np.lexsort((rows.position, ~rows.context, rows.time, rows.hash))
    ordered = rows.take(order)
    keys = _key_columns(ordered)
    if len(run_starts(*keys)) != len(run_starts(keys[0])):
        # Two keys share a hash: rare, and the full key decides.
        full = (rows.position, ~rows.context, rows.time, *_key_columns(rows))
        ordered = rows.take(np.lexsort(full))
    return ordered


def _latest_before(marked: Bool, begin: I64) -> I64:
    """For each row the latest marked row in front of it, at least its key's first row."""
    latest = np.maximum.accumulate(np.where(marked, np.arange(len(marked)), -1))
    before: I64 = np.maximum(np.concatenate([[-1], latest[:-1]]), begin)
    return before


def _is_closing(rows: _Held) -> Bool:
    closing: Bool = (rows.protocol == TCP) & (rows.flags & (FIN | RST) != 0)
    return closing


def _flow_starts(rows: _Held, options: FlowOptions) -> I64:
    """First rows of all flows, before slicing."""
    n = len(rows)
    key_first = run_starts(*_key_columns(rows))
    gap = np.diff(rows.time, prepend=rows.time[:1])
    gap[key_first] = 0
    idle = gap >= options.ns("idle_timeout")
    quiet = gap >= options.ns("closed_timeout")
    opening = (rows.protocol == TCP) & (rows.flags & (SYN | ACK) == SYN) & ~rows.context
    # A candidate cuts if anything closed since the candidate before it. One that does not cut saw
    # nothing close since the flow began, so comparing with the latest candidate is enough.
    candidate = idle | quiet | opening
    candidate[key_first] = True
    closing = _is_closing(rows)
    before: I64 = np.cumsum(closing) - closing
    key_begin = np.repeat(key_first, run_counts(key_first, n))
    closed = before > before[_latest_before(candidate, key_begin)]
    begins = idle | (candidate & closed)
    begins[key_first] = True
    return np.flatnonzero(begins).astype(np.int64, copy=False)


@dataclass(frozen=True, slots=True)
class _Slices(Columns):
    """The slices that sorted rows form, flow by flow. A flow shorter than the timeout is one.

    ``final``: the flow's last so far; ``alive``: its flow may go on; ``ended``: when its end is
    known; ``leaves``: it is known; ``showed_end``: FIN or RST was seen up to its end.
    """

    first: I64
    sizes: I64
    final: Bool
    origin: I64
    number: I64
    ended: I64
    reason: I64
    leaves: Bool
    alive: Bool
    showed_end: Bool
    client_is_a: Bool
    basis: U8


def _assemble(
    rows: _Held, options: FlowOptions, clock: int, *, last: bool
) -> tuple[FlowBatch, _Held]:
    """Cut sorted rows into flows and slices; give those that have ended, and the rows to hold."""
    slices = _cut(rows, options, clock, last=last)
    return _release(rows, slices), _hold_back(rows, slices)


def _cut(rows: _Held, options: FlowOptions, clock: int, *, last: bool) -> _Slices:
    n = len(rows)
    watermark = clock - options.ns("reorder")
    closings = np.concatenate([[0], np.cumsum(_is_closing(rows))])  # before each row, and in all

    # Flows: when is each known to be over?
    flow_first = _flow_starts(rows, options)
    flow_next = np.append(flow_first[1:], n)
    origin = np.where(rows.context[flow_first], rows.origin[flow_first], rows.time[flow_first])
    flow_closed = closings[flow_next] > closings[flow_first]
    silence = np.where(flow_closed, options.ns("closed_timeout"), options.ns("idle_timeout"))
    over = rows.time[flow_next - 1] + silence
    # A reused port ends the flow before it at once.
    key = np.cumsum(run_mask(*_key_columns(rows)))
    has_heir = ~run_end_mask(key[flow_first])
    heir = np.flatnonzero(has_heir)
    over[heir] = np.minimum(over[heir], rows.time[flow_first[heir + 1]])

    # Slices of each flow, aligned to its start. A context row is a slice of its own: it stands for
    # slices that ended before the watermark, and everything that came later is behind that.
    flow_of = np.repeat(np.arange(len(flow_first)), flow_next - flow_first)
    number = (rows.time - origin[flow_of]) // options.ns("active_timeout")
    first = run_starts(flow_of, number)
    sizes = run_counts(first, n)
    flow, number = flow_of[first], number[first]
    final = run_end_mask(flow)
    slice_end = origin[flow] + (number + 1) * options.ns("active_timeout")
    ended = np.where(final, np.minimum(slice_end, over[flow]), slice_end)
    # A packet may still come at the watermark itself.
    known = ended < watermark
    by_silence = np.where(flow_closed[flow], EndReason.END_OF_FLOW, EndReason.IDLE)
    reason = np.where(ended == slice_end, EndReason.ACTIVE, by_silence)
    # What would end behind the last packet is cut off by the end of the capture.
    cut_off = (ended > clock) & final & (reason != EndReason.END_OF_FLOW)
    reason[cut_off] = EndReason.FORCED

    # Who began it: decided in the flow's first slice, inherited by the others.
    client_is_a, basis = initiator(rows, rows.forward, first)
    head = np.searchsorted(first, flow_first)
    resumed = rows.context[flow_first]
    return _Slices(
        first,
        sizes,
        final,
        origin[flow],
        number,
        ended,
        reason,
        leaves=known | last,
        alive=((over >= watermark) & (not last))[flow],
        showed_end=closings[first + sizes] > closings[flow_first[flow]],
        client_is_a=np.where(resumed, rows.client_is_a[flow_first], client_is_a[head])[flow],
        basis=np.where(resumed, rows.basis[flow_first], basis[head])[flow],
    )


def _hold_back(rows: _Held, slices: _Slices) -> _Held:
    """The rows of slices that may go on, and a context row where earlier ones have left."""
    held = rows.take(np.repeat(~slices.leaves, slices.sizes))
    next_leaves = np.zeros_like(slices.leaves)
    next_leaves[:-1] = slices.leaves[1:] & ~slices.final[:-1]
    ghosts = slices.take(slices.leaves & ~next_leaves & slices.alive)
    if not len(ghosts):
        return held
    context = replace(
        rows.take(ghosts.first + ghosts.sizes - 1),
        flags=np.where(ghosts.showed_end, FIN, 0).astype(np.uint8),
        context=np.ones(len(ghosts), np.bool_),
        origin=ghosts.origin,
        client_is_a=ghosts.client_is_a,
        basis=ghosts.basis,
    )
    return _Held.concat([context, held])


def _release(rows: _Held, slices: _Slices) -> FlowBatch:
    """The slices that have ended, in the order of their ends, with their packets."""
    out = slices.take(slices.leaves & ~rows.context[slices.first])
    out = out.take(np.lexsort((rows.hash[out.first], out.origin, out.ended)))
    opener = rows.take(out.first)
    ends = _ends(opener)
    flows = FlowColumns(
        np.cumsum(out.sizes) - out.sizes,
        out.sizes,
        *choose(opener.forward, *ends),
        *choose(opener.forward, *ends[::-1]),
        opener.protocol,
        out.client_is_a,
        out.basis,
        out.origin,
        out.number,
        out.ended,
        out.reason.astype(np.uint8),
    )
    p = rows.take(ragged_index(out.first, out.sizes))
    up = p.forward == np.repeat(out.client_is_a, out.sizes)
    packets = FlowPackets(
        p.time, up, p.protocol, p.flags, p.hint, p.ip_bytes, p.payload, p.seq, p.ack
    )
    return FlowBatch(flows, packets)
