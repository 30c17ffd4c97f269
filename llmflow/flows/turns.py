"""Flows to turns: which packets carry new data, and where a request begins a new reply.

The definitions are those of docs/definitions.md. In short: a *turn* begins with an uplink burst of
at least ``REQUEST_BYTES`` that falls into a downlink silence of at least ``TURN_SILENCE``; uploads
while the reply streams (telemetry) therefore do not begin one. A flow without any uplink packet
(a one-way capture) is cut at downlink silences alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import (
    F64,
    I64,
    Bool,
    row_sums,
    run_counts,
    run_end_mask,
    run_mask,
    run_starts,
)
from llmflow.capture.columns import (
    FIN,
    HINT_CLIENT_HELLO,
    HINT_QUIC_LONG,
    RST,
    SYN,
    TCP,
    UDP,
    Columns,
)
from llmflow.flows.batch import NANOSECOND, FlowBatch, FlowPackets
from llmflow.flows.sequence import Order, sequence_line

# Smallest UDP payload that counts as data. Below it lie QUIC packets that only acknowledge: about
# 33 or exactly 45 bytes up, under 40 bytes down in real captures.
UDP_DATA_UP, UDP_DATA_DOWN = 70, 40

REQUEST_BYTES = 200  # excludes HTTP/2 WINDOW_UPDATE, PING and the like
TURN_SILENCE = NANOSECOND // 2  # downlink silence around a request
BURST_SILENCE = NANOSECOND  # uplink data further apart belongs to two bursts
ONE_WAY_SILENCE = 2 * NANOSECOND


@dataclass(frozen=True, slots=True)
class Data:
    """What a packet carries, per packet of a batch.

    Parameters
    ----------
    new : ndarray of int64
        New application bytes: the payload less what was sent before (retransmissions, keep-alive
        probes), 0 for QUIC packets that only acknowledge.
    up, down : ndarray of bool
        Carries new data to the server, to the client.
    ack : ndarray of bool
        Uplink packet without data: a pure TCP acknowledgement or a small UDP packet.
    flow : ndarray of int64
        Row of the packet's flow in the batch.
    """

    new: I64
    up: Bool
    down: Bool
    ack: Bool
    flow: I64


def find_data(batch: FlowBatch) -> Data:
    """Tell data from retransmissions and acknowledgements, in all packets of a batch."""
    p = batch.packets
    flow = np.repeat(np.arange(len(batch.flows)), batch.flows.packets)
    new = np.zeros(len(p), np.int64)
    udp = p.protocol == UDP
    smallest = np.where(p.up, UDP_DATA_UP, UDP_DATA_DOWN)
    new[udp] = np.where(p.payload >= smallest, p.payload, 0)[udp]
    order = Order.of(batch, np.flatnonzero((p.protocol == TCP) & (p.payload > 0)))
    new[order.row] = _new_bytes(p, order)
    quiet = (p.protocol == TCP) & (p.payload == 0) & (p.flags & (SYN | FIN | RST) == 0)
    return Data(
        new,
        up=p.up & (new > 0),
        down=~p.up & (new > 0),
        ack=p.up & (quiet | (udp & (p.payload < UDP_DATA_UP))),
        flow=flow,
    )


def _new_bytes(p: FlowPackets, order: Order) -> I64:
    """Bytes above the highest sequence number seen so far, per direction of a flow (RFC 9293)."""
    payload = p.payload[order.row]
    line = sequence_line(p.seq[order.row], payload, order.first[order.size > 0])
    new: I64 = np.clip(line.end - np.maximum(line.before, line.begin), 0, payload)
    return new


@dataclass(frozen=True, slots=True)
class Turns(Columns):
    """One row per turn with at least one downlink data packet, flow by flow, in order of time.

    ``row`` and ``stop`` bound the turn's packets in the batch; ``request`` is the first packet of
    the request (equal to ``row`` where none was seen); ``reply`` and ``reply_last`` are the first
    and last downlink data packet. ``request_bytes`` are the new uplink bytes in front of the reply,
    ``wait`` the seconds from the last of them to the reply: both NaN where no request was seen.
    """

    flow: I64
    number: I64
    row: I64
    stop: I64
    request: I64
    reply: I64
    reply_last: I64
    request_bytes: F64
    wait: F64


def _requests(p: FlowPackets, data: Data) -> I64:
    """First packets of the uplink bursts that begin a turn."""
    rows = np.flatnonzero(data.up | data.down)
    if not len(rows):
        return rows
    flow, up, time = data.flow[rows], data.up[rows], p.time[rows]
    # Bursts: uplink data without downlink data or a long silence in between.
    apart = np.diff(time, prepend=time[:1]) > BURST_SILENCE
    beginning = up & (run_mask(flow, up) | apart)
    begins = np.flatnonzero(beginning)
    if not len(begins):
        return begins
    burst = np.maximum(np.cumsum(beginning) - 1, 0)
    size = row_sums(np.where(up, data.new[rows], 0), burst, len(begins))
    # The downlink silence around each burst.
    index = np.arange(len(rows))
    before = np.maximum.accumulate(np.where(up, -1, index))[begins]
    after = np.minimum.accumulate(np.where(up, len(rows), index)[::-1])[::-1][begins]
    has_before = (before >= 0) & (flow[np.maximum(before, 0)] == flow[begins])
    has_after = (after < len(rows)) & (flow[np.minimum(after, len(rows) - 1)] == flow[begins])
    silence = time[np.minimum(after, len(rows) - 1)] - time[np.maximum(before, 0)]
    alone = ~has_before | (silence >= TURN_SILENCE)
    chosen = np.flatnonzero((size >= REQUEST_BYTES) & has_after & alone)
    # Of several bursts in one silence the last is the request.
    return rows[begins[chosen[run_end_mask(after[chosen])]]]


def _is_hello(p: FlowPackets, rows: I64) -> Bool:
    """Whether packets begin a TLS or QUIC handshake."""
    hello: Bool = p.hint[rows] & (HINT_CLIENT_HELLO | HINT_QUIC_LONG) != 0
    return hello


def _one_way_cuts(p: FlowPackets, data: Data, flows: int) -> I64:
    """Cuts at long downlink silences, in flows that show no uplink packet at all."""
    blind = row_sums(p.up, data.flow, flows) == 0
    rows = np.flatnonzero(data.down & blind[data.flow])
    silent = np.diff(p.time[rows], prepend=p.time[rows[:1]]) > ONE_WAY_SILENCE
    return rows[silent & ~run_mask(data.flow[rows])]


def find_turns(batch: FlowBatch, data: Data) -> Turns:
    """Cut the flows of a batch into turns.

    Returns
    -------
    Turns
        Turns in which the server sent data; numbered from 0 in each flow.
    """
    p, n = batch.packets, len(batch.packets)
    requests = _requests(p, data)
    # A TLS or QUIC handshake is no request if one follows: it is the front of that turn.
    fronts = _is_hello(p, requests) & ~run_end_mask(data.flow[requests])
    fronted = np.zeros_like(fronts)
    fronted[1:] = fronts[:-1]
    cut = np.zeros(n, np.bool_)
    cut[requests[~fronted]] = True
    # Packets without data in front of a flow's first data belong to its turn.
    carries = np.flatnonzero(data.up | data.down)
    cut[carries[run_mask(data.flow[carries])]] = False
    cut[batch.flows.first] = True
    requests = requests[~fronts]
    cut[_one_way_cuts(p, data, len(batch.flows))] = True
    row = np.flatnonzero(cut)
    turn_of = np.cumsum(cut) - 1

    request = row.copy()
    asked = np.zeros(len(row), np.bool_)
    request[turn_of[requests]] = requests
    asked[turn_of[requests]] = True
    down = np.flatnonzero(data.down)
    starts = run_starts(turn_of[down])
    has = turn_of[down[starts]]  # turns in which the server sent data
    flow = data.flow[row[has]]
    begin = run_starts(flow)
    number = np.arange(len(flow)) - np.repeat(begin, run_counts(begin, len(flow)))
    # The reply is what follows the request; a handshake in front of it is none.
    reply = down[np.maximum(starts, np.searchsorted(down, request[has]))]
    reply_last = down[run_end_mask(turn_of[down])]
    # Uplink data between the request and the reply, by differences of running totals.
    total = np.concatenate([[0], np.cumsum(np.where(data.up, data.new, 0))])
    size = total[reply] - total[request[has]]
    latest = np.maximum.accumulate(np.where(data.up, np.arange(n), -1))[reply]
    wait = (p.time[reply] - p.time[latest]) / NANOSECOND
    seen = asked[has] & (size > 0)
    return Turns(
        flow,
        number,
        row[has],
        np.append(row[1:], n)[has],
        request[has],
        reply,
        reply_last,
        request_bytes=np.where(seen, size, np.nan),
        wait=np.where(seen, wait, np.nan),
    )
