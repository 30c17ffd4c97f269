"""Link layers: from the first byte of a frame to the kind of what it carries.

LINKTYPE_ numbers are those of tcpdump.org/linktypes.html.
"""

from __future__ import annotations

from llmflow.capture import wireless
from llmflow.capture.account import MALFORMED
from llmflow.capture.packet import (
    CISCO_HDLC,
    DONE,
    ETHERNET,
    FRAME_RELAY,
    IEEE80211,
    IP,
    IPV4,
    IPV6,
    LINK,
    LLC,
    MPLS,
    NLPID,
    PPP,
    PPPOE,
    Layer,
    Packet,
    SkipError,
)

# Address families of IPv4 and IPv6: everybody's, Linux, the BSDs, macOS, Solaris.
_FAMILIES = {2: IPV4, 10: IPV6, 24: IPV6, 26: IPV6, 28: IPV6, 30: IPV6}


def jump(kind: int, size: int) -> Layer:
    """A layer that passes over ``size`` bytes to something known."""

    def layer(packet: Packet, at: int) -> tuple[int, int]:
        packet.need(at + size)
        return kind, at + size

    return layer


def typed(offset: int, size: int) -> Layer:
    """A layer of ``size`` bytes with an ethertype at ``offset``."""

    def layer(packet: Packet, at: int) -> tuple[int, int]:
        packet.need(at + size)
        frame = packet.frame
        return frame[at + offset] << 8 | frame[at + offset + 1], at + size

    return layer


def ethernet(packet: Packet, at: int) -> tuple[int, int]:
    """IEEE 802.3: a type from 0x0600 on, a length (LLC behind it) below."""
    packet.need(at + 14)
    frame = packet.frame
    kind = frame[at + 12] << 8 | frame[at + 13]
    if kind < 0x0600:
        # Cisco ISL has its own 26-byte header in front, known by its address.
        if frame[at : at + 5] in (b"\x01\x00\x0c\x00\x00", b"\x03\x00\x0c\x00\x00"):
            return ETHERNET, at + 26
        return LLC, at + 14
    return kind, at + 14


def llc(packet: Packet, at: int) -> tuple[int, int]:
    """IEEE 802.2 LLC with SNAP (IEEE 802), IP's own SAP (RFC 948), or ISO's (RFC 2684, 5.1)."""
    saps, control = packet.u16(at), packet.u8(at + 2)
    if control != 3:
        return DONE, at
    if saps == 0xAAAA:
        oui, kind = packet.u16(at + 3) << 8 | packet.u8(at + 5), packet.u16(at + 6)
        if oui == 0x0080C2 and kind in (1, 7):  # bridged Ethernet, RFC 2684, 5.2: padded to 4
            return ETHERNET, at + 10
        # 0x0000F8 is RFC 1042's neighbour for bridges (IEEE 802.1H).
        return (kind if oui in (0, 0x0000F8) and kind >= 0x0600 else DONE), at + 8
    return {0x0606: IPV4, 0xFEFE: NLPID}.get(saps, DONE), at + 3


def nlpid(packet: Packet, at: int) -> tuple[int, int]:
    """ISO/IEC TR 9577 network layer protocol id."""
    kind = packet.u8(at)
    if kind == 0x80:  # SNAP: OUI and ethertype
        return (packet.u16(at + 4) if packet.u16(at + 1) == 0 else DONE), at + 6
    return {0xCC: IPV4, 0x8E: IPV6, 0xCF: PPP}.get(kind, DONE), at + 1


def _raw(packet: Packet, at: int) -> tuple[int, int]:
    packet.need(at + 1)
    return IP, at


def _null(packet: Packet, at: int) -> tuple[int, int]:
    # The family is in the capturing host's byte order; some drivers leave an ethertype there.
    family = min(packet.le32(at), packet.u32(at))
    if family > 0xFFFF:
        return packet.u16(at + 2), at + 4
    return _FAMILIES.get(family, DONE), at + 4


def _sll(packet: Packet, at: int) -> tuple[int, int]:
    return _linux(packet.u16(at + 2), packet.u16(at + 14), at + 16)


def _sll2(packet: Packet, at: int) -> tuple[int, int]:
    packet.need(at + 20)
    return _linux(packet.u16(at + 8), packet.u16(at), at + 20)


def _linux(hardware: int, kind: int, at: int) -> tuple[int, int]:
    """Linux cooked: the protocol's meaning hangs on the hardware type (ARPHRD_)."""
    if hardware == 778:  # ip_gre: the GRE header's type
        return kind, at
    if hardware in (801, 802, 803):  # 802.11, with Prism or radiotap in front
        return {801: IEEE80211, 802: LINK + 119, 803: LINK + 127}[hardware], at
    if hardware == 824 or kind in (1, 4):  # netlink; 802.3 without LLC; 802.2
        return (LLC if kind == 4 else DONE), at
    return kind, at


def ppp(packet: Packet, at: int) -> tuple[int, int]:
    """RFC 1661, with or without RFC 1662 address and control; the protocol may be compressed."""
    if packet.u16(at) == 0xFF03:
        at += 2
    protocol, size = packet.u8(at), 1
    if not protocol & 1:
        protocol, size = packet.u16(at), 2
    at += size
    if protocol == 0x003D:  # multilink, RFC 1990: only a packet in one piece can be read
        return (PPP if packet.u8(at) & 0xC0 == 0xC0 else DONE), at + 4
    if protocol == 0x0031:  # bridged Ethernet, RFC 3518: flags, MAC type
        return (ETHERNET if packet.u8(at + 1) == 1 else DONE), at + 2
    return {0x0021: IPV4, 0x0057: IPV6, 0x0281: MPLS, 0x0283: MPLS}.get(protocol, DONE), at


def _ppp_serial(packet: Packet, at: int) -> tuple[int, int]:
    # HDLC framing, or Cisco's (addresses 0x0F and 0x8F).
    return (CISCO_HDLC if packet.u8(at) in (0x0F, 0x8F) else PPP), at


def frame_relay(packet: Packet, at: int) -> tuple[int, int]:
    """Q.922 address, then RFC 2427 (control, NLPID) or Cisco's bare ethertype."""
    for _ in range(4):  # the last octet of the address is odd
        at += 1
        if packet.u8(at - 1) & 1:
            break
    else:
        raise SkipError(MALFORMED)
    if packet.u8(at) != 3:
        return packet.u16(at), at + 2
    at += 1
    return NLPID, at + (packet.u8(at) == 0)  # one octet of padding may stand before the NLPID


def _token_ring(packet: Packet, at: int) -> tuple[int, int]:
    """IEEE 802.5: access and frame control, addresses, source route, LLC."""
    packet.need(at + 14)
    if packet.frame[at + 1] & 0xC0 != 0x40:
        return DONE, at
    routed = packet.frame[at + 8] & 0x80
    return LLC, at + 14 + (packet.u8(at + 14) & 0x1F if routed else 0)


def _fddi(packet: Packet, at: int) -> tuple[int, int]:
    packet.need(at + 13)
    return (LLC if packet.frame[at] & 0xF0 == 0x50 else DONE), at + 13


def _arcnet(packet: Packet, at: int, linux: int) -> tuple[int, int]:
    """RFC 1051 (types 240, 241) and RFC 1201, which adds flag and sequence number."""
    at += 2 + linux
    kind = packet.u8(at)
    if kind == 0xF0:
        return IPV4, at + 1
    if packet.u8(at + 1) == 0xFF:  # exception frame: the fields come again
        at += 4
    split = packet.u8(at + 1)
    known = {0xD4: IPV4, 0xC4: IPV6}.get(kind, DONE)
    return (known if split == 0 or split & 1 else DONE), at + 4


def _arcnet_bsd(packet: Packet, at: int) -> tuple[int, int]:
    return _arcnet(packet, at, 0)


def _arcnet_linux(packet: Packet, at: int) -> tuple[int, int]:
    return _arcnet(packet, at, 2)


def _clip(packet: Packet, at: int) -> tuple[int, int]:
    # Linux classical IP over ATM: LLC where it is written out, bare IP where it is not.
    return (LLC if packet.u16(at) == 0xAAAA else IP), at


def _sun_atm(packet: Packet, at: int) -> tuple[int, int]:
    """Flags (their low half is the kind of traffic), VPI, VCI."""
    kind = packet.u8(at) & 0x0F
    packet.need(at + 4)
    if kind == 1:  # LAN emulation: the LE client's id stands before Ethernet
        return ETHERNET, at + 6
    return (LLC if kind == 2 else DONE), at + 4


def _nflog(packet: Packet, at: int) -> tuple[int, int]:
    """Netfilter log: family, version, resource, then attributes; number 9 is the packet."""
    packet.need(at + 4)
    family = packet.u8(at)
    at += 4
    while at < packet.wire:
        length, kind = packet.le16(at), packet.le16(at + 2)
        if length < 4:
            raise SkipError(MALFORMED)
        if kind & 0x7FFF == 9:
            return _FAMILIES.get(family, DONE), at + 4
        packet.need(at + length)
        at += length + 3 & ~3
    return DONE, at


def _pktap(packet: Packet, at: int) -> tuple[int, int]:
    """Apple: length of this header, type of record, link type of what follows."""
    size, link = packet.le32(at), packet.le32(at + 8)
    if size < 12:
        raise SkipError(MALFORMED)
    return LINK + min(link, 0xFFFF), at + size


def _pflog(packet: Packet, at: int) -> tuple[int, int]:
    size = packet.u8(at)
    return _FAMILIES.get(packet.u8(at + 1), DONE), at + (size + 3 & ~3)


def _enc(packet: Packet, at: int) -> tuple[int, int]:
    return _null(packet, at)[0], at + 12


def _ipnet(packet: Packet, at: int) -> tuple[int, int]:
    return _FAMILIES.get(packet.u8(at + 1), DONE), at + 24


def _erf(packet: Packet, at: int) -> tuple[int, int]:
    """Endace: 16 bytes, extension headers (bit 7 of a type says that one follows), 2 of padding."""
    more, kind = packet.u8(at + 8), packet.u8(at + 8) & 0x7F
    at += 16
    for _ in range(8):
        if not more & 0x80:
            break
        more, at = packet.u8(at), at + 8
    return (ETHERNET if kind in (2, 11, 16, 20) else DONE), at + 2


def _dsa(packet: Packet, at: int) -> tuple[int, int]:
    """Marvell switch tag in place of, or around, the VLAN tag."""
    tag = packet.u16(at + 12)
    if tag & 0x2000 and not packet.vlan:
        packet.vlan = packet.u16(at + 14) & 0x0FFF
    return packet.u16(at + 16), at + 18


def _juniper(kind: int) -> Layer:
    """Juniper's header: magic, flags, extensions; flag 2 says that the link layer is cut off."""

    def layer(packet: Packet, at: int) -> tuple[int, int]:
        if packet.u16(at) != 0x4D47 or packet.u8(at + 2) != 0x43:
            raise SkipError(MALFORMED)
        flags = packet.u8(at + 3)
        at += 4
        if flags & 0x80:
            at += 2 + packet.u16(at)
        if flags & 0x02:
            packet.need(at + 4)
            return IP, at + 4
        return kind, at

    return layer


# number -> (name, layer)
LINKS: dict[int, tuple[str, Layer]] = {
    0: ("null (BSD loopback)", _null),
    1: ("Ethernet", ethernet),
    6: ("Token Ring", _token_ring),
    7: ("ARCnet", _arcnet_bsd),
    8: ("SLIP", jump(IP, 16)),
    9: ("PPP", ppp),
    10: ("FDDI", _fddi),
    12: ("raw IP", _raw),
    14: ("raw IP", _raw),
    50: ("PPP in HDLC framing", _ppp_serial),
    51: ("PPPoE", jump(PPPOE, 0)),
    100: ("ATM RFC 1483", llc),
    101: ("raw IP", _raw),
    104: ("Cisco HDLC", typed(2, 4)),
    105: ("802.11", wireless.ieee80211),
    106: ("ATM classical IP", _clip),
    107: ("Frame Relay", frame_relay),
    108: ("loop (OpenBSD)", _null),
    109: ("OpenBSD encapsulated", _enc),
    113: ("Linux cooked", _sll),
    117: ("OpenBSD pflog", _pflog),
    119: ("802.11 Prism", wireless.prism),
    122: ("IP over Fibre Channel", jump(LLC, 16)),
    123: ("SunATM", _sun_atm),
    127: ("802.11 radiotap", wireless.radiotap),
    129: ("ARCnet Linux", _arcnet_linux),
    138: ("IP over IEEE 1394", typed(16, 18)),
    163: ("802.11 AVS", wireless.prism),
    166: ("PPP with direction", jump(PPP, 1)),
    167: ("Juniper PPPoE", _juniper(ETHERNET)),
    178: ("Juniper Ethernet", _juniper(ETHERNET)),
    179: ("Juniper PPP", _juniper(PPP)),
    180: ("Juniper Frame Relay", _juniper(FRAME_RELAY)),
    181: ("Juniper Cisco HDLC", _juniper(CISCO_HDLC)),
    192: ("PPI", wireless.ppi),
    197: ("ERF", _erf),
    204: ("PPP with direction", jump(PPP, 1)),
    205: ("Cisco HDLC with direction", jump(CISCO_HDLC, 1)),
    206: ("Frame Relay with direction", jump(FRAME_RELAY, 1)),
    219: ("MPLS", jump(MPLS, 0)),
    226: ("Solaris ipnet", _ipnet),
    228: ("raw IPv4", jump(IPV4, 0)),
    229: ("raw IPv6", jump(IPV6, 0)),
    239: ("NFLOG", _nflog),
    240: ("netANALYZER", jump(ETHERNET, 4)),
    241: ("netANALYZER transparent", jump(ETHERNET, 12)),
    242: ("IP over InfiniBand", typed(40, 44)),
    258: ("PKTAP", _pktap),
    274: ("Ethernet with preamble", jump(ETHERNET, 8)),
    276: ("Linux cooked v2", _sll2),
    281: ("Broadcom switch tag", typed(16, 18)),
    282: ("Broadcom switch tag in front", jump(ETHERNET, 4)),
    284: ("Marvell switch tag", _dsa),
    285: ("Marvell EtherType switch tag", typed(20, 22)),
}  # fmt: skip

# Often met, and nothing for us in them.
WITHOUT_IP = {
    140: "MTP2 with header", 141: "MTP3", 143: "DOCSIS", 165: "BACnet MS/TP",
    187: "Bluetooth HCI", 189: "USB Linux", 195: "802.15.4", 201: "Bluetooth HCI with direction",
    220: "USB Linux mmapped", 227: "SocketCAN", 230: "802.15.4 without FCS", 249: "USBPcap",
    251: "Bluetooth LE", 252: "Wireshark upper PDU", 253: "netlink", 270: "LoRaTap",
}  # fmt: skip


def link_name(number: int) -> str:
    """Name of a link type for people."""
    if number in LINKS:
        return LINKS[number][0]
    return WITHOUT_IP.get(number, f"link type {number}")


LAYERS: dict[int, Layer] = {
    **{LINK + number: layer for number, (_, layer) in LINKS.items()},
    ETHERNET: ethernet,
    LLC: llc,
    NLPID: nlpid,
    PPP: ppp,
    FRAME_RELAY: frame_relay,
    CISCO_HDLC: typed(2, 4),
    IEEE80211: wireless.ieee80211,
}
