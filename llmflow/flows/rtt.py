"""Round-trip times as the tap sees them: of handshakes, and from data to its acknowledgement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import F64, I64, U8, U16, U32, run_counts, run_starts
from llmflow.capture.columns import ACK, SYN
from llmflow.flows.sequence import Line, Order

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
    """Times from data packets to the ACK that ends with their last byte.

    Parameters
    ----------
    h : Headers
    again_begin, again_end : ndarray of int64
        Ranges on the line that were sent again or came out of order. An ACK that newly
        acknowledges any of it tells nothing (Karn's rule; and what waited behind a hole is
        acknowledged late).
    """
    sent, acked, gain = _acknowledged(h)
    touched = np.zeros(len(h.line.starts), np.bool_)
    again = np.searchsorted(h.line.highest, again_end)
    touched[h.line.run[again]] = True
    doubtful = np.flatnonzero(touched[h.line.run[sent]])
    end = h.line.end[sent[doubtful]]
    base = h.line.begin[h.line.starts[h.line.run[sent[doubtful]]]]
    begin = np.maximum(end - gain[doubtful], base)
    opened = np.searchsorted(np.sort(again_begin), end)
    closed = np.searchsorted(np.sort(again_end), begin, "right")
    clean = np.ones(len(sent), np.bool_)
    clean[doubtful] = opened == closed
    rtt = h.time[acked] - h.time[sent]
    clean &= rtt >> _LONGEST == 0

    directions = len(h.order.first)
    packed = h.order.direction[sent] << _LONGEST | rtt
    packed = np.sort(packed[clean])
    direction, rtt = packed >> _LONGEST, packed & ((1 << _LONGEST) - 1)
    first = run_starts(direction)
    some, many = direction[first], run_counts(first, len(direction))
    count = np.zeros(directions, np.int64)
    minimum, median = np.full((2, directions), np.nan)
    count[some] = many
    minimum[some] = rtt[first] / MILLISECOND
    middle = rtt[first + (many - 1) // 2] + rtt[first + many // 2]
    median[some] = middle / (2 * MILLISECOND)
    return RoundTrips(count, minimum, median)


def _acknowledged(h: Headers) -> tuple[I64, I64, I64]:
    """Data packets, the ACKs that end with them, and how many bytes each newly acknowledges.

    Such an ACK is beyond that of the packet in front of it in its direction.
    """
    line = h.line
    forward = np.zeros(len(h.ack), np.bool_)
    forward[1:] = np.diff(h.ack).view(np.int32) > 0
    forward[h.order.first[h.order.size > 0]] = False
    acked = np.flatnonzero(forward)
    acked = acked[h.flags[acked - 1] & h.flags[acked] & ACK != 0]
    latest, there = h.order.opposite(acked)
    acked, latest = acked[there], latest[there]
    ack = h.ack[acked]
    ends = line.begin[latest] + (ack - h.seq[latest]).view(np.int32)
    # The packet that brought the last byte first is mostly the latest one.
    sent = latest.copy()
    other = np.flatnonzero((line.end[latest] != ends) | (line.before[latest] >= ends))
    sent[other] = np.searchsorted(line.highest, ends[other])
    within = (sent <= latest) & (line.begin[line.starts[line.run[latest]]] < ends)
    acked, sent, ends, ack = (column[within] for column in (acked, sent, ends, ack))
    exact = (line.end[sent] == ends) & (line.begin[sent] >= line.before[sent])
    exact &= h.payload[sent] > 0
    acked, sent, ack = acked[exact], sent[exact], ack[exact]
    return sent, acked, (ack - h.ack[acked - 1]).astype(np.int64)
