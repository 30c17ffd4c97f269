"""Tunnels over IP and UDP. A tunnel that cannot be opened leaves the row to the IP around it.

RFC 1701, 2784, 2890, 2637 (GRE, PPTP); RFC 7348, 8926 (VXLAN, Geneve); 3GPP TS 29.281 (GTP-U);
RFC 2661, 3931 (L2TP); RFC 4380 (Teredo); RFC 5415 (CAPWAP); RFC 6830 (LISP); RFC 3378 (EtherIP);
RFC 3173 (IPComp); RFC 7510 (MPLS in UDP); draft-foschiano-erspan; draft-massar-v6ops-ayiya.
"""

from __future__ import annotations

import zlib

from llmflow.capture import network
from llmflow.capture.packet import (
    AYIYA,
    CAPWAP,
    DONE,
    ERSPAN_2,
    ERSPAN_3,
    ETHERIP,
    ETHERNET,
    FRAME_RELAY,
    GENEVE,
    GRE,
    GTP,
    IEEE80211,
    IP,
    IP_IN_IP,
    IPCOMP,
    IPV4,
    IPV6,
    L2TP,
    L2TP_3,
    LISP,
    MPLS,
    PPP,
    TEREDO,
    UDP,
    VXLAN,
    VXLAN_GPE,
    WCCP,
    Layer,
    Packet,
    Tunnel,
    by_version,
)
from llmflow.capture.tags import NEXT_PROTOCOL

_MAX_UNPACKED = 65535
_MAX_ROUTES = 16

PORTS = {
    1701: L2TP, 2152: GTP, 3386: GTP, 3544: TEREDO, 4341: LISP, 4789: VXLAN, 4790: VXLAN_GPE,
    5072: AYIYA, 5247: CAPWAP, 6081: GENEVE, 6635: MPLS, 8472: VXLAN,
}  # fmt: skip


def udp(packet: Packet, at: int) -> tuple[int, int]:
    """Tunnels are known by their port, the receiver's first."""
    packet.need(at + 4)
    frame = packet.frame
    kind = PORTS.get(frame[at + 2] << 8 | frame[at + 3])
    if kind is None:
        kind = PORTS.get(frame[at] << 8 | frame[at + 1], DONE)
    if kind and packet.network:
        length, start = packet.network[5], packet.network[7]
        packet.limit = 0 if packet.fragment else start + length
    return kind, at + 8


# GRE protocol types that are no ethertypes.
_GRE_TYPES = {0x6559: FRAME_RELAY, 0x88BE: ERSPAN_2, 0x22EB: ERSPAN_3, 0x883E: WCCP}


def gre(packet: Packet, at: int) -> tuple[int, int]:
    """RFC 2784 with key and sequence (2890), routing (1701); version 1 is PPTP's (2637)."""
    flags, kind = packet.u16(at), packet.u16(at + 2)
    version = flags & 7
    at += 4
    if version > 1:
        return DONE, at
    number = 0
    if version == 0 and flags & 0xC000:  # checksum and offset
        at += 4
    if flags & 0x2000:
        number = packet.u32(at) if version == 0 else packet.u16(at + 2)
        at += 4
    if flags & 0x1000:
        at += 4
    if version == 1:
        packet.enter(Tunnel.PPTP, number)
        return (PPP if kind == 0x880B else DONE), at + (4 if flags & 0x0080 else 0)
    if flags & 0x4000:
        at = _past_routes(packet, at)
    packet.enter(Tunnel.GRE, number)
    if kind == 0x88BE and not flags & 0x1000:  # ERSPAN type I has neither sequence nor header
        packet.enter(Tunnel.ERSPAN, 0)
        return ETHERNET, at
    if 0x8200 <= kind <= 0x83FF:  # Aruba access points
        return IEEE80211, at
    return _GRE_TYPES.get(kind, kind if kind >= 0x0600 else DONE), at


def _past_routes(packet: Packet, at: int) -> int:
    """Source route entries: family, offset, length; the last is empty (RFC 1701)."""
    for _ in range(_MAX_ROUTES):
        family, length = packet.u16(at), packet.u8(at + 3)
        at += 4 + length
        if family == 0 and length == 0:
            break
    return at


def wccp(packet: Packet, at: int) -> tuple[int, int]:
    """WCCP version 2 puts 4 bytes before the redirected packet, version 1 none."""
    return IP, at if by_version(packet, at) else at + 4


def erspan_2(packet: Packet, at: int) -> tuple[int, int]:
    """Type II: version and VLAN, session, index: 8 bytes."""
    if packet.u8(at) >> 4 != 1:
        return DONE, at
    packet.enter(Tunnel.ERSPAN, packet.u16(at + 2) & 0x3FF)
    return ETHERNET, at + 8


def erspan_3(packet: Packet, at: int) -> tuple[int, int]:
    """Type III: 12 bytes, and 8 of the platform if the last bit says so."""
    if packet.u8(at) >> 4 != 2:
        return DONE, at
    packet.enter(Tunnel.ERSPAN, packet.u16(at + 2) & 0x3FF)
    last = packet.u16(at + 10)
    kind = {0: ETHERNET, 2: IP}.get(last >> 10 & 0x1F, DONE)
    return kind, at + 12 + (8 if last & 1 else 0)


def etherip(packet: Packet, at: int) -> tuple[int, int]:
    """Version 3 and reserved bits."""
    if packet.u8(at) >> 4 != 3:
        return DONE, at
    packet.enter(Tunnel.ETHERIP, 0)
    return ETHERNET, at + 2


def ipcomp(packet: Packet, at: int) -> tuple[int, int]:
    """Next header, flags, compression index: 2 is DEFLATE (RFC 2394), so are most agreed ones."""
    protocol, index = packet.u8(at), packet.u16(at + 2)
    if protocol not in (4, 41) or (index != 2 and index < 256):
        return DONE, at
    if packet.tunnel == Tunnel.IPCOMP:  # twice packed: nobody does, but a bomb would
        return DONE, at
    try:
        inner = zlib.decompressobj(-15).decompress(packet.frame[at + 4 :], _MAX_UNPACKED)
    except zlib.error:
        return DONE, at
    packet.enter(Tunnel.IPCOMP, 0)
    packet.frame = inner
    packet.wire = len(inner)
    packet.limit = 0
    return IP, 0


def gtp(packet: Packet, at: int) -> tuple[int, int]:
    """Type 255 carries the user's packet; version 1 may have extension headers (TS 29.281, 5.2)."""
    flags = packet.u8(at)
    if packet.u8(at + 1) != 255 or not flags & 0x10:
        return DONE, at
    if flags >> 5 == 0:  # GSM 09.60: 20 bytes, with a flow label
        packet.enter(Tunnel.GTP_U, packet.u16(at + 6))
        return IP, at + 20
    if flags >> 5 != 1:
        return DONE, at
    packet.enter(Tunnel.GTP_U, packet.u32(at + 4))
    at += 8
    if flags & 7:
        extension, at = packet.u8(at + 3), at + 4
        for _ in range(16):
            if not flags & 4 or not extension:
                break
            size = packet.u8(at) * 4
            if not size:
                return DONE, at
            at += size
            extension = packet.u8(at - 1)
    return by_version(packet, at) or PPP, at


def vxlan(packet: Packet, at: int) -> tuple[int, int]:
    """Flag I, 24-bit network id, Ethernet."""
    if not packet.u8(at) & 0x08:
        return DONE, at
    packet.enter(Tunnel.VXLAN, packet.u32(at + 4) >> 8)
    return ETHERNET, at + 8


def vxlan_gpe(packet: Packet, at: int) -> tuple[int, int]:
    """draft-ietf-nvo3-vxlan-gpe: with flag P the fourth byte names what follows."""
    flags = packet.u8(at)
    if not flags & 0x08:
        return DONE, at
    packet.enter(Tunnel.VXLAN_GPE, packet.u32(at + 4) >> 8)
    return (NEXT_PROTOCOL.get(packet.u8(at + 3), DONE) if flags & 4 else ETHERNET), at + 8


def geneve(packet: Packet, at: int) -> tuple[int, int]:
    """Version 0, options counted in words, ethertype, 24-bit network id."""
    first = packet.u8(at)
    if first >> 6:
        return DONE, at
    packet.enter(Tunnel.GENEVE, packet.u32(at + 4) >> 8)
    kind = packet.u16(at + 2)
    return (kind if kind >= 0x0600 else DONE), at + 8 + (first & 0x3F) * 4


def l2tp(packet: Packet, at: int) -> tuple[int, int]:
    """Version 2 over UDP (RFC 2661, 3.1), or version 3 (RFC 3931, 4.1.2)."""
    flags = packet.u16(at)
    if flags & 0x8000:  # control
        return DONE, at
    if flags & 0x0F == 3:
        return L2TP_3, at + 4
    if flags & 0x0F != 2:
        return DONE, at
    at += 4 if flags & 0x4000 else 2  # a length
    number = packet.u16(at + 2)
    at += 4
    if flags & 0x0800:  # sequence numbers
        at += 4
    if flags & 0x0200:  # an offset
        at += 2 + packet.u16(at)
    packet.enter(Tunnel.L2TP, number)
    return PPP, at


def l2tp_3(packet: Packet, at: int) -> tuple[int, int]:
    """Session id, then a cookie and a sublayer whose lengths only the endpoints know.

    Ethernet is looked for behind each length they can have (RFC 3931, 4.1; RFC 4719).
    """
    number = packet.u32(at)
    if not number:  # control
        return DONE, at
    packet.enter(Tunnel.L2TP, number)
    for size in (0, 4, 8, 12):
        start = at + 4 + size
        if len(packet.frame) < start + 15:
            break
        kind, version = packet.u16(start + 12), packet.u8(start + 14)
        if (kind, version >> 4) in ((IPV4, 4), (IPV6, 6)) or kind == 0x8100:
            return ETHERNET, start
    for size in (0, 4, 8, 12):
        start = at + 4 + size
        if len(packet.frame) < start + 4:
            break
        if packet.u16(start) == 0xFF03:
            return PPP, start
    return DONE, at


def teredo(packet: Packet, at: int) -> tuple[int, int]:
    """IPv6, perhaps behind authentication and origin (RFC 4380, 5.1.1)."""
    if packet.u16(at) == 1:
        at += 4 + packet.u8(at + 2) + packet.u8(at + 3) + 9
    if packet.u16(at) == 0:
        at += 8
    packet.enter(Tunnel.TEREDO, 0)
    return (IPV6 if packet.u8(at) >> 4 == 6 else DONE), at


def ayiya(packet: Packet, at: int) -> tuple[int, int]:
    """Lengths of identity and signature, methods, next header, epoch."""
    lengths, code, protocol = packet.u16(at), packet.u8(at + 2), packet.u8(at + 3)
    if code & 0x0F != 1:  # forward
        return DONE, at
    packet.enter(Tunnel.AYIYA, 0)
    at += 8 + (1 << (lengths >> 12)) + (lengths >> 4 & 0x0F) * 4
    return (IP if protocol in (4, 41) else DONE), at


def lisp(packet: Packet, at: int) -> tuple[int, int]:
    """Flags and nonce, then instance id or locator bits: 8 bytes."""
    flags, word = packet.u8(at), packet.u32(at + 4)
    packet.enter(Tunnel.LISP, word >> 8 if flags & 0x08 else 0)
    return by_version(packet, at + 8), at + 8


def capwap(packet: Packet, at: int) -> tuple[int, int]:
    """RFC 5415, section 4.3: a header of HLEN words, then 802.3 or (T) 802.11."""
    if packet.u8(at) & 0x0F:  # DTLS
        return DONE, at
    fields = packet.u32(at) & 0xFFFFFF
    size = (fields >> 19) * 4
    if size < 8 or (fields & 0x80 and packet.u16(at + 6) >> 3):  # a later fragment
        return DONE, at
    packet.enter(Tunnel.CAPWAP, 0)
    at += size
    if not fields & 0x100:
        return ETHERNET, at
    # Some controllers write the frame control the other way round.
    if packet.u8(at) & 0x0F != 0x08 and packet.u8(at + 1) & 0x0F == 0x08:
        control = packet.frame[at : at + 2]
        packet.frame = packet.frame[:at] + control[::-1] + packet.frame[at + 2 :]
    return IEEE80211, at


LAYERS: dict[int, Layer] = {
    IP: network.any_ip,
    IP_IN_IP: network.ip_in_ip,
    IPV4: network.ipv4,
    IPV6: network.ipv6,
    UDP: udp,
    GRE: gre,
    WCCP: wccp,
    ERSPAN_2: erspan_2,
    ERSPAN_3: erspan_3,
    ETHERIP: etherip,
    IPCOMP: ipcomp,
    L2TP: l2tp,
    L2TP_3: l2tp_3,
    GTP: gtp,
    VXLAN: vxlan,
    VXLAN_GPE: vxlan_gpe,
    GENEVE: geneve,
    TEREDO: teredo,
    AYIYA: ayiya,
    LISP: lisp,
    CAPWAP: capwap,
}
