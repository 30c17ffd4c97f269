"""Sorted packets to flows and their slices: where they begin, and which of them have ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import (
    I64,
    U8,
    U64,
    Bool,
    ragged_index,
    row_sums,
    run_counts,
    run_end_mask,
    run_mask,
)
from llmflow.capture.columns import ACK, FIN, RST, SYN, Columns
from llmflow.flows.batch import EndReason, FlowOptions
from llmflow.flows.direction import initiator
from llmflow.flows.waiting import KeyTable, Waiting


@dataclass(frozen=True, slots=True)
class Resumed(Columns):
    """Flows that go on behind a context row, sorted by key: their start and their client."""

    key: U64
    origin: I64
    client_is_a: Bool
    basis: U8

    @classmethod
    def empty(cls) -> Resumed:
        """No flows."""
        return cls(
            np.empty(0, np.uint64),
            np.empty(0, np.int64),
            np.empty(0, np.bool_),
            np.empty(0, np.uint8),
        )


def _flow_starts(rows: Waiting, closings: NDArray[np.int32], options: FlowOptions) -> I64:
    """First rows of all flows, before slicing."""
    begins_key = run_mask(rows.key)
    gap = np.diff(rows.time, prepend=rows.time[:1])
    idle = gap >= options.ns("idle_timeout")
    quiet = gap >= options.ns("closed_timeout")
    opening = (rows.field("flags") & (SYN | ACK) == SYN) & ~rows.field("context")
    # A candidate cuts if anything closed since the candidate before it. One that does not cut saw
    # nothing close since the flow began, so comparing with the latest candidate is enough.
    candidate = np.flatnonzero(begins_key | idle | quiet | opening)
    closed = np.diff(closings[candidate], prepend=0) > 0
    return candidate[begins_key[candidate] | idle[candidate] | closed]


@dataclass(frozen=True, slots=True)
class Slices(Columns):
    """The slices that sorted rows form, flow by flow. A flow shorter than the timeout is one.

    ``final``: the flow's last so far; ``alive``: its flow may go on; ``ended``: when its end is
    known; ``leaves``: it is known; ``showed_end``: FIN or RST was seen up to its end.
    """

    first: I64
    sizes: I64
    key_row: I64
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


def cut(
    rows: Waiting,
    keys: KeyTable,
    resumed: Resumed,
    options: FlowOptions,
    clock: int,
    *,
    last: bool,
) -> Slices:
    """Cut sorted rows into flows and slices, and tell which of them have ended."""
    n = len(rows)
    watermark = clock - options.ns("reorder")
    closings = np.zeros(n + 1, np.int32)  # before each row, and in all
    np.cumsum(rows.field("flags") & (FIN | RST) != 0, out=closings[1:])

    # Flows: when is each known to be over?
    flow_first = _flow_starts(rows, closings, options)
    flow_next = np.append(flow_first[1:], n)
    flow_key = rows.key[flow_first]
    origin = rows.time[flow_first]
    goes_on = np.flatnonzero(rows.field("context")[flow_first])
    earlier = resumed.take(np.searchsorted(resumed.key, flow_key[goes_on]))
    origin[goes_on] = earlier.origin
    flow_closed = closings[flow_next] > closings[flow_first]
    silence = np.where(flow_closed, options.ns("closed_timeout"), options.ns("idle_timeout"))
    over = rows.time[flow_next - 1] + silence
    # A reused port ends the flow before it at once.
    heir = np.flatnonzero(~run_end_mask(flow_key))
    over[heir] = np.minimum(over[heir], rows.time[flow_first[heir + 1]])

    # Slices of each flow, aligned to its start. A context row is a slice of its own: it stands for
    # slices that ended before the watermark, and everything that came later is behind that.
    active = options.ns("active_timeout")
    begins = np.zeros(n, np.bool_)
    begins[flow_first] = True
    long = np.flatnonzero(rows.time[flow_next - 1] - origin >= active)
    inside = ragged_index(flow_first[long], (flow_next - flow_first)[long])
    of = np.repeat(long, (flow_next - flow_first)[long])
    begins[inside[run_mask(of, (rows.time[inside] - origin[of]) // active)]] = True
    first = np.flatnonzero(begins)
    sizes = run_counts(first, n)
    flow = np.searchsorted(flow_first, first, side="right") - 1
    number = (rows.time[first] - origin[flow]) // active
    final = run_end_mask(flow)
    slice_end = origin[flow] + (number + 1) * active
    ended = np.where(final, np.minimum(slice_end, over[flow]), slice_end)
    # A packet may still come at the watermark itself.
    known = ended < watermark
    by_silence = np.where(flow_closed[flow], EndReason.END_OF_FLOW, EndReason.IDLE)
    reason = np.where(ended == slice_end, EndReason.ACTIVE, by_silence)
    # What would end behind the last packet is cut off by the end of the capture.
    cut_off = (ended > clock) & final & (reason != EndReason.END_OF_FLOW)
    reason[cut_off] = EndReason.FORCED

    leaves, alive = known | last, (over >= watermark) & (not last)
    scarce = _scarce(sizes * ~leaves, flow, origin, options.most_packets)
    lack = scarce[flow] & ~leaves
    reason[lack & final] = EndReason.LACK_OF_RESOURCES
    ended[lack] = watermark
    leaves |= lack
    alive &= ~scarce

    # Who began it: decided in the flow's first slice, inherited by the others.
    key_row = keys.find(flow_key)
    ports = keys.a_port[key_row[flow]], keys.b_port[key_row[flow]]
    client_is_a, basis = initiator(
        rows.field("flags"), rows.field("hint"), rows.field("forward"), first, *ports
    )
    head = np.searchsorted(first, flow_first)
    client_is_a, basis = client_is_a[head], basis[head]
    client_is_a[goes_on], basis[goes_on] = earlier.client_is_a, earlier.basis
    return Slices(
        first,
        sizes,
        key_row[flow],
        final,
        origin[flow],
        number,
        ended,
        reason,
        leaves=leaves,
        alive=alive[flow],
        showed_end=closings[first + sizes] > closings[flow_first[flow]],
        client_is_a=client_is_a[flow],
        basis=basis[flow],
    )


def _scarce(held: I64, flow: I64, origin: I64, most: int) -> Bool:
    """The flows to close because too many packets are held: those that began first."""
    closed = np.zeros(len(origin), np.bool_)
    total = int(held.sum())
    if total > 2 * most // 3:
        oldest = np.argsort(origin, kind="stable")
        freed = np.cumsum(row_sums(held, flow, len(origin))[oldest])
        closed[oldest[: 1 + int(np.searchsorted(freed, total - most // 3))]] = True
    return closed
