"""The reference lane: every IP and transport header, and a reason for every refusal.

Link types, tags and tunnels are in ``test_layers``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from llmflow.capture.account import (
    FRAGMENT,
    MALFORMED,
    NOT_IP,
    TRUNCATED_PACKET,
    UNKNOWN_LINK_TYPE,
)
from llmflow.capture.columns import (
    ACK,
    HINT_CLIENT_HELLO,
    HINT_QUIC_LONG,
    HINT_SERVER_HELLO,
    PSH,
    SYN,
    TCP,
    UDP,
)
from llmflow.capture.dpkt_lane import decode
from llmflow.capture.records import NO_TIME, Records
from tests.builders import (
    CLIENT,
    CLIENT6,
    SERVER,
    SERVER6,
    START,
    ethernet,
    ipv4,
    ipv6,
    number,
    tcp,
    udp,
)

IPV4 = ipv4(tcp(b"hello", seq=5, ack=6, window=7, flags=PSH | ACK))
IPV6 = ipv6(tcp(b"hello"))


def one(
    frame: bytes, *, link: int = 1, kept: int | None = None, time: int = START, position: int = 0
) -> tuple[dict[str, Any], str]:
    """The row of one frame, or the reason why it has none; ``kept`` bytes of it were captured."""
    captured = frame[:kept]
    records = Records.from_rows([(3, len(captured), len(frame), time, link)])
    packets, skipped = decode(b"xyz" + captured + b"xyz", records, position)
    assert len(packets) + skipped.total() == 1
    if skipped:
        return {}, next(iter(skipped))
    return {name: getattr(packets, name)[0].item() for name in packets.names()}, ""


def row(frame: bytes, **how: int) -> dict[str, Any]:
    """The row of a frame that must have one."""
    found, reason = one(frame, **how)
    assert reason == ""
    return found


def reason(frame: bytes, **how: int) -> str:
    """The reason why a frame has no row."""
    return one(frame, **how)[1]


def test_every_column_of_a_tcp_packet() -> None:
    """All fields of an IPv4 TCP packet come from the place where the RFCs put them."""
    assert row(ethernet(IPV4), position=41) == {
        "time": START,
        "src_hi": 0,
        "src_lo": number(CLIENT),
        "dst_hi": 0,
        "dst_lo": number(SERVER),
        "src_port": 50000,
        "dst_port": 443,
        "protocol": TCP,
        "flags": PSH | ACK,
        "ip_bytes": 45,
        "payload": 5,
        "seq": 5,
        "ack": 6,
        "window": 7,
        "hint": 0,
        "vlan": 0,
        "vlan_inner": 0,
        "tunnel": 0,
        "tunnel_id": 0,
        "payload_at": 54,
        "captured": 5,
        "position": 41,
    }


def test_every_column_of_a_udp_packet_over_ipv6() -> None:
    """UDP has no flags and numbers; IPv6 addresses are kept whole."""
    found = row(ethernet(ipv6(udp(b"hello!"), protocol=UDP), ethertype=0x86DD))
    assert found["src_hi"] << 64 | found["src_lo"] == number(CLIENT6)
    assert found["dst_hi"] << 64 | found["dst_lo"] == number(SERVER6)
    assert (found["src_port"], found["dst_port"], found["protocol"]) == (50000, 443, UDP)
    assert (found["ip_bytes"], found["payload"]) == (54, 6)
    others = "flags", "seq", "ack", "window", "hint", "vlan", "vlan_inner", "tunnel", "tunnel_id"
    assert not any(found[name] for name in others)


def sll(ethertype: int) -> bytes:
    """Header of Linux cooked capture."""
    return bytes(14) + struct.pack(">H", ethertype)


def sll2(ethertype: int) -> bytes:
    """Header of Linux cooked capture, version 2."""
    return struct.pack(">H", ethertype) + bytes(18)


def test_unknown_link_type() -> None:
    """A link type that the lane does not know is counted as such."""
    assert reason(ethernet(IPV4), link=147) == UNKNOWN_LINK_TYPE


@pytest.mark.parametrize("link", [113, 276])
def test_vlan_tags_in_cooked_captures(link: int) -> None:
    """Cooked captures hold tags, too."""
    header = {113: sll, 276: sll2}[link](0x8100)
    assert row(header + struct.pack(">HH", 9, 0x0800) + IPV4, link=link)["vlan"] == 9


def test_vlan_tag_cut_by_the_snaplen() -> None:
    """A frame cut inside its tags is truncated, like one cut inside any other header."""
    assert reason(ethernet(IPV4, tags=[7]), kept=16) == TRUNCATED_PACKET


@pytest.mark.parametrize(
    ("frame", "link"),
    [
        (ethernet(bytes(46), ethertype=0x0806), 1),
        (ethernet(bytes(46), ethertype=0x88CC), 1),
        (ethernet(bytes(46), ethertype=38), 1),  # IEEE 802.3 length: spanning tree
        (ethernet(bytes(46), ethertype=0x0806, tags=[5]), 1),
        (sll(0x0806) + bytes(28), 113),
        (b"\x07\0\0\0" + bytes(28), 0),
        (b"\x00" * 40, 101),
    ],
)
def test_not_ip(frame: bytes, link: int) -> None:
    """ARP, LLDP, spanning tree and their like are no damage, just not IP."""
    assert reason(frame, link=link) == NOT_IP


@pytest.mark.parametrize("kept", [54, 60, 64, 96, 1000])
def test_snaplen_keeps_wire_lengths(kept: int) -> None:
    """Lengths come from the headers: a packet cut behind them counts in full."""
    found = row(ethernet(ipv4(tcp(bytes(1400)))), kept=kept)
    assert (found["ip_bytes"], found["payload"]) == (1440, 1400)


def test_snaplen_inside_tcp_options() -> None:
    """TCP options need not be captured for the payload length to be right."""
    segment = tcp(bytes(100), options=bytes(12))
    assert row(ethernet(ipv4(segment)), kept=54)["payload"] == 100


@pytest.mark.parametrize("kept", range(14, 54))
def test_snaplen_inside_the_headers(kept: int) -> None:
    """A packet cut inside its IPv4 or TCP header is counted as truncated."""
    assert reason(ethernet(ipv4(tcp(bytes(1400)))), kept=kept) == TRUNCATED_PACKET


@pytest.mark.parametrize("kept", [*range(14, 62)])
def test_snaplen_inside_ipv6_and_udp(kept: int) -> None:
    """A packet cut inside its IPv6 or UDP header is counted as truncated."""
    frame = ethernet(ipv6(udp(bytes(1200)), protocol=UDP), ethertype=0x86DD)
    assert reason(frame, kept=kept) == TRUNCATED_PACKET


def test_ethernet_padding_is_no_payload() -> None:
    """Short frames are padded to 60 bytes; the padding is not counted."""
    found = row(ethernet(ipv4(tcp()) + bytes(6)))
    assert (found["ip_bytes"], found["payload"]) == (40, 0)


def test_ipv4_options() -> None:
    """IPv4 options move the TCP header."""
    found = row(ethernet(ipv4(tcp(b"hello"), options=bytes(8))))
    assert (found["src_port"], found["ip_bytes"], found["payload"]) == (50000, 53, 5)


def test_tcp_options() -> None:
    """TCP options are no payload."""
    assert row(ethernet(ipv4(tcp(b"hello", flags=SYN, options=bytes(20)))))["payload"] == 5


@pytest.mark.parametrize("six", [False, True])
def test_offloaded_length_of_zero(six: bool) -> None:
    """Segmentation offload leaves the IP length at 0: the frame's length rules, cut or not."""
    packet = (ipv6 if six else ipv4)(tcp(bytes(70000)), length=0)
    frame = ethernet(packet, ethertype=0x86DD if six else 0x0800)
    for kept in (None, 100):
        found = row(frame, kept=kept) if kept else row(frame)
        assert (found["ip_bytes"], found["payload"]) == (len(packet), 70000)


EXTENSIONS: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "hop-by-hop": (0, lambda nxt: bytes([nxt, 0]) + bytes(6)),
    "long destination options": (60, lambda nxt: bytes([nxt, 2]) + bytes(22)),
    "routing": (43, lambda nxt: bytes([nxt, 0]) + bytes(6)),
    "first fragment": (44, lambda nxt: bytes([nxt, 0, 0, 1]) + bytes(4)),
    "authentication": (51, lambda nxt: bytes([nxt, 4]) + bytes(22)),
    "mobility": (135, lambda nxt: bytes([nxt, 0]) + bytes(6)),
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_ipv6_extension_header(name: str) -> None:
    """The transport header is found behind each kind of extension header."""
    kind, header = EXTENSIONS[name]
    packet = ipv6(header(TCP) + tcp(b"hello"), protocol=kind)
    found = row(ethernet(packet, ethertype=0x86DD))
    assert (found["protocol"], found["src_port"], found["payload"]) == (TCP, 50000, 5)
    assert found["ip_bytes"] == len(packet)


def test_ipv6_extension_headers_in_a_row() -> None:
    """Several extension headers are followed to the transport header."""
    chain, following = tcp(b"hello"), TCP
    for kind, header in EXTENSIONS.values():
        chain, following = header(following) + chain, kind
    found = row(ethernet(ipv6(chain, protocol=following), ethertype=0x86DD))
    assert (found["protocol"], found["payload"]) == (TCP, 5)


def test_ipv6_endless_extension_headers() -> None:
    """A chain of extension headers that does not end is given up."""
    chain = (bytes([0, 0]) + bytes(6)) * 100
    assert reason(ethernet(ipv6(chain, protocol=0), ethertype=0x86DD)) == MALFORMED


def test_ipv6_extension_header_cut_by_the_snaplen() -> None:
    """A packet cut inside its extension headers is truncated."""
    packet = ipv6(bytes([TCP, 2]) + bytes(22) + tcp(b"hello"), protocol=60)
    for kept in (56, 62, 70, 90):
        assert reason(ethernet(packet, ethertype=0x86DD), kept=kept) == TRUNCATED_PACKET


def test_ipv6_extension_header_beyond_the_packet() -> None:
    """An extension header longer than the packet that holds it is malformed, not cut."""
    for size in (4, 8):
        packet = ipv6(bytes([TCP, 9]) + bytes(size - 2), protocol=60)
        assert reason(ethernet(packet, ethertype=0x86DD)) == MALFORMED


def test_fragments() -> None:
    """The first fragment has the ports; later ones have none and are counted."""
    first = ethernet(ipv4(udp(bytes(1000), length=3000), protocol=UDP, more=True))
    found = row(first)
    assert (found["src_port"], found["payload"], found["ip_bytes"]) == (50000, 1000, 1028)
    later = ipv4(bytes(1000), protocol=UDP, offset=126)
    assert reason(ethernet(later)) == FRAGMENT
    six = ipv6(bytes([UDP, 0, 0x03, 0xF1]) + bytes(4) + bytes(500), protocol=44)
    assert reason(ethernet(six, ethertype=0x86DD)) == FRAGMENT


@pytest.mark.parametrize(
    "packet",
    [
        ipv4(tcp(b"hello"), length=19),
        ipv4(tcp(b"hello"), length=30),
        b"\x55" + IPV4[1:],  # version 5
        b"\x44" + IPV4[1:],  # header of 16 bytes
        ipv4(b"1234567"),
        ipv4(b"1234567", protocol=UDP),
        ipv4(udp(b"hello", length=7), protocol=UDP),
        ipv4(tcp(b"")[:12] + b"\xf0" + tcp(b"")[13:]),  # TCP header of 60 bytes in 20
        ipv4(tcp(b"")[:12] + b"\x40" + tcp(b"")[13:]),  # TCP header of 16 bytes
    ],
)
def test_malformed(packet: bytes) -> None:
    """Lengths that contradict each other are counted, not guessed around."""
    assert reason(ethernet(packet)) == MALFORMED


def test_version_that_contradicts_the_ethertype() -> None:
    """IPv6 behind the Ethernet type of IPv4, or the other way round, is malformed."""
    assert reason(ethernet(IPV6)) == MALFORMED
    assert reason(ethernet(IPV4, ethertype=0x86DD)) == MALFORMED


def test_udp_lengths() -> None:
    """The UDP length rules inside the IP packet, never beyond it; 0 leaves it to the IP length."""
    found = {
        length: row(ethernet(ipv4(udp(bytes(20), length=length), protocol=UDP)))["payload"]
        for length in (0, 8, 18, 28, 9000)
    }
    assert found == {0: 20, 8: 0, 18: 10, 28: 20, 9000: 20}


def test_other_protocols_have_no_ports() -> None:
    """ICMP, ESP and others are rows with bytes and without ports, whatever is in them."""
    for protocol in (1, 2, 47, 50, 58, 89):
        found = row(ethernet(ipv4(b"\x12" * 64, protocol=protocol)))
        assert (found["protocol"], found["ip_bytes"]) == (protocol, 84)
        assert (found["src_port"], found["dst_port"], found["payload"]) == (0, 0, 0)


def test_time_that_cannot_be() -> None:
    """A packet without a possible time is malformed."""
    assert reason(ethernet(IPV4), time=NO_TIME) == MALFORMED


def tls(kind: int) -> bytes:
    """Front of a TLS record with a handshake message."""
    return bytes([22, 3, 1, 2, 0, kind]) + bytes(60)


def quic(version: int, first: int = 0xC0) -> bytes:
    """Front of a QUIC long-header packet."""
    return bytes([first]) + version.to_bytes(4, "big") + bytes(1200)


@pytest.mark.parametrize(
    ("protocol", "payload", "hint"),
    [
        (TCP, tls(1), HINT_CLIENT_HELLO),
        (TCP, tls(2), HINT_SERVER_HELLO),
        (TCP, tls(11), 0),
        (TCP, b"\x17" + tls(1)[1:], 0),
        (TCP, tls(1)[:5], 0),
        (TCP, b"", 0),
        (TCP, quic(1), 0),
        (UDP, quic(1), HINT_QUIC_LONG),
        (UDP, quic(0x6B3343CF), HINT_QUIC_LONG),
        (UDP, quic(0xFF00001D), HINT_QUIC_LONG),
        (UDP, quic(2), 0),
        (UDP, quic(1, first=0x40), 0),
        (UDP, quic(1)[:6], 0),
        (UDP, tls(1), 0),
    ],
)
def test_hints(protocol: int, payload: bytes, hint: int) -> None:
    """The first payload bytes tell ClientHello, ServerHello and QUIC long headers, else nothing."""
    segment = tcp(payload) if protocol == TCP else udp(payload)
    assert row(ethernet(ipv4(segment, protocol=protocol)))["hint"] == hint


def test_hint_of_a_slimmed_packet() -> None:
    """Six captured payload bytes are enough for the hint."""
    assert row(ethernet(ipv4(tcp(tls(1)))), kept=60)["hint"] == HINT_CLIENT_HELLO
    assert row(ethernet(ipv4(tcp(tls(1)))), kept=59)["hint"] == 0


def test_rows_keep_their_place_in_the_capture() -> None:
    """Positions count all records, the skipped ones included."""
    arp = ethernet(bytes(28), ethertype=0x0806)
    frames = [ethernet(IPV4), arp, ethernet(IPV4), b"", ethernet(IPV4)]
    rows, at = [], 0
    for frame in frames:
        rows.append((at, len(frame), len(frame), START, 1))
        at += len(frame)
    packets, skipped = decode(b"".join(frames), Records.from_rows(rows), 10)
    assert packets.position.tolist() == [10, 12, 14]
    assert skipped == {NOT_IP: 1, MALFORMED: 1}


def test_no_records() -> None:
    """A block without a whole record gives empty columns of the right types."""
    packets, skipped = decode(b"", Records.from_rows([]), 0)
    assert len(packets) == 0
    assert packets.time.dtype == "int64"
    assert not skipped
