"""Who began a flow, and why we believe so.

One list of rules, strongest first; the first that says something decides:

1. ``syn``: the sender of the first SYN, or the receiver of the first SYN-ACK (RFC 9293).
2. ``client-hello``: the sender of the first TLS ClientHello, or of the first QUIC long-header
   packet if that was the flow's first packet.
3. ``port``: the side without a service port talks to the side with one.
4. ``first-packet``: the sender of the first packet.
"""

from __future__ import annotations

import numpy as np

from llmflow.arrays import I64, U8, U16, Bool
from llmflow.capture.columns import (
    ACK,
    HINT_CLIENT_HELLO,
    HINT_QUIC_LONG,
    SYN,
    TCP,
    PacketColumns,
)


class Basis:
    """Why a side is taken for the client."""

    SYN, CLIENT_HELLO, PORT, FIRST_PACKET = 1, 2, 3, 4
    NAMES = ("", "syn", "client-hello", "port", "first-packet")


# System ports (RFC 6335), and common ports of web, proxy and model servers above them.
_SYSTEM = 1024
_SERVICES = np.array(
    [1080, 1194, 1433, 1521, 1883, 3000, 3128, 3306, 3389, 4433, 5000, 5060, 5061, 5222, 5228,
     5432, 5900, 6379, 8000, 8008, 8080, 8081, 8443, 8883, 8888, 9000, 9092, 9443, 11434, 27017],
    np.uint16,
)  # fmt: skip


def is_service(port: U16) -> Bool:
    """Whether a port belongs to a service rather than to a client."""
    known: Bool = ((port > 0) & (port < _SYSTEM)) | np.isin(port, _SERVICES)
    return known


def initiator(packets: PacketColumns, forward: Bool, first: I64) -> tuple[Bool, U8]:
    """Tell the client of each run of packets.

    Parameters
    ----------
    packets : PacketColumns
        Packets of one flow after the other, each in order of time.
    forward : ndarray of bool
        Whether a packet was sent by endpoint *a*.
    first : ndarray of int64, shape (runs,)
        Where the runs begin.

    Returns
    -------
    client_is_a : ndarray of bool, shape (runs,)
    basis : ndarray of uint8, shape (runs,)
        See :class:`Basis`.
    """
    n = len(packets)
    tcp = packets.protocol == TCP
    handshake = packets.flags & (SYN | ACK)
    opens = tcp & (handshake == SYN)
    answers = tcp & (handshake == SYN | ACK)
    leads = np.zeros(n, np.bool_)
    leads[first] = True
    hello = (packets.hint & HINT_CLIENT_HELLO != 0) | ((packets.hint & HINT_QUIC_LONG != 0) & leads)
    service_source, service_target = is_service(packets.src_port), is_service(packets.dst_port)
    rules = [
        (opens | answers, forward ^ answers, Basis.SYN),
        (hello, forward, Basis.CLIENT_HELLO),
        (leads & (service_source != service_target), forward ^ service_source, Basis.PORT),
        (leads, forward, Basis.FIRST_PACKET),
    ]
    client_is_a = np.zeros(len(first), np.bool_)
    basis = np.zeros(len(first), np.uint8)
    index = np.arange(n)
    for applies, sent_by_client_a, name in rules:
        earliest = np.minimum.reduceat(np.where(applies, index, n), first)
        decides = np.flatnonzero((earliest < n) & (basis == 0))
        client_is_a[decides] = sent_by_client_a[earliest[decides]]
        basis[decides] = name
    return client_is_a, basis
