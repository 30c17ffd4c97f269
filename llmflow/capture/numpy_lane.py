"""The vectorised lane: the common packets of a block decoded at once, without a loop over packets.

Common is: Ethernet with at most one VLAN tag; IPv4 without options or IPv6 without extension
headers, no fragment; TCP, UDP that is no tunnel, or a protocol without ports and without
a packet inside. Everything else, and everything in doubt, is left to the dpkt lane, which must
agree on what is decoded here column by column.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import I64, U8, U16, Bool
from llmflow.capture.chains import unaligned
from llmflow.capture.columns import (
    HINT_CLIENT_HELLO,
    HINT_QUIC_LONG,
    HINT_SERVER_HELLO,
    IPV4_MAPPED,
    TCP,
    UDP,
    PacketColumns,
)
from llmflow.capture.dpkt_lane import LAYERS
from llmflow.capture.records import Records
from llmflow.capture.tunnels import PORTS

_ETHERNET = 1
_IPV4, _IPV6, _VLAN = 0x0800, 0x86DD, 0x8100
# Protocols with nothing inside that the other lane would open: also ICMP, IGMP, ICMPv6, OSPF, PIM.
_COLUMN = np.zeros(256, np.bool_)
_COLUMN[[1, 2, TCP, UDP, 58, 89, 103]] = True
# Ethertypes behind which the other lane knows no layer: ARP, LLDP and the like.
_FOREIGN = np.ones(1 << 16, np.bool_)
_FOREIGN[:0x0600] = False  # lengths (IEEE 802.3)
_FOREIGN[[kind for kind in LAYERS if 0 <= kind < 1 << 16]] = False
# UDP ports at which the other lane looks for a tunnel.
_TUNNEL = np.zeros(1 << 16, np.bool_)
_TUNNEL[list(PORTS)] = True

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
_PADDING = 80  # gathers may reach behind the last packet of a block


def _gather(block: bytes, at: I64, layout: np.dtype[np.void]) -> NDArray[np.void]:
    """The header bytes at each place: one copy of a few words per packet."""
    raw = np.dtype((np.void, layout.itemsize))
    every = np.ndarray(len(block) - layout.itemsize + 1, raw, block, strides=(1,))
    return every[at].view(layout)


def _pick(headers: NDArray[np.void], rows: I64) -> NDArray[np.void]:
    """Some rows of gathered headers; as plain bytes, because numpy copies fields one by one."""
    raw = np.dtype((np.void, headers.dtype.itemsize))
    return headers.view(raw)[rows].view(headers.dtype)


def _link(block: bytes, records: Records) -> tuple[NDArray[np.int64], I64, U16]:
    """(ethertype or 0, place of the network header, VLAN id) of each frame."""
    ethertypes = unaligned(block, ">u2")
    frame = records.offset
    ethernet = (records.link == _ETHERNET) & (records.captured >= 14) & (records.time >= 0)
    kind = np.where(ethernet, ethertypes[frame + 12], 0).astype(np.int64)
    network = frame + 14
    vlan = np.zeros(len(records), np.uint16)
    tagged = np.flatnonzero((kind == _VLAN) & (records.captured >= 18))
    if len(tagged):
        vlan[tagged] = ethertypes[frame[tagged] + 14] & 0x0FFF
        kind[tagged] = ethertypes[frame[tagged] + 16]
        network[tagged] += 4
    return kind, network, vlan


def decode(block: bytes, records: Records, position: int) -> tuple[PacketColumns, I64, int]:
    """Decode the common packets of a block.

    Parameters
    ----------
    block : bytes
    records : Records
        Packet records in capture order.
    position : int
        Running number of the first record in the whole input.

    Returns
    -------
    packets : PacketColumns
        The packets decoded, in capture order.
    rest : ndarray of int64
        Rows of ``records`` for the other lane.
    not_ip : int
        Frames of other protocols.
    """
    # A copy with room behind the end is cheaper than a check at every gather.
    padded = block + bytes(_PADDING)
    frame = records.offset
    kind, network, vlan = _link(padded, records)
    foreign = _FOREIGN[kind]
    six = kind == _IPV6
    rows = np.flatnonzero(six | (kind == _IPV4))
    header = np.where(six[rows], 40, 20)
    room = frame[rows] + records.captured[rows] - network[rows] - header
    rows, header, room = (column[room >= 0] for column in (rows, header, room))
    at, six = network[rows], six[rows]

    ip4, transport = _gather(padded, at, _IPV4_HEADER), _gather(padded, at + header, _TRANSPORT)
    sixes = np.flatnonzero(six)
    ip6 = _gather(padded, at[sixes], _IPV6_HEADER)
    length = ip4["length"].astype(np.int64)
    protocol = ip4["protocol"].copy()
    # A length of 0 in the header (offload, jumbograms) is the other lane's.
    simple = (ip4["version"] == 0x45) & (ip4["fragment"] & 0x3FFF == 0) & (length > 0)
    length[sixes] = ip6["length"].astype(np.int64) + 40
    protocol[sixes] = ip6["protocol"]
    simple[sixes] = (ip6["version"] >> 4 == 6) & (ip6["length"] > 0)

    inside = length - header
    tcp, udp = protocol == TCP, protocol == UDP
    least = np.where(tcp, 20, np.where(udp, 8, 0))
    shift = np.where(tcp, (transport["offset"] >> 4).astype(np.int64) * 4, least)
    payload = inside - shift
    datagrams = np.flatnonzero(udp)
    udp_length = transport["udp_length"][datagrams].astype(np.int64)
    payload[datagrams] = np.minimum(udp_length, inside[datagrams]) - 8
    tunnel = _TUNNEL[transport["sport"][datagrams]] | _TUNNEL[transport["dport"][datagrams]]
    simple[datagrams] &= (udp_length >= 8) & ~tunnel
    simple &= (room >= least) & (inside >= least) & (shift >= least) & (payload >= 0)
    simple &= _COLUMN[protocol]

    kept = np.flatnonzero(simple)
    left = ~foreign
    left[rows[kept]] = False
    sixes = np.flatnonzero(six[kept])
    ip6 = _gather(padded, at[kept[sixes]], _IPV6_HEADER)
    ip4, transport = _pick(ip4, kept), _pick(transport, kept)
    rows, tcp, udp, shift = rows[kept], tcp[kept], udp[kept], shift[kept]
    at = at[kept] + header[kept] + shift
    ports = tcp | udp
    zeros = np.zeros(len(kept), np.uint64)
    src_hi, src_lo = zeros, ip4["src"].astype(np.uint64) | np.uint64(IPV4_MAPPED)
    dst_hi, dst_lo = zeros.copy(), ip4["dst"].astype(np.uint64) | np.uint64(IPV4_MAPPED)
    src_hi[sixes], src_lo[sixes] = ip6["src_hi"], ip6["src_lo"]
    dst_hi[sixes], dst_lo[sixes] = ip6["dst_hi"], ip6["dst_lo"]
    packets = PacketColumns(
        records.time[rows],
        src_hi,
        src_lo,
        dst_hi,
        dst_lo,
        transport["sport"].astype(np.uint16) * ports,
        transport["dport"].astype(np.uint16) * ports,
        protocol[kept],
        transport["flags"] * tcp,
        length[kept],
        payload[kept] * ports,
        transport["seq"].astype(np.uint32) * tcp,
        transport["ack"].astype(np.uint32) * tcp,
        transport["window"].astype(np.uint16) * tcp,
        _hints(padded, at, np.minimum(room, inside)[kept] - shift, tcp, udp),
        vlan[rows],
        np.zeros(len(kept), np.uint16),
        np.zeros(len(kept), np.uint8),
        np.zeros(len(kept), np.uint32),
        rows + position,
    )
    return packets, np.flatnonzero(left), int(foreign.sum())


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
