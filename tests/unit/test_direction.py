"""Who began a flow: one test per rule, and their order."""

from __future__ import annotations

import numpy as np
import pytest

from llmflow.capture.columns import (
    ACK,
    HINT_CLIENT_HELLO,
    HINT_QUIC_LONG,
    HINT_SERVER_HELLO,
    SYN,
    TCP,
    UDP,
)
from llmflow.flows.direction import Basis, is_service
from tests.builders import SECOND, START, Packet, assemble, number

X, Y = ("192.0.2.10", 50000), ("198.51.100.20", 51000)  # neither port belongs to a service
WEB = ("198.51.100.20", 443)
End = tuple[str, int]


def told(*packets: tuple[End, End, int, int], protocol: int = TCP) -> tuple[End, int]:
    """Client and basis of the one flow of (source, target, flags, hint), a second apart."""
    rows = [
        Packet(START + i * SECOND, *source, *target, protocol, flags, hint=hint)
        for i, (source, target, flags, hint) in enumerate(packets)
    ]
    flows = assemble(rows).flows
    assert len(flows) == 1
    client = (int(flows.client.high[0]) << 64 | int(flows.client.low[0]), int(flows.client.port[0]))
    names = {(number(end[0]), end[1]): end for p in packets for end in p[:2]}
    return names[client], int(flows.basis[0])


@pytest.mark.parametrize(("one", "other"), [(X, Y), (Y, X)])
def test_syn_sender_is_the_client(one: End, other: End) -> None:
    """A SYN decides, though the other side was heard first and sent a ClientHello."""
    rows = [(other, one, ACK, HINT_CLIENT_HELLO), (one, other, SYN, 0)]
    assert told(*rows) == (one, Basis.SYN)


@pytest.mark.parametrize(("one", "other"), [(X, Y), (Y, X)])
def test_syn_ack_receiver_is_the_client(one: End, other: End) -> None:
    """A capture that begins with the answer to a SYN still knows who asked."""
    assert told((other, one, SYN | ACK, 0), (one, other, ACK, 0)) == (one, Basis.SYN)


@pytest.mark.parametrize(("one", "other"), [(X, Y), (Y, X)])
def test_client_hello_sender_is_the_client(one: End, other: End) -> None:
    """Without a SYN the ClientHello decides, though the other side was heard first."""
    rows = [(other, one, ACK, 0), (one, other, ACK, HINT_CLIENT_HELLO)]
    assert told(*rows) == (one, Basis.CLIENT_HELLO)


def test_client_hello_outweighs_the_port() -> None:
    """A client that itself sits on a service port is known by its ClientHello."""
    assert told((WEB, X, ACK, HINT_CLIENT_HELLO)) == (WEB, Basis.CLIENT_HELLO)


def test_server_hello_says_nothing() -> None:
    """A ServerHello is no ClientHello: the first packet decides."""
    assert told((Y, X, ACK, HINT_SERVER_HELLO)) == (Y, Basis.FIRST_PACKET)


def test_quic_long_header_decides_as_first_packet() -> None:
    """The sender of a QUIC long-header packet that opens the flow is the client."""
    assert told((X, Y, 0, HINT_QUIC_LONG), protocol=UDP) == (X, Basis.CLIENT_HELLO)


def test_later_quic_long_header_says_nothing() -> None:
    """Servers send long headers too: a later one does not decide."""
    rows = [(X, Y, 0, 0), (Y, X, 0, HINT_QUIC_LONG)]
    assert told(*rows, protocol=UDP) == (X, Basis.FIRST_PACKET)


@pytest.mark.parametrize("rows", [[(WEB, X)], [(X, WEB)]])
def test_side_without_service_port_is_the_client(rows: list[tuple[End, End]]) -> None:
    """Whichever side is heard first, the one off the service port is the client."""
    assert told(*((s, t, ACK, 0) for s, t in rows)) == (X, Basis.PORT)


def test_two_service_ports_say_nothing() -> None:
    """Between two service ports (NTP, mail relays) the first packet decides."""
    a, b = ("192.0.2.10", 123), ("198.51.100.20", 123)
    assert told((b, a, 0, 0), protocol=UDP) == (b, Basis.FIRST_PACKET)


@pytest.mark.parametrize(("one", "other"), [(X, Y), (Y, X)])
def test_first_sender_is_the_client_of_last_resort(one: End, other: End) -> None:
    """With nothing else to go by the first packet decides."""
    assert told((one, other, ACK, 0), (other, one, ACK, 0)) == (one, Basis.FIRST_PACKET)


def test_tcp_flags_count_for_tcp_only() -> None:
    """Flag bits of another protocol's row do not make a SYN."""
    assert told((Y, X, 0, 0), (X, Y, SYN, 0), protocol=UDP) == (Y, Basis.FIRST_PACKET)


def test_service_ports() -> None:
    """System ports and a few well-known higher ones are services; 0 and ephemeral ones are not."""
    ports = np.array([0, 1, 443, 1023, 1024, 8080, 11434, 32768, 50000], np.uint16)
    expected = [False, True, True, True, False, True, True, False, False]
    assert is_service(ports).tolist() == expected
