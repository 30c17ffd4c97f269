"""What lies in front of an IP header, for many packets at once: links, tags, common tunnels.

The vectorised counterparts of those layers in ``links``, ``tags`` and ``tunnels`` that operators'
captures are full of. Everything else, and everything in doubt, gets the kind ``DOUBT`` and is left
to the reference lane.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from llmflow.arrays import I64, U8, U16, U32, Bool
from llmflow.capture.chains import unaligned
from llmflow.capture.columns import Columns
from llmflow.capture.dpkt_lane import LAYERS
from llmflow.capture.packet import GTP, IPV4, IPV6, MPLS, VXLAN, Tunnel
from llmflow.capture.records import Records
from llmflow.capture.tags import INSIDE_ETHERNET
from llmflow.capture.tunnels import PORTS

DOUBT, NO_IP = 0, 1  # kinds below all ethertypes
_IP, _PSEUDOWIRE, _ETHERNET = 2, 3, 4  # on the way
_PPPOE, _VLANS = 0x8864, (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)
_MAX_TAGS = 8  # more are left to the reference lane
_MAX_EXTENSIONS = 2  # of GTP-U, likewise


def _set_of(kinds: Iterable[int]) -> Bool:
    members = np.zeros(1 << 16, np.bool_)
    members[list(kinds)] = True
    return members


# Ethertypes behind which the reference lane knows no layer: ARP, LLDP and the like.
_FOREIGN = ~_set_of(kind for kind in LAYERS if 0 <= kind < 1 << 16)
_FOREIGN[:0x0600] = False
_INSIDE = _set_of(INSIDE_ETHERNET)
_TAGS = _set_of({*_VLANS, MPLS, _PPPOE, _IP, _PSEUDOWIRE, _ETHERNET})
TUNNEL_PORTS = _set_of(PORTS)
_TUNNEL_AT = np.zeros(1 << 16, np.int32)  # what the reference lane looks for at each UDP port
_TUNNEL_AT[list(PORTS)] = list(PORTS.values())


@dataclass(frozen=True, slots=True)
class Fronts(Columns):
    """Packets on the way to an IP header.

    ``row`` is the packet's record; ``at`` the place of what comes next and ``kind`` what that is;
    ``end`` the end of the captured bytes; ``limit`` the end of the UDP datagram around it, 0
    outside of one; the others as in PacketColumns. The layers change the arrays in place.
    """

    row: I64
    at: I64
    kind: U16
    end: I64
    limit: I64
    vlan: U16
    vlan_inner: U16
    tunnel: U8
    tunnel_id: U32


def enter(block: bytes, records: Records) -> Fronts:
    """All records of a block, each at its IP header, ``NO_IP``, or in ``DOUBT``."""
    n = len(records)
    f = Fronts(
        np.arange(n),
        records.offset.copy(),
        np.zeros(n, np.uint16),
        records.offset + records.captured,
        np.zeros(n, np.int64),
        np.zeros(n, np.uint16),
        np.zeros(n, np.uint16),
        np.zeros(n, np.uint8),
        np.zeros(n, np.uint32),
    )
    timed = records.time >= 0
    for link in records.links():
        here = timed & (records.link == link)
        if link == 1:
            _ethernet(block, f, slice(None) if here.all() else np.flatnonzero(here))
        elif link in (12, 14, 101):
            f.kind[here] = _IP
        elif link == 113:
            _cooked(block, f, np.flatnonzero(here), size=16, kind_at=14, hardware_at=2)
        elif link == 276:
            _cooked(block, f, np.flatnonzero(here), size=20, kind_at=0, hardware_at=8)
    _peel(block, f)
    return f


def _ethernet(block: bytes, f: Fronts, rows: I64 | slice) -> None:
    """IEEE 802.3. Spanning tree is no IP; other frames without a type are doubtful."""
    words = unaligned(block, ">u2")
    at, end = f.at[rows], f.end[rows]
    kind = words[at + 12]
    kind[end - at < 14] = DOUBT
    low = np.flatnonzero(kind < 0x0600)
    if len(low):
        start = at[low]
        tree = (words[start] == 0x0180) & (words[start + 14] == 0x4242) & (end[low] - start >= 17)
        kind[low] = np.where(tree, NO_IP, DOUBT)
    f.kind[rows] = kind
    f.at[rows] = at + 14


def _cooked(
    block: bytes, f: Fronts, rows: I64, *, size: int, kind_at: int, hardware_at: int
) -> None:
    """Linux cooked: the protocol means an ethertype for ordinary hardware (ARPHRD_ below 778)."""
    words = unaligned(block, ">u2")
    at = f.at[rows]
    kind = words[at + kind_at]
    plain = (f.end[rows] - at >= size) & (words[at + hardware_at] < 778) & (kind >= 0x0600)
    f.kind[rows] = np.where(plain, kind, DOUBT)
    f.at[rows] += size


def _peel(block: bytes, f: Fronts) -> None:
    """Take tags and shims off until each row stands at IP, at something else, or is in doubt."""
    todo = np.flatnonzero(_TAGS[f.kind])
    for _ in range(_MAX_TAGS):
        if not len(todo):
            break
        kind = f.kind[todo]
        for some, layer in (
            (np.isin(kind, _VLANS), _vlan),
            (kind == MPLS, _mpls),
            (kind == _PPPOE, _pppoe),
            (kind == _PSEUDOWIRE, _pseudowire),
            (kind == _ETHERNET, _ethernet),
            (kind == _IP, _by_version),
        ):
            if some.any():
                layer(block, f, todo[some])
        todo = todo[_TAGS[f.kind[todo]]]
    f.kind[todo] = DOUBT
    f.kind[_FOREIGN[f.kind]] = NO_IP


def _vlan(block: bytes, f: Fronts, rows: I64) -> None:
    words = unaligned(block, ">u2")
    at = f.at[rows]
    number = words[at] & 0x0FFF
    first = f.vlan[rows] == 0
    f.vlan_inner[rows] = np.where(~first & (number > 0), number, f.vlan_inner[rows])
    f.vlan[rows] = np.where(first, number, f.vlan[rows])
    kind = words[at + 2]
    f.kind[rows] = np.where((f.end[rows] - at >= 4) & (kind >= 0x0600), kind, DOUBT)
    f.at[rows] += 4


def _mpls(block: bytes, f: Fronts, rows: I64) -> None:
    """One label of the stack; behind the last one IP shows its version."""
    at = f.at[rows]
    entry = unaligned(block, ">u4")[at]
    last = entry & 0x100 != 0
    bottom = rows[last]
    f.tunnel[bottom] = Tunnel.MPLS
    f.tunnel_id[bottom] = entry[last] >> 12
    f.at[rows] += 4
    f.kind[rows] = np.where(f.end[rows] - at >= 4, MPLS, DOUBT)
    bottom = bottom[f.kind[bottom] == MPLS]
    _by_version(block, f, bottom)
    wire = bottom[(f.kind[bottom] == DOUBT) & (f.end[bottom] > f.at[bottom])]
    f.kind[wire] = _PSEUDOWIRE


def _pseudowire(block: bytes, f: Fronts, rows: I64) -> None:
    """RFC 4448, with a control word; what has none is left to the reference lane."""
    words = unaligned(block, ">u2")
    at = f.at[rows]
    word = (words[at] >> 12 == 0) & _INSIDE[words[at + 16]] & (f.end[rows] - at >= 18)
    f.kind[rows] = np.where(word, _ETHERNET, DOUBT)
    f.at[rows] += 4


def _pppoe(block: bytes, f: Fronts, rows: I64) -> None:
    words = unaligned(block, ">u2")
    at = f.at[rows]
    protocol = words[at + 6]
    session = (words[at] == 0x1100) & (f.end[rows] - at >= 8)
    kind = np.where(protocol == 0x0021, IPV4, np.where(protocol == 0x0057, IPV6, DOUBT))
    f.kind[rows] = np.where(session, kind, DOUBT)
    f.tunnel[rows] = Tunnel.PPPOE
    f.tunnel_id[rows] = words[at + 2]
    f.at[rows] += 8


def _by_version(block: bytes, f: Fronts, rows: I64) -> None:
    at = f.at[rows]
    version = unaligned(block, "u1")[at] >> 4
    kind = np.where(version == 4, IPV4, np.where(version == 6, IPV6, DOUBT))
    f.kind[rows] = np.where(f.end[rows] > at, kind, DOUBT)


def open_tunnels(block: bytes, f: Fronts, sport: U16, dport: U16) -> None:
    """Move UDP packets at tunnel ports, which stand behind the UDP header, to the IP inside."""
    tunnel = np.where(TUNNEL_PORTS[dport], _TUNNEL_AT[dport], _TUNNEL_AT[sport])
    f.kind[:] = DOUBT
    _gtp(block, f, np.flatnonzero(tunnel == GTP))
    _vxlan(block, f, np.flatnonzero(tunnel == VXLAN))
    _peel(block, f)
    # What is no IP inside of a tunnel stays a packet of the IP around it.
    f.kind[f.kind == NO_IP] = DOUBT


def _gtp(block: bytes, f: Fronts, rows: I64) -> None:
    """GTP-U version 1, user data, at most a few extension headers (TS 29.281, 5.2)."""
    octets, longs = unaligned(block, "u1"), unaligned(block, ">u4")
    at = f.at[rows]
    flags = octets[at]
    user = (flags >> 4 == 0b0011) & (octets[at + 1] == 255) & (f.end[rows] - at >= 12)
    f.tunnel[rows] = Tunnel.GTP_U
    f.tunnel_id[rows] = longs[at + 4]
    optional = flags & 7 != 0
    after = at + np.where(optional, 12, 8)
    extension = np.where(flags & 4 != 0, octets[at + 11], 0)
    for _ in range(_MAX_EXTENSIONS):
        more = np.flatnonzero(user & (extension > 0))
        size = octets[after[more]].astype(np.int64) * 4
        user[more] = (size > 0) & (f.end[rows[more]] - after[more] >= size)
        after[more] += np.where(user[more], size, 0)
        extension[more] = octets[after[more] - 1]
    f.at[rows] = after
    f.kind[rows] = np.where(user & (extension == 0), _IP, DOUBT)


def _vxlan(block: bytes, f: Fronts, rows: I64) -> None:
    at = f.at[rows]
    known = (unaligned(block, "u1")[at] & 0x08 != 0) & (f.end[rows] - at >= 8)
    f.tunnel[rows] = Tunnel.VXLAN
    f.tunnel_id[rows] = unaligned(block, ">u4")[at + 4] >> 8
    f.kind[rows] = np.where(known, _ETHERNET, DOUBT)
    f.at[rows] += 8
