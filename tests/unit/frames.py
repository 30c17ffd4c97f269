"""Frames of every link type and of every tunnel, around any IP packet."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from llmflow.capture.packet import Tunnel


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


Wrap = Callable[[bytes], bytes]

# name: (link type, frame)
LINK_FRAMES: dict[str, tuple[int, Wrap]] = {
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
    "null, linux": (0, lambda p: le("I", family(p, 2, 10)) + p),
    "null, freebsd": (0, lambda p: be("I", family(p, 2, 28)) + p),
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
    "ppp, direction, new": (204, lambda p: b"\1" + ppp(p)),
    "cisco hdlc, direction": (205, lambda p: b"\0\x0f\0" + be("H", kind(p)) + p),
    "frame relay, direction": (206, lambda p: b"\1\x18\x41\x03" + nlpid(p)),
    "juniper pppoe": (167, lambda p: juniper(ether(p))),
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
    "netanalyzer transparent": (241, lambda p: bytes(12) + ether(p)),
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
