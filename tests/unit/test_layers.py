"""Link types, tags and tunnels: the packet inside is decoded as if it came bare."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from llmflow.capture.account import ENCRYPTED, FRAGMENT, NOT_IP, TOO_DEEP
from llmflow.capture.columns import PacketColumns
from llmflow.capture.dpkt_lane import MAX_LAYERS, decode
from llmflow.capture.framing import Records
from llmflow.capture.links import LINKS
from llmflow.capture.packet import Tunnel

RAW, ETHERNET = 101, 1
TAGS = {"vlan", "vlan_inner", "tunnel", "tunnel_id"}


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
    return {name: value for name, value in row.items() if name not in TAGS}


def be(layout: str, *values: int) -> bytes:
    return struct.pack(">" + layout, *values)


def ip4(protocol: int, payload: bytes, *, fragment: int = 0, source: int = 0x0A000001) -> bytes:
    length = 20 + len(payload)
    return be("BBHHHBBHII", 0x45, 0, length, 7, fragment, 64, protocol, 0, source, 0x0A000002) + (
        payload
    )


def ip6(protocol: int, payload: bytes) -> bytes:
    ends = bytes([0x20, 1, *[0] * 13, 1, 0x20, 1, *[0] * 13, 2])
    return be("IHBB", 6 << 28, len(payload), protocol, 64) + ends + payload


def udp(port: int, payload: bytes, source: int = 50000) -> bytes:
    return be("HHHH", source, port, 8 + len(payload), 0) + payload


TCP = be("HHIIBBHHH", 4000, 443, 1000, 2000, 0x50, 0x18, 512, 0, 0) + b"\x16\x03\x01\x00\x20\x01ab"
V4, V6 = ip4(6, TCP), ip6(6, TCP)
MACS = bytes(range(12))
SNAP = b"\xaa\xaa\x03\0\0\0"


def kind(packet: bytes) -> int:
    return 0x0800 if packet[0] >> 4 == 4 else 0x86DD


def ether(packet: bytes, tags: bytes = b"") -> bytes:
    return MACS + tags + be("H", kind(packet)) + packet


def ppp(packet: bytes) -> bytes:
    return be("H", 0x21 if packet[0] >> 4 == 4 else 0x57) + packet


def le(layout: str, *values: int) -> bytes:
    return struct.pack("<" + layout, *values)


def wlan(packet: bytes, control: int = 0x0108, more: bytes = b"") -> bytes:
    return le("HH", control, 0) + bytes(18) + b"\0\0" + more + SNAP + be("H", kind(packet)) + packet


def radiotap(packet: bytes, *, padded: bool = False) -> bytes:
    head = le("BBHIQB", 0, 0, 17, 3, 5, 0x20 if padded else 0)
    return head + wlan(packet, 0x0188, b"\0\0" + b"\0\0" * padded)


def attribute(number: int, data: bytes) -> bytes:
    return le("HH", len(data) + 4, number) + data + bytes(-len(data) % 4)


def family(packet: bytes, v4: int, v6: int) -> int:
    return v4 if packet[0] >> 4 == 4 else v6


def ring(packet: bytes) -> bytes:
    return b"\x10\x40" + MACS + SNAP + be("H", kind(packet)) + packet


def juniper(packet: bytes) -> bytes:
    return b"MGC\x80" + be("H", 4) + b"\1\2\3\4" + packet


def nlpid(packet: bytes) -> bytes:
    return bytes([family(packet, 0xCC, 0x8E)]) + packet


LINK_FRAMES: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "null": (0, lambda p: le("I", family(p, 2, 30)) + p),
    "null, other byte order": (0, lambda p: be("I", family(p, 2, 24)) + p),
    "ethernet": (1, ether),
    "ethernet llc snap": (1, lambda p: MACS + be("H", 8 + len(p)) + SNAP + be("H", kind(p)) + p),
    "token ring": (6, ring),
    "token ring, routed": (
        6,
        lambda p: b"\x10\x40" + MACS[:6] + b"\x80" + MACS[7:] + b"\x04\0\0\0" + ring(p)[14:],
    ),
    "arcnet": (7, lambda p: b"\1\2" + bytes([family(p, 0xD4, 0xC4)]) + b"\0\0\0" + p),
    "slip": (8, lambda p: bytes(16) + p),
    "ppp": (9, lambda p: b"\xff\x03" + ppp(p)),
    "ppp, compressed": (9, lambda p: ppp(p)[1:]),
    "fddi": (10, lambda p: b"\x50" + MACS + SNAP + be("H", kind(p)) + p),
    "raw 12": (12, bytes),
    "raw 14": (14, bytes),
    "ppp serial": (50, lambda p: b"\xff\x03" + ppp(p)),
    "ppp serial, cisco": (50, lambda p: b"\x0f\0" + be("H", kind(p)) + p),
    "pppoe": (51, lambda p: b"\x11\0\0\x07" + be("H", 2 + len(p)) + ppp(p)),
    "atm rfc 1483": (100, lambda p: SNAP + be("H", kind(p)) + p),
    "raw 101": (101, bytes),
    "cisco hdlc": (104, lambda p: b"\x8f\0" + be("H", kind(p)) + p),
    "802.11": (105, wlan),
    "802.11, four addresses": (105, lambda p: wlan(p, 0x0308, bytes(6))),
    "802.11, high throughput": (105, lambda p: wlan(p, 0x8188, bytes(6))),
    "802.11, aggregated": (105, lambda p: wlan(p, 0x0188, b"\x80\0" + bytes(14))),
    "classical ip": (106, bytes),
    "classical ip, llc": (106, lambda p: SNAP + be("H", kind(p)) + p),
    "frame relay": (107, lambda p: b"\x18\x41\x03" + nlpid(p)),
    "frame relay, padded": (107, lambda p: b"\x18\x41\x03\0" + nlpid(p)),
    "frame relay, snap": (107, lambda p: b"\x18\x41\x03\0\x80\0\0\0" + be("H", kind(p)) + p),
    "frame relay, cisco": (107, lambda p: b"\x18\x41" + be("H", kind(p)) + p),
    "loop": (108, lambda p: be("I", family(p, 2, 24)) + p),
    "enc": (109, lambda p: le("I", family(p, 2, 24)) + bytes(8) + p),
    "sll": (113, lambda p: be("HHHQH", 0, 1, 6, 0, kind(p)) + p),
    "sll, ppp": (113, lambda p: be("HHHQH", 4, 512, 0, 0, kind(p)) + p),
    "pflog": (117, lambda p: bytes([61, family(p, 2, 24)]) + bytes(62) + p),
    "prism": (119, lambda p: bytes(144) + wlan(p)),
    "avs": (163, lambda p: be("II", 0x80211001, 64) + bytes(56) + wlan(p)),
    "ip over fibre channel": (122, lambda p: bytes(16) + SNAP + be("H", kind(p)) + p),
    "sunatm": (123, lambda p: b"\x02\0\0\x20" + SNAP + be("H", kind(p)) + p),
    "radiotap": (127, radiotap),
    "radiotap, padded": (127, lambda p: radiotap(p, padded=True)),
    "arcnet linux": (129, lambda p: b"\1\2\0\0" + bytes([family(p, 0xD4, 0xC4)]) + b"\0\0\0" + p),
    "ieee 1394": (138, lambda p: bytes(16) + be("H", kind(p)) + p),
    "ppp, direction": (166, lambda p: b"\0" + ppp(p)),
    "juniper ethernet": (178, lambda p: juniper(ether(p))),
    "juniper ppp": (179, lambda p: juniper(ppp(p))),
    "juniper frame relay": (180, lambda p: juniper(b"\x18\x41\x03" + nlpid(p))),
    "juniper cisco hdlc": (181, lambda p: juniper(b"\x0f\0" + be("H", kind(p)) + p)),
    "juniper, no link layer": (178, lambda p: b"MGC\x02" + bytes(4) + p),
    "ppi": (192, lambda p: le("BBHI", 0, 0, 8, 105) + wlan(p)),
    "erf": (197, lambda p: bytes(8) + b"\x82" + bytes(7) + bytes(8) + bytes(2) + ether(p)),
    "mpls": (219, lambda p: be("I", 16 << 12 | 0x1FF) + p),
    "ipnet": (226, lambda p: bytes([1, family(p, 2, 26)]) + bytes(22) + p),
    "nflog": (
        239,
        lambda p: bytes([family(p, 2, 10), 0, 0, 0]) + attribute(1, b"abcde") + attribute(9, p),
    ),
    "netanalyzer": (240, lambda p: bytes(4) + ether(p)),
    "infiniband": (242, lambda p: bytes(40) + be("H", kind(p)) + bytes(2) + p),
    "pktap": (258, lambda p: le("III", 108, 1, 1) + bytes(96) + ether(p)),
    "mpacket": (274, lambda p: bytes(8) + ether(p)),
    "sll2": (276, lambda p: be("HHIHBB", kind(p), 0, 1, 1, 0, 6) + bytes(8) + p),
    "broadcom tag": (281, lambda p: MACS + bytes(4) + be("H", kind(p)) + p),
    "broadcom tag in front": (282, lambda p: bytes(4) + ether(p)),
    "marvell tag": (284, lambda p: MACS + bytes(4) + be("H", kind(p)) + p),
    "marvell ethertype tag": (285, lambda p: MACS + bytes(8) + be("H", kind(p)) + p),
}  # fmt: skip


def gre(flags: int, protocol: int, rest: bytes = b"") -> bytes:
    return be("HH", flags, protocol) + rest


def deflate(packet: bytes) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return squeeze.compress(packet) + squeeze.flush()


Wrap = Callable[[bytes], bytes]


def over_ip(protocol: int, head: Wrap) -> Wrap:
    return lambda p: ether(ip4(protocol, head(p)))


def over_udp(port: int, head: Wrap) -> Wrap:
    return over_ip(17, lambda p: udp(port, head(p)))


# name: (frame, code of the tunnel, its number)
TUNNELS: dict[str, tuple[Wrap, int, int]] = {
    "mpls": (lambda p: MACS + b"\x88\x47" + be("II", 5 << 12, 6 << 12 | 0x140) + p, Tunnel.MPLS, 6),
    "mpls, ethernet": (
        lambda p: MACS + b"\x88\x47" + be("I", 6 << 12 | 0x140) + ether(p), Tunnel.MPLS, 6,
    ),
    "mpls, control word": (
        lambda p: MACS + b"\x88\x47" + be("II", 6 << 12 | 0x140, 0) + ether(p), Tunnel.MPLS, 6,
    ),
    "pppoe": (
        lambda p: MACS + b"\x88\x64\x11\0\x01\x02" + be("H", 2 + len(p)) + ppp(p),
        Tunnel.PPPOE, 0x0102,
    ),
    "macsec": (lambda p: MACS + b"\x88\xe5\0\0\0\0\0\x09" + ether(p)[12:], Tunnel.MACSEC, 9),
    "pbb": (lambda p: MACS + b"\x88\xe7" + be("I", 77) + ether(p), Tunnel.PBB, 77),
    "nsh": (
        lambda p: MACS + b"\x89\x4f" + be("HBB", 0x0006, 1, family(p, 1, 2)) + be("I", 5 << 8)
        + bytes(16) + p,
        Tunnel.NSH, 5,
    ),
    "trill": (lambda p: MACS + b"\x22\xf3" + bytes(6) + ether(p), Tunnel.NONE, 0),
    "ip in ip": (
        lambda p: ether(ip4(family(p, 4, 41), p)), Tunnel.IP_IN_IP, 0,
    ),
    "ip in ipv6": (lambda p: ether(ip6(family(p, 4, 41), p)), Tunnel.IP_IN_IP, 0),
    "ah": (
        lambda p: ether(ip4(51, bytes([family(p, 4, 41), 4]) + bytes(22) + p)), Tunnel.IP_IN_IP, 0,
    ),
    "gre": (over_ip(47, lambda p: gre(0, kind(p)) + p), Tunnel.GRE, 0),
    "gre, all fields": (
        over_ip(47, lambda p: gre(0xB000, kind(p), be("III", 0, 99, 1)) + p), Tunnel.GRE, 99,
    ),
    "gre, routed": (
        over_ip(47, lambda p: gre(0x4000, kind(p), bytes(4) + b"\x08\0\0\x04abcd" + bytes(4)) + p),
        Tunnel.GRE, 0,
    ),
    "gre, ethernet": (
        over_ip(47, lambda p: gre(0x2000, 0x6558, be("I", 8)) + ether(p)), Tunnel.GRE, 8,
    ),
    "gre, wccp 1": (over_ip(47, lambda p: gre(0, 0x883E) + p), Tunnel.GRE, 0),
    "gre, wccp 2": (over_ip(47, lambda p: gre(0, 0x883E) + bytes(4) + p), Tunnel.GRE, 0),
    "pptp": (
        over_ip(47, lambda p: gre(0x3081, 0x880B, be("HHII", len(p), 5, 1, 2)) + ppp(p)),
        Tunnel.PPTP, 5,
    ),
    "erspan 1": (over_ip(47, lambda p: gre(0, 0x88BE) + ether(p)), Tunnel.ERSPAN, 0),
    "erspan 2": (
        over_ip(47, lambda p: gre(0x1000, 0x88BE, be("IHHI", 1, 0x1000, 0x0007, 0)) + ether(p)),
        Tunnel.ERSPAN, 7,
    ),
    "erspan 3": (
        over_ip(
            47,
            lambda p: gre(0x1000, 0x22EB, be("IHHIHH", 1, 0x2000, 7, 0, 0, 1)) + bytes(8)
            + ether(p),
        ),
        Tunnel.ERSPAN, 7,
    ),
    "etherip": (over_ip(97, lambda p: b"\x30\0" + ether(p)), Tunnel.ETHERIP, 0),
    "ipcomp": (
        over_ip(108, lambda p: bytes([family(p, 4, 41), 0, 0, 2]) + deflate(p)), Tunnel.IPCOMP, 0,
    ),
    "l2tp 3": (over_ip(115, lambda p: be("II", 21, 0) + ether(p)), Tunnel.L2TP, 21),
    "l2tp 2": (
        over_udp(1701, lambda p: be("HHHHHH", 0x4802, 0, 3, 4, 0, 0) + b"\xff\x03" + ppp(p)),
        Tunnel.L2TP, 4,
    ),
    "gtp": (
        over_udp(2152, lambda p: be("BBHI", 0x30, 255, len(p), 0xABCDEF01) + p),
        Tunnel.GTP_U, 0xABCDEF01,
    ),
    "gtp, extension": (
        over_udp(
            2152,
            lambda p: be("BBHI", 0x34, 255, len(p) + 8, 7) + b"\0\0\0\x85\x01\x10\x09\0" + p,
        ),
        Tunnel.GTP_U, 7,
    ),
    "gtp, version 0": (
        over_udp(3386, lambda p: be("BBHHH", 0x1E, 255, len(p), 0, 9) + bytes(12) + p),
        Tunnel.GTP_U, 9,
    ),
    "vxlan": (over_udp(4789, lambda p: be("II", 8 << 24, 66 << 8) + ether(p)), Tunnel.VXLAN, 66),
    "vxlan, linux port": (
        over_udp(8472, lambda p: be("II", 8 << 24, 66 << 8) + ether(p)), Tunnel.VXLAN, 66,
    ),
    "vxlan-gpe": (
        over_udp(4790, lambda p: be("II", 12 << 24 | family(p, 1, 2), 66 << 8) + p),
        Tunnel.VXLAN_GPE, 66,
    ),
    "geneve": (
        over_udp(6081, lambda p: be("BBHI", 2, 0, 0x6558, 67 << 8) + bytes(8) + ether(p)),
        Tunnel.GENEVE, 67,
    ),
    "geneve, ip": (
        over_udp(6081, lambda p: be("BBHI", 0, 0, kind(p), 67 << 8) + p), Tunnel.GENEVE, 67,
    ),
    "ayiya": (
        over_udp(5072, lambda p: be("HBBI", 0x4152, 0x11, family(p, 4, 41), 0) + bytes(36) + p),
        Tunnel.AYIYA, 0,
    ),
    "lisp": (over_udp(4341, lambda p: be("II", 0x08000000, 3 << 8) + p), Tunnel.LISP, 3),
    "mpls in udp": (over_udp(6635, lambda p: be("I", 6 << 12 | 0x140) + p), Tunnel.MPLS, 6),
    "capwap, 802.3": (
        over_udp(5247, lambda p: be("II", 2 << 19, 0) + ether(p)), Tunnel.CAPWAP, 0,
    ),
    "capwap, 802.11": (
        over_udp(5247, lambda p: be("II", 2 << 19 | 0x100, 0) + wlan(p)), Tunnel.CAPWAP, 0,
    ),
    "capwap, 802.11 turned": (
        over_udp(5247, lambda p: be("II", 2 << 19 | 0x100, 0) + b"\x01\x08" + wlan(p)[2:]),
        Tunnel.CAPWAP, 0,
    ),
    "vn-tag": (lambda p: MACS + b"\x89\x26" + bytes(4) + ether(p)[12:], Tunnel.NONE, 0),
    "e-tag": (lambda p: MACS + b"\x89\x3f" + bytes(6) + ether(p)[12:], Tunnel.NONE, 0),
}  # fmt: skip


@pytest.mark.parametrize("packet", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("name", LINK_FRAMES)
def test_every_link_type_gives_the_bare_packet(name: str, packet: bytes) -> None:
    """What the link layer is changes nothing about the IP packet in it."""
    link, frame = LINK_FRAMES[name]
    assert bare(decoded(link, frame(packet))) == bare(decoded(RAW, packet))


def test_every_link_type_is_tested() -> None:
    """A link type is decoded only if a test shows that it is."""
    covered = {link for link, _ in LINK_FRAMES.values()}
    with_direction = {204, 205, 206}
    assert set(LINKS) - covered - with_direction == {167, 228, 229, 241}


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
    """Priority tags (id 0) count for neither."""

    def tags(*ids: int) -> bytes:
        return b"".join(be("HH", 0x88A8 if n else 0x8100, id_) for n, id_ in enumerate(ids))

    seen = {
        ids: (row["vlan"], row["vlan_inner"])
        for ids in [(5,), (5, 6), (5, 6, 7), (0, 6), (0xE005, 0, 7)]
        for row in [decoded(ETHERNET, ether(V4, tags(*ids)))]
    }
    assert seen == {
        (5,): (5, 0), (5, 6): (5, 6), (5, 6, 7): (5, 7), (0, 6): (6, 0), (0xE005, 0, 7): (5, 7),
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
