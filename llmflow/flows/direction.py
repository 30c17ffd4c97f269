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

from llmflow.arrays import I64, U8, U16, Bool, run_mask
from llmflow.capture.columns import ACK, HINT_CLIENT_HELLO, HINT_QUIC_LONG, SYN


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


def initiator(
    flags: U8, hint: U8, forward: Bool, first: I64, a_port: U16, b_port: U16
) -> tuple[Bool, U8]:
    """Tell the client of each run of packets.

    Parameters
    ----------
    flags, hint : ndarray of uint8, shape (packets,)
        TCP flags (0 for other protocols) and ``HINT_*`` bits; one flow after the other, each in
        order of time.
    forward : ndarray of bool, shape (packets,)
        Whether a packet was sent by endpoint *a*.
    first : ndarray of int64, shape (runs,)
        Where the runs begin.
    a_port, b_port : ndarray of uint16, shape (runs,)
        Ports of the endpoints.

    Returns
    -------
    client_is_a : ndarray of bool, shape (runs,)
    basis : ndarray of uint8, shape (runs,)
        See :class:`Basis`.
    """
    handshake = flags & (SYN | ACK)
    answers = handshake == SYN | ACK
    hello = hint & HINT_CLIENT_HELLO != 0
    hello[first] |= hint[first] & HINT_QUIC_LONG != 0
    # Weakest rule first; a stronger one overwrites it.
    client_is_a = forward[first].copy()
    basis = np.full(len(first), Basis.FIRST_PACKET, np.uint8)
    a_serves, b_serves = is_service(a_port), is_service(b_port)
    one = a_serves != b_serves
    client_is_a[one], basis[one] = b_serves[one], Basis.PORT
    rules = [
        (hello, forward, Basis.CLIENT_HELLO),
        ((handshake == SYN) | answers, forward ^ answers, Basis.SYN),
    ]
    for applies, by_a, name in rules:
        rows = np.flatnonzero(applies)
        run = np.searchsorted(first, rows, side="right") - 1
        earliest = run_mask(run)
        client_is_a[run[earliest]] = by_a[rows[earliest]]
        basis[run[earliest]] = name
    return client_is_a, basis
