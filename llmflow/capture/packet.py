"""One packet on its way through the layers: what every layer reads and notes.

A *layer* is a function ``layer(packet, at) -> (kind, at)``: it reads the header at ``at`` and says
what lies behind it and where. A *kind* is an ethertype (IEEE 802), or a number of our own above all
ethertypes; tables map kinds to layers. No layer calls another, so nesting needs no recursion and
the depth is bounded in one place.
"""

from __future__ import annotations

from collections.abc import Callable

from llmflow.capture.account import MALFORMED, TRUNCATED_PACKET

# Kinds that are no ethertype. Link types follow behind LINK.
DONE = 0
(
    IP, IP_IN_IP, UDP, ETHERNET, LLC, NLPID, PPP, PPPOE, FRAME_RELAY, CISCO_HDLC, IEEE80211,
    PSEUDOWIRE, GRE, WCCP, ERSPAN_2, ERSPAN_3, ETHERIP, IPCOMP, L2TP, L2TP_3, GTP, VXLAN, VXLAN_GPE,
    GENEVE, TEREDO, AYIYA, LISP, CAPWAP,
) = range(0x10000, 0x1001C)  # fmt: skip
LINK = 0x20000

IPV4, IPV6 = 0x0800, 0x86DD
MPLS, MPLS_UPSTREAM, NSH = 0x8847, 0x8848, 0x894F

PADDING = 64  # bytes, at most, behind an IP packet in a frame

Layer = Callable[["Packet", int], tuple[int, int]]


class Tunnel:
    """Codes of the column ``tunnel``: what the row's packet was carried in, innermost."""

    NAMES = (
        "", "mpls", "pppoe", "ip-in-ip", "gre", "pptp", "erspan", "gtp-u", "vxlan", "vxlan-gpe",
        "geneve", "nsh", "l2tp", "teredo", "ayiya", "lisp", "capwap", "etherip", "ipcomp", "pbb",
        "macsec",
    )  # fmt: skip
    (
        NONE, MPLS, PPPOE, IP_IN_IP, GRE, PPTP, ERSPAN, GTP_U, VXLAN, VXLAN_GPE,
        GENEVE, NSH, L2TP, TEREDO, AYIYA, LISP, CAPWAP, ETHERIP, IPCOMP, PBB,
        MACSEC,
    ) = range(len(NAMES))  # fmt: skip


class SkipError(Exception):
    """A packet that does not become a row; its text is the reason."""


class Packet:
    """A frame being decoded.

    Attributes
    ----------
    frame : bytes
        What was captured; a layer that unpacks (IPComp) puts other bytes here.
    wire : int
        Length on the wire, at least ``len(frame)``.
    vlan, vlan_inner : int
        Outermost VLAN id, and the innermost if there are several.
    tunnel, tunnel_id : int
        Kind (`Tunnel`) and number of the innermost tunnel met so far.
    network : tuple of int or None
        Deepest IP header decoded: source and destination halves, transport protocol, length of the
        IP packet, length of its headers, where it begins, and the four fields above as they stood.
    fragment : bool
        Whether that IP packet is the first of several fragments.
    limit : int
        Where the UDP datagram ends that is taken for a tunnel by its port; 0 outside of such.
    """

    __slots__ = (
        "fragment",
        "frame",
        "limit",
        "network",
        "tunnel",
        "tunnel_id",
        "vlan",
        "vlan_inner",
        "wire",
    )  # fmt: skip

    def __init__(self, frame: bytes, wire: int) -> None:
        self.frame = frame
        self.wire = wire
        self.vlan = self.vlan_inner = self.tunnel = self.tunnel_id = 0
        self.network: tuple[int, ...] | None = None
        self.fragment = False
        self.limit = 0

    def need(self, end: int) -> None:
        """Refuse a frame with fewer than ``end`` bytes: cut by the capture, or never there."""
        if len(self.frame) < end:
            raise SkipError(TRUNCATED_PACKET if self.wire >= end else MALFORMED)

    def u8(self, at: int) -> int:
        """Byte at ``at``."""
        self.need(at + 1)
        return self.frame[at]

    def u16(self, at: int) -> int:
        """Big-endian 16-bit number at ``at``."""
        self.need(at + 2)
        return int.from_bytes(self.frame[at : at + 2], "big")

    def u32(self, at: int) -> int:
        """Big-endian 32-bit number at ``at``."""
        self.need(at + 4)
        return int.from_bytes(self.frame[at : at + 4], "big")

    def le16(self, at: int) -> int:
        """Little-endian 16-bit number at ``at``."""
        self.need(at + 2)
        return int.from_bytes(self.frame[at : at + 2], "little")

    def le32(self, at: int) -> int:
        """Little-endian 32-bit number at ``at``."""
        self.need(at + 4)
        return int.from_bytes(self.frame[at : at + 4], "little")

    def fits(self, end: int) -> None:
        """Refuse an IP packet that does not fill the datagram it is supposed to be tunnelled in.

        A port says little: what another application sends from it must not pass for IP. Ethernet
        may leave padding and a checksum behind the packet.
        """
        if not 0 <= self.limit - end <= PADDING:
            raise SkipError(MALFORMED)

    def enter(self, tunnel: int, number: int) -> None:
        """Note that what follows lies in a tunnel."""
        self.tunnel, self.tunnel_id = tunnel, number


def by_version(packet: Packet, at: int) -> int:
    """Kind of an IP header by its version field; DONE if it is none."""
    return {4: IPV4, 6: IPV6}.get(packet.u8(at) >> 4, DONE)
