"""Round-trip times as the tap sees them: of handshakes, and from data to its acknowledgement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import F64, I64, U8, U16, U32, run_starts
from llmflow.capture.columns import ACK, SYN
from llmflow.flows.sequence import Line, Order, sequence_line

MILLISECOND = 1_000_000
_LONGEST = 36  # bits of the longest round trip, in ns: RFC 6298 waits no more than a minute


@dataclass(frozen=True, slots=True)
class Headers:
    """TCP headers of some packets, direction by direction (see :class:`Order`).

    ``length`` counts sequence numbers: payload, SYN and FIN.
    """

    order: Order
    time: I64
    seq: U32
    ack: U32
    window: U16
    flags: U8
    payload: I64
    length: I64
    line: Line


@dataclass(frozen=True, slots=True)
class Handshakes:
    """Handshakes, one row per flow; times in ns, -1 where not seen.

    Parameters
    ----------
    server, client : ndarray of int64
        From the latest SYN to the first SYN-ACK, and from there to the client's next packet.
    syn, syn_ack : ndarray of int64
        Items of that SYN, and of the latest SYN-ACK in front of the client's packet; 0 where not
        seen.
    """

    server: I64
    client: I64
    syn: I64
    syn_ack: I64

    @property
    def whole(self) -> I64:
        """From SYN to the end of the handshake, -1 where not seen."""
        return np.where((self.server >= 0) & (self.client >= 0), self.server + self.client, -1)


def find_handshakes(h: Headers) -> Handshakes:
    """Find the handshakes at the start of flows."""
    first, size = h.order.first, h.order.size
    server, client = np.full((2, len(first) // 2), -1)
    syns, syn_acks = np.zeros((2, len(first) // 2), np.int64)
    flow = np.flatnonzero((size[::2] > 0) & (size[1::2] > 0))
    reply = first[1::2][flow]
    flow, reply = (x[h.flags[reply] & (SYN | ACK) == SYN | ACK] for x in (flow, reply))
    syn, seen = h.order.opposite(reply)
    seen &= h.flags[syn] & (SYN | ACK) == SYN
    # With TCP Fast Open (RFC 7413) the SYN carries data.
    seen &= h.ack[reply] - h.seq[syn] - np.uint32(1) <= h.payload[syn]
    flow, reply, syn = flow[seen], reply[seen], syn[seen]
    server[flow], syns[flow] = h.time[reply] - h.time[syn], syn
    after = syn + 1
    seen = after < (first + size)[::2][flow]
    flow, reply, after = flow[seen], reply[seen], after[seen]
    seen = (h.flags[after] & ACK != 0) & (h.ack[after] - h.seq[reply] == 1)
    flow, reply, after = flow[seen], reply[seen], after[seen]
    client[flow], syn_acks[flow] = h.time[after] - h.time[reply], h.order.opposite(after)[0]
    return Handshakes(server, client, syns, syn_acks)


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """Data→ACK times of each direction: shape (2 * flows,), ms, NaN without a sample."""

    samples: I64
    minimum: F64
    median: F64


def data_round_trips(h: Headers, again_begin: I64, again_end: I64) -> RoundTrips:
    """Times from data packets to the ACK of their last byte.

    Parameters
    ----------
    h : Headers
    again_begin, again_end : ndarray of int64
        Ranges on the line that were sent again or came out of order. An ACK that newly
        acknowledges any of it tells nothing (Karn's rule; and what waited behind a hole is
        acknowledged late).
    """
    sent, acked = _samples(h, np.sort(again_begin), np.sort(again_end))
    rtt = h.time[acked] - h.time[sent]
    sent, rtt = (column[rtt >> _LONGEST == 0] for column in (sent, rtt))
    directions = len(h.order.first)
    packed = h.order.direction(sent) << _LONGEST | rtt
    packed.sort()
    direction, rtt = packed >> _LONGEST, packed & ((1 << _LONGEST) - 1)
    count = np.bincount(direction, minlength=directions)
    some = np.flatnonzero(count)
    first, many = run_starts(direction), count[some]
    minimum, median = np.full(directions, np.nan), np.full(directions, np.nan)
    minimum[some] = rtt[first] / MILLISECOND
    middle = rtt[first + (many - 1) // 2] + rtt[first + many // 2]
    median[some] = middle / (2 * MILLISECOND)
    return RoundTrips(count, minimum, median)


def _samples(h: Headers, again_begin: I64, again_end: I64) -> tuple[I64, I64]:
    """Items of data packets, and of the ACKs that end exactly with them and come first."""
    line = h.line
    moved = np.ones(len(h.ack), np.bool_)
    moved[1:] = h.ack[1:] != h.ack[:-1]
    acked = np.flatnonzero(moved & (h.flags & (ACK | SYN) == ACK))
    latest, there = h.order.opposite(acked)
    acked, latest = acked[there], latest[there]
    run = line.run(latest)
    heads = run_starts(run, acked > latest)
    # Where each ACK stands on the line of what it acknowledges, and how much of it is new.
    ends = line.begin[latest] + (h.ack[acked] - h.seq[latest]).view(np.int32)
    acks = sequence_line(h.ack[acked], np.zeros(len(acked), np.int64), heads)
    gain = acks.begin - acks.before
    sent = np.searchsorted(line.highest, ends)
    exact = (line.starts[run] <= sent) & (sent <= latest)
    sent = np.minimum(sent, latest)
    exact &= (line.end[sent] == ends) & (line.begin[sent] >= line.before[sent])
    exact &= h.payload[sent] > 0
    # The first ACK of a run may acknowledge anything; its packet at least is new.
    gain[heads] = h.length[sent[heads]]
    exact &= gain > 0
    again = np.searchsorted(again_begin, ends) - np.searchsorted(again_end, ends - gain, "right")
    exact &= again == 0
    return sent[exact], acked[exact]
