"""The reference lane: one packet at a time, layer by layer, in the order of the RFCs.

It decodes whatever the records hold or names the reason why not. A faster lane must give the same
columns (docs/architecture.md, *Two lanes, one truth*). The layers are in ``links`` (link types),
``wireless``, ``tags`` (VLAN, MPLS, PPPoE, …), ``network`` (IP and transport) and ``tunnels``.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import Literal

import dpkt

from llmflow.capture import links, tags, tunnels
from llmflow.capture.account import (
    FRAGMENT,
    MALFORMED,
    NOT_IP,
    TOO_DEEP,
    TRUNCATED_PACKET,
    UNKNOWN_LINK_TYPE,
)
from llmflow.capture.columns import TCP, PacketColumns
from llmflow.capture.network import transport
from llmflow.capture.packet import LINK, Layer, Packet, SkipError
from llmflow.capture.records import Records

Tunnels = Literal["inner", "outer"]

MAX_LAYERS = 32  # headers of any kind below the row's transport header
LINKS = frozenset(links.LINKS)
LAYERS: dict[int, Layer] = {**links.LAYERS, **tags.LAYERS, **tunnels.LAYERS}

# What dpkt or a read behind the end can raise: dpkt trusts the lengths inside headers.
_BROKEN = (dpkt.Error, struct.error, IndexError, ValueError)


def _walk(packet: Packet, link: int, tunnels: Tunnels) -> None:
    """Follow the layers to the innermost IP header, or to the first; leave it in the packet."""
    kind, at = LINK + link, 0
    outer = tunnels == "outer"
    for _ in range(MAX_LAYERS):
        layer = LAYERS.get(kind)
        if layer is None or (outer and packet.network):
            return
        kind, at = layer(packet, at)
    if packet.network is None:
        raise SkipError(TOO_DEEP)


def _decode(frame: bytes, wire: int, time: int, link: int, tunnels: Tunnels) -> tuple[int, ...]:
    """Fields of PacketColumns from `time` to `captured`."""
    if time < 0:
        raise SkipError(MALFORMED)
    if link not in LINKS:
        raise SkipError(UNKNOWN_LINK_TYPE)
    packet = Packet(frame, wire)
    try:
        _walk(packet, link, tunnels)
    except SkipError as reason:
        # What cannot be opened stays a packet of the IP around it; a later fragment has no ports.
        if packet.network is None or str(reason) == FRAGMENT:
            raise
    except _BROKEN:
        if packet.network is None:
            raise
    if packet.network is None:
        raise SkipError(NOT_IP)
    *ends, protocol, length, header, at, vlan, vlan_inner, tunnel, tunnel_id = packet.network
    data = packet.frame[at + header : at + length]
    sport, dport, flags, payload, *rest = transport(
        protocol, data, length - header, fragment=packet.fragment
    )
    shift = (data[12] >> 4) * 4 if protocol == TCP and len(data) > 12 else 8
    # What a layer has unpacked is not in the block.
    there = max(min(payload, len(data) - shift), 0) if packet.frame is frame else 0
    return (
        time, *ends, sport, dport, protocol, flags, length, payload, *rest,
        vlan, vlan_inner, tunnel, tunnel_id, (at + header + shift) * (there > 0), there,
    )  # fmt: skip


def decode(
    block: bytes, records: Records, position: int, tunnels: Tunnels = "inner"
) -> tuple[PacketColumns, Counter[str]]:
    """Decode records one by one.

    Parameters
    ----------
    block : bytes
        The bytes that the records point into.
    records : Records
        Packet records in capture order.
    position : int
        Running number of the first record in the whole input.
    tunnels : {"inner", "outer"}
        Which IP header makes the row: the innermost that can be decoded, or the first.

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
            frame = block[offset : offset + captured]
            row = _decode(frame, max(wire, captured), time, link, tunnels)
        except SkipError as reason:
            skipped[str(reason)] += 1
        except dpkt.NeedData:
            skipped[TRUNCATED_PACKET] += 1
        except _BROKEN:
            skipped[MALFORMED] += 1
        else:
            rows.append((*row, position + number))
    return PacketColumns.from_rows(rows), skipped
