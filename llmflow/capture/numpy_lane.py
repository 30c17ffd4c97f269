"""The vectorised lane: the packets of a block decoded at once, without a loop over packets.

It knows Ethernet, Linux cooked and raw IP; VLAN, MPLS and PPPoE tags; GTP-U and VXLAN; IPv4, IPv6
without extension headers; TCP, UDP, and protocols without ports and without a packet inside. The
rest, and everything in doubt, is left to the reference lane, which must agree on what is decoded
here column by column.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import I64, U8, Bool
from llmflow.capture import numpy_fronts
from llmflow.capture.account import FRAGMENT, NOT_IP, TRUNCATED_PACKET
from llmflow.capture.chains import gather, unaligned
from llmflow.capture.columns import (
    HINT_CLIENT_HELLO,
    HINT_QUIC_LONG,
    HINT_SERVER_HELLO,
    IPV4_MAPPED,
    PORTED,
    TCP,
    UDP,
    PacketColumns,
)
from llmflow.capture.dpkt_lane import Tunnels
from llmflow.capture.network import AUTHENTICATION, EXTENSIONS, PROTOCOLS
from llmflow.capture.numpy_fronts import NO_IP, TUNNEL_PORTS, Fronts
from llmflow.capture.packet import IPV4, IPV6, PADDING
from llmflow.capture.records import Records

_MAX_DEPTH = 4  # IP in tunnels in IP; deeper is left to the reference lane
_ROOM = 96  # bytes that gathers may reach behind a packet's end
_SMALL = 1 << 16  # bytes of a block that is rather copied, with room behind it

# Protocols that make a row, by IP version: TCP, UDP, and those with neither ports nor a packet
# inside that the reference lane would open.
_COLUMN = np.ones((2, 256), np.bool_)
_COLUMN[:, list(PROTOCOLS.keys() | {*PORTED, AUTHENTICATION})] = False
_COLUMN[1, list(EXTENSIONS)] = False
_COLUMN[:, [TCP, UDP]] = True
_LEAST = np.zeros(256, np.int64)  # bytes of transport headers
_LEAST[[TCP, UDP]] = 20, 8

# The fixed headers, as they are gathered: one copy of some bytes per packet, then columns of it.
_IPV4_HEADER = np.dtype(  # RFC 791
    {"names": ["version", "length", "fragment", "protocol", "src", "dst"],
     "formats": ["u1", ">u2", ">u2", "u1", ">u4", ">u4"],
     "offsets": [0, 2, 6, 9, 12, 16], "itemsize": 20}
)  # fmt: skip
_IPV6_HEADER = np.dtype(  # RFC 8200
    {"names": ["version", "length", "protocol", "src_hi", "src_lo", "dst_hi", "dst_lo"],
     "formats": ["u1", ">u2", "u1", ">u8", ">u8", ">u8", ">u8"],
     "offsets": [0, 4, 6, 8, 16, 24, 32], "itemsize": 40}
)  # fmt: skip
_TRANSPORT = np.dtype(  # RFC 9293; UDP's length (RFC 768) is where TCP's sequence number begins
    {"names": ["sport", "dport", "udp_length", "seq", "ack", "offset", "flags", "window"],
     "formats": [">u2", ">u2", ">u2", ">u4", ">u4", "u1", "u1", ">u2"],
     "offsets": [0, 2, 4, 4, 8, 12, 13, 14], "itemsize": 20}
)  # fmt: skip


def decode(
    block: bytes, records: Records, position: int, tunnels: Tunnels = "inner"
) -> tuple[list[PacketColumns], Counter[str], I64]:
    """Decode what can be decoded for sure.

    Parameters
    ----------
    block, records, position, tunnels
        As :func:`llmflow.capture.dpkt_lane.decode`.

    Returns
    -------
    packets : list of PacketColumns
        The packets decoded, by the depth of their IP header; each in capture order.
    skipped : Counter of str
        Packets that are surely not decoded, by reason.
    rest : ndarray of int64
        Rows of ``records`` for the other lane.
    """
    if len(block) < _SMALL:
        block += bytes(_ROOM)
    # From the first packet on behind which gathers have no room, the other lane takes over.
    cramped = records.offset + records.captured > len(block) - _ROOM
    count = int(cramped.argmax()) if cramped.any() else len(records)
    fronts = numpy_fronts.enter(block, records.take(slice(0, count)))
    left = np.ones(len(records), np.bool_)
    skipped: Counter[str] = Counter()

    def skip(rows: I64, reason: str) -> None:
        left[rows] = False
        if len(rows):
            skipped[reason] += len(rows)

    skip(np.flatnonzero(fronts.kind == NO_IP), NOT_IP)
    parts = []
    for depth in range(_MAX_DEPTH):
        level = _Level.read(block, fronts, inner=depth > 0)
        skip(fronts.row[level.fragment], FRAGMENT)
        skip(fronts.row[level.truncated], TRUNCATED_PACKET)
        kept, inside = level.rows, None
        if tunnels == "inner":
            inside, kept = level.divide()
        parts.append(level.columns(block, fronts, kept, records, position))
        left[parts[-1].position - position] = False
        if inside is None or not len(inside):
            break
        fronts = level.inside(block, fronts, inside)
    return parts, skipped, np.flatnonzero(left)


@dataclass(frozen=True, slots=True)
class _Level:
    """The IP headers of one depth, and what was read behind them.

    ``of``: rows of the fronts that stand at IP; the other columns are theirs. ``rows``: those that
    can be decoded; ``fragment`` and ``truncated``: rows of the fronts that surely cannot.
    """

    of: I64
    at: I64
    six: Bool
    ip4: NDArray[np.void]
    transport: NDArray[np.void]
    protocol: U8
    length: I64
    header: I64
    shift: I64
    payload: I64
    captured: I64
    rows: I64
    fragment: I64
    truncated: I64

    @classmethod
    def read(cls, block: bytes, f: Fronts, *, inner: bool) -> _Level:
        """Read IP and transport headers; doubt what is unusual."""
        six = f.kind == IPV6
        of = np.flatnonzero(six | (f.kind == IPV4))
        at, six = f.at[of], six[of]
        ip4 = gather(block, at, _IPV4_HEADER)
        version, fragment = ip4["version"], ip4["fragment"] & 0x3FFF
        header = (version & 0x0F).astype(np.int64) * 4
        length = ip4["length"].astype(np.int64)
        protocol = ip4["protocol"].copy()
        sound = (version >> 4 == 4) & (header >= 20)
        sixes = np.flatnonzero(six)
        ip6 = gather(block, at[sixes], _IPV6_HEADER)
        header[sixes], length[sixes] = 40, ip6["length"].astype(np.int64) + 40
        protocol[sixes], fragment[sixes] = ip6["protocol"], 0
        sound[sixes] = (ip6["version"] >> 4 == 6) & (ip6["length"] > 0)

        room, behind = f.end[of] - at - header, length - header
        # A length of 0 in the header (offload, jumbograms) is the other lane's.
        sound &= (room >= 0) & (behind >= 0)
        if inner:
            limit = f.limit[of]
            spare = limit - at - length
            sound &= (limit == 0) | ((spare >= 0) & (spare <= PADDING))
        later = np.flatnonzero(sound & (fragment & 0x1FFF != 0))
        sound &= (fragment == 0) & _COLUMN[six.view(np.uint8), protocol]

        transport = gather(block, at + header, _TRANSPORT)
        least = _LEAST[protocol]
        captured = np.minimum(room, behind)
        short = np.flatnonzero(captured < least)
        truncated = short[sound[short] & (behind[short] >= least[short])]
        tcp = protocol == TCP
        shift = np.where(tcp, (transport["offset"] >> 4).astype(np.int64) * 4, least)
        payload = behind - shift
        udp = np.flatnonzero(protocol == UDP)
        udp_length = transport["udp_length"][udp].astype(np.int64)
        payload[udp] = np.minimum(udp_length, behind[udp]) - 8
        sound[udp] &= udp_length >= 8
        sound &= (captured >= least) & (shift >= least) & (payload >= 0)
        return cls(
            of, at, six, ip4, transport, protocol, length, header, shift, payload, captured,
            np.flatnonzero(sound), of[later], of[truncated],
        )  # fmt: skip

    def divide(self) -> tuple[I64, I64]:
        """The rows at UDP ports where a tunnel may end, and the others."""
        tunnel = (self.protocol == UDP) & (
            TUNNEL_PORTS[self.transport["sport"]] | TUNNEL_PORTS[self.transport["dport"]]
        )
        inside = tunnel[self.rows]
        return self.rows[inside], self.rows[~inside]

    def inside(self, block: bytes, f: Fronts, rows: I64) -> Fronts:
        """Some rows behind their UDP header, in the tunnel that may be there."""
        deeper = f.take(self.of[rows])
        at, transport = self.at[rows], self.transport[rows]
        deeper.at[:] = at + self.header[rows] + 8
        deeper.limit[:] = at + self.length[rows]
        numpy_fronts.open_tunnels(block, deeper, transport["sport"], transport["dport"])
        return deeper

    def columns(
        self, block: bytes, f: Fronts, rows: I64, records: Records, position: int
    ) -> PacketColumns:
        """The packets of some rows."""
        of, ip4, transport = self.of[rows], _pick(self.ip4, rows), _pick(self.transport, rows)
        protocol, shift = self.protocol[rows], self.shift[rows]
        tcp, udp = protocol == TCP, protocol == UDP
        ports = tcp | udp
        high = np.zeros(len(rows), np.uint64)
        src_hi, src_lo = high, ip4["src"].astype(np.uint64) | np.uint64(IPV4_MAPPED)
        dst_hi, dst_lo = high.copy(), ip4["dst"].astype(np.uint64) | np.uint64(IPV4_MAPPED)
        sixes = np.flatnonzero(self.six[rows])
        ip6 = gather(block, self.at[rows[sixes]], _IPV6_HEADER)
        src_hi[sixes], src_lo[sixes] = ip6["src_hi"], ip6["src_lo"]
        dst_hi[sixes], dst_lo[sixes] = ip6["dst_hi"], ip6["dst_lo"]
        data = self.at[rows] + self.header[rows] + shift
        record = f.row[of]
        payload, size = self.payload[rows] * ports, self.captured[rows] - shift
        there = np.clip(size, 0, payload)
        return PacketColumns(
            records.time[record],
            src_hi,
            src_lo,
            dst_hi,
            dst_lo,
            transport["sport"].astype(np.uint16) * ports,
            transport["dport"].astype(np.uint16) * ports,
            protocol,
            transport["flags"] * tcp,
            self.length[rows],
            payload,
            transport["seq"].astype(np.uint32) * tcp,
            transport["ack"].astype(np.uint32) * tcp,
            transport["window"].astype(np.uint16) * tcp,
            _hints(block, data, size, tcp, udp),
            f.vlan[of],
            f.vlan_inner[of],
            f.tunnel[of],
            f.tunnel_id[of],
            ((data - records.offset[record]) * (there > 0)).astype(np.uint32),
            there.astype(np.uint32),
            record + position,
        )


def _pick(headers: NDArray[np.void], rows: I64) -> NDArray[np.void]:
    """Some rows of gathered headers; as plain bytes, because numpy copies fields one by one."""
    raw = np.dtype((np.void, headers.dtype.itemsize))
    return headers.view(raw)[rows].view(headers.dtype)


def _hints(block: bytes, at: I64, size: I64, tcp: Bool, udp: Bool) -> U8:
    """``HINT_*`` bits from the captured payload: ``size`` bytes at ``at``."""
    hint = np.zeros(len(at), np.uint8)
    octets, words = unaligned(block, "u1"), unaligned(block, ">u4")
    rows = np.flatnonzero(tcp & (size >= 6))
    rows = rows[unaligned(block, ">u2")[at[rows]] == 0x1603]
    message = octets[at[rows] + 5]
    hint[rows[message == 1]] = HINT_CLIENT_HELLO
    hint[rows[message == 2]] = HINT_SERVER_HELLO
    rows = np.flatnonzero(udp & (size >= 7))
    rows = rows[octets[at[rows]] & 0xC0 == 0xC0]
    version = words[at[rows] + 1]
    known = (version == 1) | (version == 0x6B3343CF) | (version >> 8 == 0xFF0000)
    hint[rows[known]] = HINT_QUIC_LONG
    return hint
