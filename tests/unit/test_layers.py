"""Link types, tags and tunnels: the packet inside is decoded as if it came bare."""

from __future__ import annotations

from typing import Any

import pytest

from llmflow.capture.account import (
    ENCRYPTED,
    FRAGMENT,
    MALFORMED,
    NOT_IP,
    TOO_DEEP,
    TRUNCATED_PACKET,
)
from llmflow.capture.columns import PacketColumns
from llmflow.capture.dpkt_lane import LINKS, MAX_LAYERS, decode
from llmflow.capture.packet import Tunnel
from llmflow.capture.records import Records
from tests.unit.frames import (
    LINK_FRAMES,
    MACS,
    TCP,
    TUNNELS,
    V4,
    V6,
    attribute,
    be,
    ether,
    gre,
    ip4,
    udp,
    wlan,
)

RAW, ETHERNET = 101, 1
TAGS = {"vlan", "vlan_inner", "tunnel", "tunnel_id"}
PLACE = {"payload_at", "captured"}  # in the block, where what was unpacked is not


def records(*frames: tuple[int, bytes], wire: int = 0) -> tuple[bytes, Records]:
    rows, at = [], 0
    for number, (link, frame) in enumerate(frames):
        rows.append((at, len(frame), max(wire, len(frame)), 10**18 + number, link))
        at += len(frame)
    return b"".join(frame for _, frame in frames), Records.from_rows(rows)


def decoded(link: int, frame: bytes, tunnels: Any = "inner", wire: int = 0) -> dict[str, Any]:
    """The one row of a frame; the reason it was skipped under `skipped` instead."""
    packets, skipped = decode(*records((link, frame), wire=wire), 0, tunnels)
    assert len(packets) + skipped.total() == 1
    if skipped:
        return {"skipped": next(iter(skipped))}
    return {name: int(getattr(packets, name)[0]) for name in PacketColumns.names()}


def bare(row: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in row.items() if name not in TAGS | PLACE}


@pytest.mark.parametrize("packet", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("name", LINK_FRAMES)
def test_every_link_type_gives_the_bare_packet(name: str, packet: bytes) -> None:
    """What the link layer is changes nothing about the IP packet in it."""
    link, frame = LINK_FRAMES[name]
    assert bare(decoded(link, frame(packet))) == bare(decoded(RAW, packet))


def test_link_types_of_one_ip_version() -> None:
    """Raw IPv4 and raw IPv6 hold what they say; the other version is malformed."""
    assert decoded(228, V4) == decoded(RAW, V4)
    assert decoded(229, V6) == decoded(RAW, V6)
    assert decoded(228, V6) == decoded(229, V4) == {"skipped": MALFORMED}


def test_every_link_type_is_tested() -> None:
    """A link type is decoded only if a test shows that it is."""
    assert {link for link, _ in LINK_FRAMES.values()} | {228, 229} == LINKS


@pytest.mark.parametrize("packet", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("name", LINK_FRAMES)
def test_link_headers_cut_short(name: str, packet: bytes) -> None:
    """A frame cut inside its link header is truncated; one that never was longer is malformed."""
    link, wrap = LINK_FRAMES[name]
    frame = wrap(packet)
    for end in range(len(frame) - len(packet)):
        assert decoded(link, frame[:end], wire=len(frame)) == {"skipped": TRUNCATED_PACKET}
        if link != 239 or end not in (4, 13, 14, 15, 16):  # whole attributes, see below
            assert decoded(link, frame[:end]) == {"skipped": MALFORMED}


def test_netfilter_log_without_a_packet() -> None:
    """A log record may hold no packet: nothing is cut, so nothing is lost."""
    prefix = bytes([2, 0, 0, 0]) + attribute(10, b"dropped: ")
    assert decoded(239, prefix) == decoded(239, bytes([2, 0, 0, 0])) == {"skipped": NOT_IP}
    assert decoded(239, prefix + b"\3\0\x09\0") == {"skipped": MALFORMED}


@pytest.mark.parametrize("packet", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("name", TUNNELS)
def test_every_tunnel_gives_the_bare_packet(name: str, packet: bytes) -> None:
    """The row is the packet inside; kind and number of the tunnel stand beside it."""
    wrap, tunnel, number = TUNNELS[name]
    row = decoded(ETHERNET, wrap(packet))
    assert bare(row) == bare(decoded(RAW, packet))
    assert (row["tunnel"], row["tunnel_id"]) == (tunnel, number)


def test_teredo_carries_ipv6() -> None:
    """With and without authentication and origin in front."""
    origin, proof = bytes(8), b"\0\1\0\0" + bytes(9)
    for head in (b"", origin, proof, proof + origin):
        row = decoded(ETHERNET, ether(ip4(17, udp(3544, head + V6))))
        assert bare(row) == bare(decoded(RAW, V6))
        assert row["tunnel"] == Tunnel.TEREDO


@pytest.mark.parametrize("name", TUNNELS)
def test_outer_rows_are_those_of_the_first_ip_header(name: str) -> None:
    """--tunnels outer: what a router on the way sees."""
    frame = TUNNELS[name][0](V4)
    outer, inner = decoded(ETHERNET, frame, "outer"), decoded(ETHERNET, frame)
    if outer != inner:
        assert outer["protocol"] != 6
        assert outer["src_lo"] == 0xFFFF_0A00_0001 or outer["src_hi"]
        assert outer["ip_bytes"] > inner["ip_bytes"]
        assert outer["tunnel"] == Tunnel.NONE


def test_vlan_ids_are_the_outermost_and_the_innermost() -> None:
    """Priority bits are no part of an id, and priority tags (id 0) count for neither."""

    def tags(*ids: int) -> bytes:
        return b"".join(be("HH", 0x88A8 if n else 0x8100, id_) for n, id_ in enumerate(ids))

    seen = {
        ids: (row["vlan"], row["vlan_inner"])
        for ids in [(5,), (5, 6), (5, 6, 7, 8), (4095,), (0, 6), (0xE005, 0, 7)]
        for row in [decoded(ETHERNET, ether(V4, tags(*ids)))]
    }
    assert seen == {
        (5,): (5, 0), (5, 6): (5, 6), (5, 6, 7, 8): (5, 8), (4095,): (4095, 0), (0, 6): (6, 0),
        (0xE005, 0, 7): (5, 7),
    }  # fmt: skip


def test_tunnels_nest() -> None:
    """VLAN, MPLS, GTP-U, then VXLAN with a tag, then GRE: one packet inside."""
    gre_packet = ip4(47, gre(0x2000, 0x0800, be("I", 3)) + V4)
    vxlan = be("II", 8 << 24, 9 << 8) + ether(gre_packet, be("HH", 0x8100, 12))
    user = ip4(17, udp(4789, vxlan))
    gtp = ip4(17, udp(2152, be("BBHI", 0x30, 255, len(user), 4) + user))
    frame = MACS + be("HHH", 0x8100, 11, 0x8847) + be("I", 16 << 12 | 0x140) + gtp
    row = decoded(ETHERNET, frame)
    assert bare(row) == bare(decoded(RAW, V4))
    assert [row[name] for name in ("vlan", "vlan_inner", "tunnel", "tunnel_id")] == [
        11, 12, Tunnel.GRE, 3,
    ]  # fmt: skip


def test_depth_is_bounded() -> None:
    """More headers than the bound: the deepest IP packet reached, or a named reason without any."""
    frame = ether(V4, be("HH", 0x8100, 1) * (MAX_LAYERS + 1))
    assert decoded(ETHERNET, frame) == {"skipped": TOO_DEEP}
    packet = V4
    for _ in range(MAX_LAYERS + 5):
        packet = ip4(4, packet)
    row = decoded(RAW, packet)
    assert row["protocol"] == 4
    assert decoded(RAW, packet, "outer")["ip_bytes"] == len(packet)


def test_what_cannot_be_opened_stays_a_packet_of_the_ip_around_it() -> None:
    """Control messages, unknown or encrypted contents, foreign traffic on a tunnel's port."""
    for port, payload in [
        (2152, be("BBHI", 0x32, 1, 4, 0) + bytes(4)),  # GTP echo
        (4789, be("II", 8 << 24, 66 << 8) + MACS + b"\x08\x06" + bytes(28)),  # ARP in VXLAN
        (1701, be("HHHHHH", 0xC802, 12, 0, 0, 0, 0)),  # L2TP control
        (5247, b"\x01" + bytes(40)),  # CAPWAP in DTLS
        (4341, bytes(8) + V4[:2] + be("H", 1000) + V4[4:]),  # an inner length that does not fit
        (4341, bytes(8) + V4 + bytes(200)),  # nor fill
    ]:
        row = decoded(ETHERNET, ether(ip4(17, udp(port, payload))))
        assert (row["protocol"], row["dst_port"], row["payload"]) == (17, port, len(payload))
        assert row["tunnel"] == Tunnel.NONE
    assert decoded(ETHERNET, ether(ip4(50, bytes(40))))["protocol"] == 50
    assert decoded(ETHERNET, ether(ip4(47, gre(0, 0x1234) + bytes(20))))["protocol"] == 47


def test_link_layers_that_carry_no_ip_say_so() -> None:
    """Encrypted WLAN and MACsec, fragments of frames, ARP."""
    assert decoded(105, wlan(V4, 0x4108)) == {"skipped": ENCRYPTED}
    assert decoded(105, wlan(V4, 0x0048)) == {"skipped": NOT_IP}
    assert decoded(1, MACS + b"\x88\xe5\x0c" + bytes(40)) == {"skipped": ENCRYPTED}
    assert decoded(105, wlan(V4)[:22] + b"\x01" + wlan(V4)[23:]) == {"skipped": FRAGMENT}
    assert decoded(1, MACS + b"\x08\x06" + bytes(28)) == {"skipped": NOT_IP}


def test_fragments() -> None:
    """The first carries the ports, even if it ends inside the TCP header; later ones have none."""
    more, later = 0x2000, 0x0001
    assert decoded(RAW, ip4(6, TCP, fragment=later)) == {"skipped": FRAGMENT}
    first = decoded(RAW, ip4(6, TCP[:8], fragment=more))
    assert (first["src_port"], first["dst_port"], first["payload"]) == (4000, 443, 0)
    assert "skipped" in decoded(RAW, ip4(6, TCP[:8]))
    inside = be("BBHI", 0x30, 255, len(V4), 7) + V4
    whole = udp(2152, inside)
    assert decoded(RAW, ip4(17, whole[:-8], fragment=more))["tunnel"] == Tunnel.GTP_U


def test_ports_of_sctp_dccp_and_udp_lite() -> None:
    """Ports stand first in all of them; payload is counted for TCP and UDP only."""
    for protocol in (33, 132, 136):
        row = decoded(RAW, ip4(protocol, be("HH", 7, 8) + bytes(12)))
        assert (row["src_port"], row["dst_port"], row["payload"]) == (7, 8, 0)


@pytest.mark.parametrize("name", [*LINK_FRAMES, *TUNNELS])
def test_cut_anywhere_never_raises(name: str) -> None:
    """A snaplen may cut any header: a row or a reason, with the wire's length and without."""
    link, wrap = LINK_FRAMES[name] if name in LINK_FRAMES else (1, TUNNELS[name][0])
    frame = wrap(V6)
    for end in range(len(frame)):
        for wire in (0, len(frame)):
            decoded(link, frame[:end], wire=wire)


@pytest.mark.parametrize("name", [*LINK_FRAMES, *TUNNELS])
def test_any_byte_may_be_wrong(name: str) -> None:
    """Every byte of every header set to 0 and 255: a row or a reason, never an error."""
    link, wrap = LINK_FRAMES[name] if name in LINK_FRAMES else (1, TUNNELS[name][0])
    frame = wrap(V4)
    for at in range(len(frame)):
        for value in (0, 255):
            broken = frame[:at] + bytes([value]) + frame[at + 1 :]
            decoded(link, broken)
            decoded(link, broken, "outer")
