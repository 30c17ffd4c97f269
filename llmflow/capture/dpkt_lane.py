"""The reference lane: dpkt reads the headers, one packet at a time, in the order of the RFCs.

It decodes whatever the records hold or names the reason why not. A faster lane must give the same
columns (docs/architecture.md, *Two lanes, one truth*).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable

import dpkt

from llmflow.capture.account import (
    FRAGMENT,
    MALFORMED,
    NOT_IP,
    TRUNCATED_PACKET,
    UNKNOWN_LINK_TYPE,
)
from llmflow.capture.columns import (
    HINT_CLIENT_HELLO,
    HINT_QUIC_LONG,
    HINT_SERVER_HELLO,
    IPV4_MAPPED,
    TCP,
    UDP,
    PacketColumns,
)
from llmflow.capture.framing import Records

_IPV4, _IPV6 = 0x0800, 0x86DD
_VLAN_TAGS = (0x8100, 0x88A8, 0x9100)
_MAX_TAGS = 4

# Hop-by-hop, routing, fragment, authentication, destination options, mobility, HIP, shim6.
_FRAGMENT, _AUTHENTICATION = 44, 51
_EXTENSIONS = frozenset({0, 43, _FRAGMENT, _AUTHENTICATION, 60, 135, 139, 140})
_MAX_EXTENSIONS = 16


class _IP4(dpkt.ip.IP):  # type: ignore[misc]
    """The fixed header only: what lies behind it is read below, where the lengths are known."""

    unpack = dpkt.Packet.unpack


class _IP6(dpkt.ip6.IP6):  # type: ignore[misc]
    """The fixed header only."""

    unpack = dpkt.Packet.unpack


class _SkipError(Exception):
    """A packet that does not become a row; its text is the reason."""


def _ethertype(kind: int, frame: bytes, at: int) -> tuple[int, int, int]:
    """(offset of the IP header, ethertype, outermost VLAN id) behind any VLAN tags."""
    vlan = 0
    for _ in range(_MAX_TAGS):
        if kind not in _VLAN_TAGS:
            break
        if len(frame) < at + 4:
            raise _SkipError(TRUNCATED_PACKET)
        tag, kind = struct.unpack_from(">HH", frame, at)
        vlan, at = vlan or tag & 0x0FFF, at + 4
    return at, kind, vlan


def _ethernet(frame: bytes) -> tuple[int, int, int]:
    return _ethertype(int.from_bytes(frame[12:14], "big"), frame, 14)


def _raw(frame: bytes) -> tuple[int, int, int]:
    return 0, {4: _IPV4, 6: _IPV6}.get(frame[0] >> 4, 0), 0


def _null(frame: bytes) -> tuple[int, int, int]:
    # The family is in the capturing host's byte order; 24, 28 and 30 are IPv6 on the BSDs.
    family = min(int.from_bytes(frame[:4], "little"), int.from_bytes(frame[:4], "big"))
    return 4, {2: _IPV4, 10: _IPV6, 24: _IPV6, 28: _IPV6, 30: _IPV6}.get(family, 0), 0


def _sll(frame: bytes) -> tuple[int, int, int]:
    return _ethertype(int.from_bytes(frame[14:16], "big"), frame, 16)


def _sll2(frame: bytes) -> tuple[int, int, int]:
    return _ethertype(int.from_bytes(frame[:2], "big"), frame, 20)


# LINKTYPE_ numbers (tcpdump.org/linktypes.html) -> (shortest header, where the network layer is)
LINKS: dict[int, tuple[int, Callable[[bytes], tuple[int, int, int]]]] = {
    0: (4, _null),
    1: (14, _ethernet),
    12: (1, _raw),
    14: (1, _raw),
    101: (1, _raw),
    108: (4, _null),
    113: (16, _sll),
    228: (1, _raw),
    229: (1, _raw),
    276: (20, _sll2),
}


def _hint(protocol: int, payload: bytes) -> int:
    if protocol == TCP and len(payload) >= 6 and payload[0] == 22 and payload[1] == 3:
        return {1: HINT_CLIENT_HELLO, 2: HINT_SERVER_HELLO}.get(payload[5], 0)
    # RFC 9000, section 17.2: header form and fixed bit, then a version.
    if protocol == UDP and len(payload) >= 7 and payload[0] & 0xC0 == 0xC0:
        version = int.from_bytes(payload[1:5], "big")
        if version in (1, 0x6B3343CF) or version >> 8 == 0xFF0000:
            return HINT_QUIC_LONG
    return 0


def _need(frame: bytes, wire: int, size: int) -> None:
    """Refuse a frame with fewer than ``size`` bytes: cut by the capture, or never there."""
    if len(frame) < size:
        raise _SkipError(TRUNCATED_PACKET if wire >= size else MALFORMED)


def _extensions(protocol: int, packet: bytes, length: int) -> tuple[int, int]:
    """(transport protocol, where it begins) behind the IPv6 extension headers (RFC 8200, 4)."""
    at = 40
    for _ in range(_MAX_EXTENSIONS):
        if protocol not in _EXTENSIONS:
            return protocol, at
        _need(packet, length, at + 8)
        if protocol == _FRAGMENT and int.from_bytes(packet[at + 2 : at + 4], "big") >> 3:
            raise _SkipError(FRAGMENT)
        # Lengths count 8-octet units after the first; a fragment header has none, AH counts by 4.
        size = {_FRAGMENT: 8, _AUTHENTICATION: (packet[at + 1] + 2) * 4}.get(
            protocol, (packet[at + 1] + 1) * 8
        )
        protocol, at = packet[at], at + size
    raise _SkipError(MALFORMED)


def _transport(protocol: int, data: bytes, length: int) -> tuple[int, ...]:
    """(ports, flags, payload, seq, ack, window, hint); ``length`` is the wire's, of ``data``."""
    if protocol == TCP:
        if len(data) < 20:
            raise _SkipError(TRUNCATED_PACKET if length >= 20 else MALFORMED)
        tcp = dpkt.tcp.TCP(data)
        payload = length - tcp.off * 4
        if payload < 0:
            raise _SkipError(MALFORMED)
        hint = _hint(TCP, tcp.data)
        return tcp.sport, tcp.dport, tcp.flags & 0xFF, payload, tcp.seq, tcp.ack, tcp.win, hint
    if protocol == UDP:
        if len(data) < 8:
            raise _SkipError(TRUNCATED_PACKET if length >= 8 else MALFORMED)
        udp = dpkt.udp.UDP(data)
        if udp.ulen and udp.ulen < 8:
            raise _SkipError(MALFORMED)
        # A length of 0 is a jumbogram or an offloaded one (RFC 2675): the IP length rules.
        payload = min(udp.ulen or length, length) - 8
        return udp.sport, udp.dport, 0, payload, 0, 0, 0, _hint(UDP, udp.data)
    return 0, 0, 0, 0, 0, 0, 0, 0


def _ipv4(frame: bytes, wire: int, at: int) -> tuple[int, ...]:
    """Addresses, then what the transport layer needs."""
    _need(frame, wire, at + 20)
    ip = _IP4(frame[at:])
    header = ip.hl * 4
    # Segmentation offload leaves the length at 0; the frame knows.
    length = ip.len or wire - at
    if header < 20 or length < header:
        raise _SkipError(MALFORMED)
    _need(frame, wire, at + header)
    if ip.offset:
        raise _SkipError(FRAGMENT)
    source = IPV4_MAPPED | int.from_bytes(ip.src, "big")
    target = IPV4_MAPPED | int.from_bytes(ip.dst, "big")
    return 0, source, 0, target, ip.p, length, header


def _ipv6(frame: bytes, wire: int, at: int) -> tuple[int, ...]:
    """Addresses, then what the transport layer needs."""
    _need(frame, wire, at + 40)
    ip = _IP6(frame[at:])
    length = 40 + (ip.plen or wire - at - 40)
    protocol, header = _extensions(ip.nxt, frame[at : at + length], length)
    if length < header:
        raise _SkipError(MALFORMED)
    return *struct.unpack(">QQQQ", ip.src + ip.dst), protocol, length, header


def _decode(frame: bytes, wire: int, time: int, link: int) -> tuple[int, ...]:
    """Fields of PacketColumns from `src_hi` to `vlan`."""
    if time < 0:
        raise _SkipError(MALFORMED)
    if link not in LINKS:
        raise _SkipError(UNKNOWN_LINK_TYPE)
    shortest, network = LINKS[link]
    _need(frame, wire, shortest)
    at, kind, vlan = network(frame)
    if kind not in (_IPV4, _IPV6):
        raise _SkipError(NOT_IP)
    _need(frame, wire, at + 1)
    if frame[at] >> 4 != (4 if kind == _IPV4 else 6):
        raise _SkipError(MALFORMED)
    *ends, protocol, length, header = (_ipv4 if kind == _IPV4 else _ipv6)(frame, wire, at)
    data = frame[at + header : at + length]
    sport, dport, flags, payload, *rest = _transport(protocol, data, length - header)
    return *ends, sport, dport, protocol, flags, length, payload, *rest, vlan


def decode(block: bytes, records: Records, position: int) -> tuple[PacketColumns, Counter[str]]:
    """Decode records one by one.

    Parameters
    ----------
    block : bytes
        The bytes that the records point into.
    records : Records
        Packet records in capture order.
    position : int
        Running number of the first record in the whole input.

    Returns
    -------
    packets : PacketColumns
        One row per IP packet that was decoded.
    skipped : Counter of str
        The others, by reason.
    """
    rows: list[tuple[int, ...]] = []
    skipped: Counter[str] = Counter()
    fields = (records.offset, records.captured, records.wire, records.time, records.link)
    columns = (column.tolist() for column in fields)
    for number, (offset, captured, wire, time, link) in enumerate(zip(*columns, strict=True)):
        try:
            row = _decode(block[offset : offset + captured], max(wire, captured), time, link)
        except _SkipError as reason:
            skipped[str(reason)] += 1
        except dpkt.NeedData:
            skipped[TRUNCATED_PACKET] += 1
        except (dpkt.Error, struct.error, IndexError, ValueError, KeyError, AttributeError):
            # dpkt trusts the lengths inside headers; a packet that breaks it is malformed.
            skipped[MALFORMED] += 1
        else:
            rows.append((time, *row, position + number))
    return PacketColumns.from_rows(rows), skipped
