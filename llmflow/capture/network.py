"""IP and what it carries: network headers as layers, transport headers as columns.

RFC 791, 8200 (IPv6), 4302 (AH), 9293 (TCP), 768 (UDP), 3828 (UDP-Lite), 9260 (SCTP), 4340 (DCCP).
"""

from __future__ import annotations

import struct

import dpkt

from llmflow.capture.account import FRAGMENT, MALFORMED, TRUNCATED_PACKET
from llmflow.capture.columns import (
    DCCP,
    HINT_CLIENT_HELLO,
    HINT_QUIC_LONG,
    HINT_SERVER_HELLO,
    IPV4_MAPPED,
    SCTP,
    TCP,
    UDP_LITE,
)
from llmflow.capture.columns import UDP as UDP_PROTOCOL
from llmflow.capture.packet import (
    DONE,
    ETHERIP,
    GRE,
    IP_IN_IP,
    IPCOMP,
    L2TP_3,
    MPLS,
    NSH,
    UDP,
    Packet,
    SkipError,
    Tunnel,
    by_version,
)

# Hop-by-hop, routing, fragment, authentication, destination options, mobility, HIP, shim6.
_FRAGMENT, AUTHENTICATION = 44, 51
EXTENSIONS = frozenset({0, 43, _FRAGMENT, AUTHENTICATION, 60, 135, 139, 140})
_MAX_EXTENSIONS = 16
_ENDS = struct.Struct(">QQQQ")

# IANA protocol number -> kind of what lies behind the IP header; anything else ends the walk.
PROTOCOLS = {
    4: IP_IN_IP, 17: UDP, 41: IP_IN_IP, 47: GRE, 94: IP_IN_IP, 97: ETHERIP, 108: IPCOMP,
    115: L2TP_3, 137: MPLS, 145: NSH,
}  # fmt: skip


class _IP4(dpkt.ip.IP):  # type: ignore[misc]
    """The fixed header only: what lies behind it is read below, where the lengths are known."""

    unpack = dpkt.Packet.unpack


class _IP6(dpkt.ip6.IP6):  # type: ignore[misc]
    """The fixed header only."""

    unpack = dpkt.Packet.unpack


def any_ip(packet: Packet, at: int) -> tuple[int, int]:
    """IP whose version only its first byte tells."""
    return by_version(packet, at), at


def ip_in_ip(packet: Packet, at: int) -> tuple[int, int]:
    """RFC 2003, RFC 4213, RFC 2473."""
    packet.enter(Tunnel.IP_IN_IP, 0)
    return by_version(packet, at), at


def ipv4(packet: Packet, at: int) -> tuple[int, int]:
    """RFC 791; an authentication header behind it is stepped over."""
    packet.need(at + 20)
    ip = _IP4(packet.frame[at : at + 20])
    header = ip.hl * 4
    # Segmentation offload leaves the length at 0; the frame knows.
    length = ip.len or packet.wire - at
    if ip.v != 4 or header < 20 or length < header:
        raise SkipError(MALFORMED)
    packet.need(at + header)
    if packet.limit:
        packet.fits(at + length)
    if ip.offset:
        raise SkipError(FRAGMENT)
    packet.fragment = bool(ip.mf)
    protocol = ip.p
    if protocol == AUTHENTICATION:
        protocol, header = _extensions(protocol, packet, at, header, at + length)
    packet.network = (
        0, IPV4_MAPPED | int.from_bytes(ip.src, "big"),
        0, IPV4_MAPPED | int.from_bytes(ip.dst, "big"),
        protocol, length, header, at,
        packet.vlan, packet.vlan_inner, packet.tunnel, packet.tunnel_id,
    )  # fmt: skip
    return PROTOCOLS.get(protocol, DONE), at + header


def ipv6(packet: Packet, at: int) -> tuple[int, int]:
    """RFC 8200 with its extension headers."""
    packet.need(at + 40)
    ip = _IP6(packet.frame[at : at + 40])
    if ip.v != 6:
        raise SkipError(MALFORMED)
    # A length of 0 is a jumbogram or an offloaded one (RFC 2675): the frame knows.
    length = 40 + (ip.plen or packet.wire - at - 40)
    if packet.limit:
        packet.fits(at + length)
    packet.fragment = False
    protocol, header = _extensions(ip.nxt, packet, at, 40, at + length)
    if length < header:
        raise SkipError(MALFORMED)
    packet.network = (
        *_ENDS.unpack(ip.src + ip.dst),
        protocol, length, header, at,
        packet.vlan, packet.vlan_inner, packet.tunnel, packet.tunnel_id,
    )  # fmt: skip
    return PROTOCOLS.get(protocol, DONE), at + header


def _extensions(protocol: int, packet: Packet, at: int, header: int, end: int) -> tuple[int, int]:
    """(transport protocol, bytes of all headers) behind the extension headers (RFC 8200, 4)."""
    if protocol not in EXTENSIONS:
        return protocol, header
    frame = packet.frame[:end]
    for _ in range(_MAX_EXTENSIONS):
        if protocol not in EXTENSIONS:
            return protocol, header
        here = at + header
        if len(frame) < here + 8:
            raise SkipError(MALFORMED if end < here + 8 else TRUNCATED_PACKET)
        if protocol == _FRAGMENT:
            offset = int.from_bytes(frame[here + 2 : here + 4], "big")
            if offset >> 3:
                raise SkipError(FRAGMENT)
            packet.fragment |= bool(offset & 1)
        # Lengths count 8-octet units after the first; a fragment header has none, AH counts by 4.
        if protocol == _FRAGMENT:
            header += 8
        elif protocol == AUTHENTICATION:
            header += (frame[here + 1] + 2) * 4
        else:
            header += (frame[here + 1] + 1) * 8
        protocol = frame[here]
    raise SkipError(MALFORMED)


def _hint(protocol: int, payload: bytes) -> int:
    if protocol == TCP and len(payload) >= 6 and payload[0] == 22 and payload[1] == 3:
        return {1: HINT_CLIENT_HELLO, 2: HINT_SERVER_HELLO}.get(payload[5], 0)
    # RFC 9000, section 17.2: header form and fixed bit, then a version.
    if protocol == UDP_PROTOCOL and len(payload) >= 7 and payload[0] & 0xC0 == 0xC0:
        version = int.from_bytes(payload[1:5], "big")
        if version in (1, 0x6B3343CF) or version >> 8 == 0xFF0000:
            return HINT_QUIC_LONG
    return 0


def _tcp(data: bytes, length: int, *, fragment: bool) -> tuple[int, ...]:
    if fragment and 8 <= length < 20 and len(data) >= 8:
        return *struct.unpack_from(">HH", data), 0, 0, 0, 0, 0, 0
    if len(data) < 20:
        raise SkipError(TRUNCATED_PACKET if length >= 20 else MALFORMED)
    tcp = dpkt.tcp.TCP(data)
    payload = length - tcp.off * 4
    if payload < 0:
        if not fragment:
            raise SkipError(MALFORMED)
        payload = 0
    hint = _hint(TCP, tcp.data)
    return tcp.sport, tcp.dport, tcp.flags & 0xFF, payload, tcp.seq, tcp.ack, tcp.win, hint


def _udp(data: bytes, length: int) -> tuple[int, ...]:
    if len(data) < 8:
        raise SkipError(TRUNCATED_PACKET if length >= 8 else MALFORMED)
    udp = dpkt.udp.UDP(data)
    if udp.ulen and udp.ulen < 8:
        raise SkipError(MALFORMED)
    # A length of 0 is a jumbogram or an offloaded one (RFC 2675): the IP length rules.
    payload = min(udp.ulen or length, length) - 8
    return udp.sport, udp.dport, 0, payload, 0, 0, 0, _hint(UDP_PROTOCOL, udp.data)


def _ports(data: bytes, length: int, smallest: int) -> tuple[int, ...]:
    if len(data) < smallest:
        raise SkipError(TRUNCATED_PACKET if length >= smallest else MALFORMED)
    return *struct.unpack_from(">HH", data), 0, 0, 0, 0, 0, 0


def transport(protocol: int, data: bytes, length: int, *, fragment: bool) -> tuple[int, ...]:
    """(ports, flags, payload, seq, ack, window, hint) of a transport header.

    ``length`` is what ``data`` had on the wire. The first of several fragments may end inside the
    header, which then gives its ports only.
    """
    if protocol == TCP:
        return _tcp(data, length, fragment=fragment)
    if protocol == UDP_PROTOCOL:
        return _udp(data, length)
    if protocol in (SCTP, DCCP, UDP_LITE):
        return _ports(data, length, 8 if protocol == UDP_LITE else 12)
    return 0, 0, 0, 0, 0, 0, 0, 0
