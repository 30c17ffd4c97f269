"""TCP without payload: what headers tell of losses, reordering and delays (docs/definitions.md).

The rules follow tcptrace and Wireshark's TCP analysis as far as headers without options allow. Each
slice of a flow is judged alone, as a capture that starts in mid-connection is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import F64, I64, U16, Bool, run_mask, run_starts
from llmflow.capture.columns import ACK, FIN, RST, SYN, TCP
from llmflow.flows.batch import FlowBatch
from llmflow.flows.below import Below, find_below, first_copies, last_copies, waiting
from llmflow.flows.rtt import (
    MILLISECOND,
    Handshakes,
    Headers,
    data_round_trips,
    find_handshakes,
)
from llmflow.flows.sequence import Order, sequence_line

UP, DOWN = 0, 1  # columns of TcpFlows

REORDERING = 3 * MILLISECOND  # longest delay of a reordered packet without a handshake to tell
FAST = 20 * MILLISECOND  # longest time from the last duplicate ACK to a fast retransmission
FAST_ACKS = 2  # duplicate ACKs in front of one: three by RFC 5681, of which one may be missing
RTO = 200 * MILLISECOND  # shortest retransmission timeout in use
PROBE = 1  # most bytes that a keep-alive or a probe of a closed window carries
COPY = 2 * MILLISECOND  # longest time between the copies that a mirroring port makes


class TcpFlag:
    """Bits of a packet's ``flags``.

    Of ``RETRANSMISSION``, ``OUT_OF_ORDER``, ``HOLE``, ``KEEP_ALIVE`` and ``DUPLICATE`` a packet has
    one at most, so of ``DUPLICATE_ACK``, ``WINDOW_UPDATE`` and ``KEEP_ALIVE_ACK``. ``FAST``,
    ``TIMEOUT`` and ``SPURIOUS`` come with ``RETRANSMISSION`` only, ``FILL`` with it or
    ``OUT_OF_ORDER``.
    """

    RETRANSMISSION = 1  # below the highest sequence number, sent again
    OUT_OF_ORDER = 2  # below it, never seen, and in time: reordered in front of the tap
    FILL = 4  # holds bytes that were not seen before: lost or reordered in front of the tap
    FAST = 8  # retransmitted on duplicate ACKs
    TIMEOUT = 16  # retransmitted after 200 ms or more without a duplicate ACK
    SPURIOUS = 32  # all of it was acknowledged before
    HOLE = 64  # bytes are missing in front of it
    DUPLICATE_ACK = 128
    WINDOW_UPDATE = 256
    ZERO_WINDOW = 512
    KEEP_ALIVE = 1024
    KEEP_ALIVE_ACK = 2048
    DUPLICATE = 4096  # the same packet, captured twice

    NAMES = (
        *("retransmission", "out_of_order", "fill", "fast", "timeout", "spurious", "hole"),
        *("duplicate_ack", "window_update", "zero_window", "keep_alive", "keep_alive_ack"),
        "duplicate",
    )


@dataclass(frozen=True, slots=True)
class TcpFlows:
    """What TCP did in each flow of a batch, per direction: column ``UP``, column ``DOWN``.

    In flows of other protocols, which ``tcp`` tells apart, sums are 0 and times NaN.

    Parameters
    ----------
    tcp : ndarray of bool, shape (flows,)
    counts : dict of str to ndarray of int64, shape (flows, 2)
        Packets with each flag, by the names of :class:`TcpFlag`.
    retransmitted_bytes : ndarray of int64, shape (flows, 2)
        Payload below the highest sequence number, in packets marked as retransmissions.
    hole_bytes : ndarray of int64, shape (flows, 2)
        Sequence numbers that were skipped, whether or not they came later.
    rtt_samples : ndarray of int64, shape (flows, 2)
        Data→ACK times measured.
    rtt_min, rtt_median : ndarray of float64, shape (flows, 2)
        Data→ACK time, ms. Data of the column's direction: ``UP`` is the tap's distance from the
        server and back, ``DOWN`` from the client.
    handshake : ndarray of float64, shape (flows, 2)
        SYN→SYN-ACK (``UP``) and SYN-ACK→ACK (``DOWN``), ms.
    """

    tcp: Bool
    counts: dict[str, I64]
    retransmitted_bytes: I64
    hole_bytes: I64
    rtt_samples: I64
    rtt_min: F64
    rtt_median: F64
    handshake: F64


@dataclass(frozen=True, slots=True)
class TcpAnalysis:
    """What TCP did in a batch.

    Parameters
    ----------
    flags : ndarray of uint16, shape (packets,)
        Bits of :class:`TcpFlag`, 0 for other protocols.
    delivered : ndarray of int64, shape (packets,)
        Time at which all bytes up to the packet's end had been seen at the tap, ns: the packet's
        own time unless a hole below it was filled later. What was lost behind the tap makes it
        too early.
    delivered_latest : ndarray of int64, shape (packets,)
        The same if of bytes that were sent again before they were acknowledged the last copy
        counts: too late if an earlier one arrived.
    flows : TcpFlows
    """

    flags: U16
    delivered: I64
    delivered_latest: I64
    flows: TcpFlows


def analyse_tcp(batch: FlowBatch) -> TcpAnalysis:
    """Say what all packets of a batch are to TCP, and sum it up per flow."""
    h = _headers(batch)
    line, flags = h.line, np.zeros(len(h.time), np.uint16)
    shakes = find_handshakes(h)
    jump = np.flatnonzero(line.begin != line.before)
    ahead = line.begin[jump] > line.before[jump]
    probe = (line.begin[jump] == line.before[jump] - 1) & (h.payload[jump] <= PROBE)
    probe &= h.flags[jump] & (SYN | FIN) == 0
    flags[jump[ahead]] = TcpFlag.HOLE
    flags[jump[probe]] = TcpFlag.KEEP_ALIVE
    below = find_below(line, jump[~ahead & ~probe & (h.length[jump] > 0)], jump[ahead])
    zero = np.flatnonzero(h.window == 0)
    flags[zero[h.flags[zero] & (SYN | FIN) == 0]] |= TcpFlag.ZERO_WINDOW
    repeats = _repeated_acks(h)
    flags[_copies(h, below, repeats, shakes)] = TcpFlag.DUPLICATE
    _mark_below(h, below, shakes, _mark_acks(h, repeats, flags), flags)

    # What the receiver had acknowledged was missed by the capture alone: nobody waited for it.
    spurious = flags[below.item] & TcpFlag.SPURIOUS != 0
    moved = flags[below.item] & (TcpFlag.RETRANSMISSION | TcpFlag.OUT_OF_ORDER) != 0
    delivered, latest = batch.packets.time.copy(), batch.packets.time.copy()
    for times, copies in ((delivered, first_copies), (latest, last_copies)):
        late, last = waiting(line, below, copies(below, moved & ~spurious))
        times[h.order.row[late]] = h.time[last]
    of_packets = np.zeros(len(batch.packets), np.uint16)
    of_packets[h.order.row] = flags
    return TcpAnalysis(of_packets, delivered, latest, _flows(batch, h, below, shakes, flags))


def _headers(batch: FlowBatch) -> Headers:
    """The TCP packets of a batch but resets, whose sequence numbers mean little."""
    p = batch.packets
    order = Order.of(batch, np.flatnonzero((p.protocol == TCP) & (p.flags & RST == 0)))
    row = order.row
    seq, flags, payload = p.seq[row], p.flags[row], p.payload[row]
    length, ends = payload.copy(), np.flatnonzero(flags & (SYN | FIN))
    length[ends] += (flags[ends] & FIN) + (flags[ends] >> 1 & 1)
    # A SYN with another initial sequence number begins a run.
    begins = np.zeros(len(row), np.bool_)
    begins[order.first[order.size > 0]] = True
    syn = np.flatnonzero(flags & SYN)
    begins[syn[run_mask(order.direction[syn], seq[syn])]] = True
    line = sequence_line(seq, length, np.flatnonzero(begins))
    return Headers(order, p.time[row], seq, p.ack[row], p.window[row], flags, payload, length, line)


def _repeated_acks(h: Headers) -> I64:
    """Packets without payload, SYN, FIN that acknowledge what the one before them did."""
    same = np.zeros(len(h.time), np.bool_)
    same[1:] = h.ack[1:] == h.ack[:-1]
    same[h.line.starts] = False
    same &= h.length == 0
    same &= h.flags & ACK != 0
    return np.flatnonzero(same)


def _copies(h: Headers, below: Below, repeats: I64, shakes: Handshakes) -> I64:
    """Copies of packets, as a port that mirrors both directions of a switch port makes.

    One copy proves nothing, for senders retransmit and repeat acknowledgements. A direction is
    believed to be mirrored if copies of half its segments follow within ``COPY``, and sooner than
    a round trip; a direction without segments, if the other one is.
    """
    round_trip = np.where(shakes.whole >= 0, shakes.whole, COPY + 1)

    def identical(item: I64, other: I64) -> Bool:
        gap = h.time[item] - h.time[other]
        same: Bool = (gap <= COPY) & (gap < round_trip[h.order.direction[item] >> 1])
        for column in (h.seq, h.ack, h.flags, h.window, h.payload):
            same &= column[item] == column[other]
        return same

    seen = below.item[below.fill == 0]
    origin = np.searchsorted(h.line.highest, h.line.end[seen])
    origin = np.where(identical(seen, seen - 1), seen - 1, np.minimum(origin, seen - 1))
    copies: I64 = seen[identical(seen, origin)]
    if not len(copies):
        return copies
    total = np.append(0, np.cumsum(h.length > 0))
    segments = total[h.order.first + h.order.size] - total[h.order.first]
    count = np.bincount(h.order.direction[copies], minlength=len(segments))
    mirrored = ((segments > 0) & (count >= segments - 2 * count)).reshape(-1, 2)
    mirrored = np.where(segments.reshape(-1, 2) > 0, mirrored, mirrored[:, ::-1]).ravel()
    copies = np.concatenate([copies, repeats[identical(repeats, repeats - 1)]])
    believed: I64 = copies[mirrored[h.order.direction[copies]]]
    return believed


def _mark_acks(h: Headers, repeats: I64, flags: U16) -> I64:
    """Tell repeated acknowledgements apart; the duplicate ones are returned."""
    at_end = h.line.begin[repeats] == h.line.before[repeats]
    open_ = (h.window[repeats] > 0) & (flags[repeats] & TcpFlag.DUPLICATE == 0)
    item = repeats[at_end & open_]
    unchanged = h.window[item] == h.window[item - 1]
    flags[item[~unchanged]] |= TcpFlag.WINDOW_UPDATE
    item = item[unchanged]
    latest, there = h.order.opposite(item)
    answers = there & (flags[latest] & TcpFlag.KEEP_ALIVE != 0)
    flags[item[answers]] |= TcpFlag.KEEP_ALIVE_ACK
    duplicates: I64 = item[~answers]
    flags[duplicates] |= TcpFlag.DUPLICATE_ACK
    return duplicates


def _mark_below(
    h: Headers, below: Below, shakes: Handshakes, duplicate_acks: I64, flags: U16
) -> None:
    """Tell retransmissions from reordered packets, and why they were sent."""
    # One old byte in front of new ones answers a probe of a closed window.
    probed = (below.high - below.low == 1) & (below.fill == 0) & (h.payload[below.item] > PROBE)
    judged = ~probed & (flags[below.item] & TcpFlag.DUPLICATE == 0)
    item, fill = below.item[judged], below.fill[judged]
    latest, there = h.order.opposite(item)
    there &= h.flags[latest] & ACK != 0
    # How far the receiver had acknowledged beyond the segment.
    beyond = (h.ack[latest] - h.seq[item]).view(np.int32) - h.length[item]
    spurious = there & (h.payload[item] > 0) & (beyond >= 0)
    repeated = np.where(there, _repetitions(h, duplicate_acks, latest), 0)
    soon = h.time[item] - h.time[latest] < FAST
    fast = ~spurious & (repeated >= FAST_ACKS) & (h.ack[latest] == h.seq[item]) & soon
    raised = np.searchsorted(h.line.highest, h.line.before[item])
    delay = h.time[item] - h.time[raised]
    round_trip = np.where(shakes.whole >= 0, shakes.whole, REORDERING)
    in_time = delay < round_trip[h.order.direction[item] >> 1]
    reordered = ~spurious & ~fast & in_time & (fill == h.length[item])
    timeout = ~reordered & ~fast & (repeated == 0) & (delay >= RTO)
    flags[item] |= np.where(reordered, TcpFlag.OUT_OF_ORDER, TcpFlag.RETRANSMISSION).astype("u2")
    for bit, mask in (
        (TcpFlag.FILL, fill > 0),
        (TcpFlag.FAST, fast),
        (TcpFlag.TIMEOUT, timeout),
        (TcpFlag.SPURIOUS, spurious),
    ):
        flags[item[mask]] |= bit


def _repetitions(h: Headers, duplicate_acks: I64, item: I64) -> I64:
    """How many duplicate ACKs have repeated the acknowledgement of some packets, up to them."""
    if not len(duplicate_acks):
        return np.zeros(len(item), np.int64)
    key = h.line.run[duplicate_acks], h.ack[duplicate_acks]
    heads = run_starts(*key)
    behind = np.searchsorted(duplicate_acks, item, side="right")
    last = np.maximum(behind - 1, 0)
    head = heads[np.searchsorted(heads, last, side="right") - 1]
    same = (behind > 0) & (key[0][last] == h.line.run[item]) & (key[1][last] == h.ack[item])
    return np.where(same, behind - head, 0)


def _flows(batch: FlowBatch, h: Headers, below: Below, shakes: Handshakes, flags: U16) -> TcpFlows:
    """Sum up flows and measure their round trips."""
    n = len(h.order.first)

    def per_flow(items: I64, weights: I64 | None = None) -> I64:
        sums = np.bincount(h.order.direction[items], weights, minlength=n)
        return sums.astype(np.int64, copy=False).reshape(-1, 2)

    marked = np.flatnonzero(flags)
    counts = {
        name: per_flow(marked[flags[marked] & 1 << bit != 0])
        for bit, name in enumerate(TcpFlag.NAMES)
    }
    moved = flags[below.item] & (TcpFlag.RETRANSMISSION | TcpFlag.OUT_OF_ORDER) != 0
    trips = data_round_trips(h, below.low[moved], below.high[moved])
    again = flags[below.item] & TcpFlag.RETRANSMISSION != 0
    old = np.minimum(below.high - below.low, h.payload[below.item])
    hole = marked[flags[marked] & TcpFlag.HOLE != 0]
    # Karn's rule: which of several copies was answered cannot be known.
    times = np.stack([shakes.server, shakes.client], axis=1)
    asked = np.stack([shakes.syn, shakes.syn_ack], axis=1)
    unknown = (times < 0) | (flags[asked] & TcpFlag.RETRANSMISSION != 0 if len(flags) else True)
    return TcpFlows(
        batch.flows.protocol == TCP,
        counts,
        per_flow(below.item[again], old[again]),
        per_flow(hole, h.line.begin[hole] - h.line.before[hole]),
        trips.samples.reshape(-1, 2),
        trips.minimum.reshape(-1, 2),
        trips.median.reshape(-1, 2),
        np.where(unknown, np.nan, times / MILLISECOND),
    )
