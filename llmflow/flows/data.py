"""What packets carry: new data up or down, acknowledgements, nothing new."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import I64, Bool
from llmflow.capture.columns import FIN, RST, SYN, TCP, UDP
from llmflow.flows.batch import FlowBatch, FlowPackets
from llmflow.flows.sequence import Order, sequence_line

# Smallest UDP payload that counts as data. Below it lie QUIC packets that only acknowledge: about
# 33 or exactly 45 bytes up, under 40 bytes down in real captures.
UDP_DATA_UP, UDP_DATA_DOWN = 70, 40


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
