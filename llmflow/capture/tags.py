"""Tags and shims between the link layer and IP: VLAN, MPLS, PPPoE, service headers.

IEEE 802.1Q, 802.1ad, 802.1ah, 802.1AE, 802.1BR; RFC 3032, 4385, 4448 (MPLS and pseudowires);
RFC 2516 (PPPoE); RFC 8300 (NSH).
"""

from __future__ import annotations

from llmflow.capture.account import ENCRYPTED, MALFORMED
from llmflow.capture.packet import (
    DONE,
    ETHERNET,
    IPV4,
    IPV6,
    LLC,
    MPLS,
    MPLS_UPSTREAM,
    NSH,
    PPP,
    PPPOE,
    PSEUDOWIRE,
    Layer,
    Packet,
    SkipError,
    Tunnel,
    by_version,
)

_MAX_LABELS = 16
INSIDE_ETHERNET = frozenset({IPV4, IPV6, 0x8100, 0x88A8, 0x9100, MPLS, 0x8864, 0x0806})


def vlan(packet: Packet, at: int) -> tuple[int, int]:
    """802.1Q, 802.1ad and the numbers used before it; priority tags have the id 0."""
    packet.need(at + 4)
    frame = packet.frame
    number = (frame[at] & 0x0F) << 8 | frame[at + 1]
    if not packet.vlan:
        packet.vlan = number
    elif number:
        packet.vlan_inner = number
    kind = frame[at + 2] << 8 | frame[at + 3]
    return (kind if kind >= 0x0600 else LLC), at + 4


def shim(type_at: int) -> Layer:
    """A tag with nothing for us before its ethertype: VN-tag, E-tag, HSR."""

    def layer(packet: Packet, at: int) -> tuple[int, int]:
        kind = packet.u16(at + type_at)
        return (kind if kind >= 0x0600 else LLC), at + type_at + 2

    return layer


def mpls(packet: Packet, at: int) -> tuple[int, int]:
    """RFC 3032. What follows the stack is nowhere named: IP shows its version (RFC 4928)."""
    for _ in range(_MAX_LABELS):
        entry = packet.u32(at)
        at += 4
        if entry & 0x100:
            packet.enter(Tunnel.MPLS, entry >> 12)
            return by_version(packet, at) or PSEUDOWIRE, at
    raise SkipError(MALFORMED)


def pseudowire(packet: Packet, at: int) -> tuple[int, int]:
    """RFC 4448: Ethernet, behind a control word if its first nibble is 0 (RFC 4385)."""
    nibble = packet.u8(at) >> 4
    if nibble == 1:  # associated channel: operations, no traffic
        return DONE, at
    word = 4 if nibble == 0 and packet.u16(at + 16) in INSIDE_ETHERNET else 0
    kind = packet.u16(at + word + 12)
    return (ETHERNET if word or kind in INSIDE_ETHERNET else DONE), at + word


def pppoe(packet: Packet, at: int) -> tuple[int, int]:
    """RFC 2516: version and type 1, code 0 for a session, session id, length."""
    if packet.u16(at) != 0x1100:
        return DONE, at
    packet.enter(Tunnel.PPPOE, packet.u16(at + 2))
    return PPP, at + 6


def macsec(packet: Packet, at: int) -> tuple[int, int]:
    """802.1AE: a tag of 6 bytes, or 14 with the channel id; integrity alone leaves it readable."""
    control = packet.u8(at)
    if control & 0x0C:  # E and C: encrypted, changed
        raise SkipError(ENCRYPTED)
    packet.enter(Tunnel.MACSEC, packet.u32(at + 2))
    return _etype(packet, at + (14 if control & 0x20 else 6))


def _etype(packet: Packet, at: int) -> tuple[int, int]:
    kind = packet.u16(at)
    return (kind if kind >= 0x0600 else LLC), at + 2


def pbb(packet: Packet, at: int) -> tuple[int, int]:
    """802.1ah I-tag: 24-bit service id, then the customer's Ethernet."""
    packet.enter(Tunnel.PBB, packet.u32(at) & 0xFFFFFF)
    return ETHERNET, at + 4


def trill(packet: Packet, at: int) -> tuple[int, int]:
    """RFC 6325: 6 bytes and options, counted in words."""
    return ETHERNET, at + 6 + (packet.u16(at) >> 6 & 0x1F) * 4


# RFC 8300, section 2.2, and VXLAN-GPE, which shares the numbers.
NEXT_PROTOCOL = {1: IPV4, 2: IPV6, 3: ETHERNET, 4: NSH, 5: MPLS}


def nsh(packet: Packet, at: int) -> tuple[int, int]:
    """RFC 8300: length in words, next protocol, service path id."""
    size = (packet.u16(at) & 0x3F) * 4
    if size < 8:
        raise SkipError(MALFORMED)
    packet.enter(Tunnel.NSH, packet.u32(at + 4) >> 8)
    return NEXT_PROTOCOL.get(packet.u8(at + 3), DONE), at + size


def _plain_ppp(packet: Packet, at: int) -> tuple[int, int]:
    packet.need(at + 1)
    return PPP, at


def _jumbo_llc(packet: Packet, at: int) -> tuple[int, int]:
    packet.need(at + 3)
    return LLC, at


def _bridged(packet: Packet, at: int) -> tuple[int, int]:
    packet.need(at + 14)
    return ETHERNET, at


LAYERS: dict[int, Layer] = {
    **dict.fromkeys((0x8100, 0x88A8, 0x9100, 0x9200, 0x9300), vlan),
    MPLS: mpls,
    MPLS_UPSTREAM: mpls,
    PSEUDOWIRE: pseudowire,
    0x8864: pppoe,
    PPPOE: pppoe,
    0x880B: _plain_ppp,
    0x88E5: macsec,
    0x88E7: pbb,
    0x22F3: trill,
    NSH: nsh,
    0x8870: _jumbo_llc,
    0x6558: _bridged,
    0x8926: shim(4),  # VN-tag
    0x893F: shim(6),  # 802.1BR E-tag
    0x892F: shim(4),  # HSR, IEC 62439-3
}
