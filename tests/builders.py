"""Byte builders for captures and packets, small and without any packet library.

They write what a test asks for, impossible lengths included, so that no reader can be tested
against its own writer.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from llmflow.capture.columns import ACK, IPV4_MAPPED, TCP, UDP, PacketColumns
from llmflow.flows.assemble import FlowAssembler
from llmflow.flows.batch import FlowBatch, FlowColumns, FlowOptions, FlowPackets

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND

CLIENT, SERVER = "192.0.2.10", "198.51.100.20"
CLIENT6, SERVER6 = "2001:db8::10", "2001:db8::20"

Record = tuple[int, bytes]  # time in ns, frame


def ethernet(payload: bytes, *, ethertype: int = 0x0800, tags: Sequence[int] = ()) -> bytes:
    """Ethernet frame; ``tags`` are VLAN ids, outermost first (QinQ if there are two)."""
    kinds = [0x88A8] * (len(tags) - 1) + [0x8100] * bool(tags)
    stack = b"".join(struct.pack(">HH", k, tag) for k, tag in zip(kinds, tags, strict=True))
    return bytes(12) + stack + struct.pack(">H", ethertype) + payload


def ipv4(
    payload: bytes,
    *,
    protocol: int = TCP,
    src: str = CLIENT,
    dst: str = SERVER,
    length: int | None = None,
    offset: int = 0,
    more: bool = False,
    options: bytes = b"",
) -> bytes:
    """IPv4 packet; ``length`` overrides the total length, ``offset`` counts 8-byte units."""
    header = 20 + len(options)
    total = header + len(payload) if length is None else length
    ends = ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed
    first = 0x40 | header // 4
    fragment = more << 13 | offset
    fixed = struct.pack(">BBHHHBBH", first, 0, total, 7, fragment, 64, protocol, 0)
    return fixed + ends + options + payload


def ipv6(
    payload: bytes,
    *,
    protocol: int = TCP,
    src: str = CLIENT6,
    dst: str = SERVER6,
    length: int | None = None,
) -> bytes:
    """IPv6 packet; ``payload`` begins with any extension headers, ``length`` overrides theirs."""
    ends = ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed
    size = len(payload) if length is None else length
    return struct.pack(">IHBB", 6 << 28, size, protocol, 64) + ends + payload


def tcp(
    payload: bytes = b"",
    *,
    sport: int = 50000,
    dport: int = 443,
    flags: int = ACK,
    seq: int = 1000,
    ack: int = 2000,
    window: int = 512,
    options: bytes = b"",
) -> bytes:
    """TCP segment."""
    offset = (20 + len(options)) // 4 << 4
    fixed = struct.pack(">HHIIBBHHH", sport, dport, seq, ack, offset, flags, window, 0, 0)
    return fixed + options + payload


def udp(
    payload: bytes = b"", *, sport: int = 50000, dport: int = 443, length: int | None = None
) -> bytes:
    """UDP datagram; ``length`` overrides the length field."""
    size = 8 + len(payload) if length is None else length
    return struct.pack(">HHHH", sport, dport, size, 0) + payload


def frame(payload: bytes = b"") -> bytes:
    """Ethernet, IPv4 and TCP around a payload."""
    return ethernet(ipv4(tcp(payload)))


def pcap(
    records: Iterable[Record],
    *,
    order: str = "<",
    nano: bool = False,
    link: int = 1,
    snaplen: int = 262144,
) -> bytes:
    """Classic pcap file; frames longer than ``snaplen`` are cut."""
    magic, tick = (0xA1B23C4D, 1) if nano else (0xA1B2C3D4, 1000)
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link)]
    for time, data in records:
        kept = data[:snaplen]
        seconds, rest = divmod(time, SECOND)
        parts += [struct.pack(order + "IIII", seconds, rest // tick, len(kept), len(data)), kept]
    return b"".join(parts)


def block(kind: int, body: bytes, *, order: str = "<") -> bytes:
    """pcapng block around a body."""
    padded = body + bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(padded) + 12)
    return struct.pack(order + "I", kind) + length + padded + length


def section(*, order: str = "<") -> bytes:
    """pcapng section header block."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order=order)


def interface(
    *,
    order: str = "<",
    link: int = 1,
    snaplen: int = 0,
    resolution: int | None = None,
    offset: int | None = None,
) -> bytes:
    """pcapng interface description block with if_tsresol and if_tsoffset where given."""
    options = [(2, b"eth0")]
    if resolution is not None:
        options.append((9, bytes([resolution])))
    if offset is not None:
        options.append((14, struct.pack(order + "q", offset)))
    body = struct.pack(order + "HHI", link, 0, snaplen)
    for code, value in options:
        body += struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)
    return block(1, body + bytes(4), order=order)


def enhanced(
    ticks: int, data: bytes, *, order: str = "<", port: int = 0, wire: int | None = None
) -> bytes:
    """pcapng enhanced packet block of interface ``port``."""
    sizes = (len(data), len(data) if wire is None else wire)
    head = struct.pack(order + "IIIII", port, ticks >> 32, ticks & 0xFFFFFFFF, *sizes)
    return block(6, head + data, order=order)


def obsolete(ticks: int, data: bytes, *, order: str = "<", port: int = 0) -> bytes:
    """pcapng packet block, the one that enhanced packet blocks replaced."""
    sizes = (len(data), len(data))
    head = struct.pack(order + "HHIIII", port, 0xFFFF, ticks >> 32, ticks & 0xFFFFFFFF, *sizes)
    return block(2, head + data, order=order)


def simple(data: bytes, *, order: str = "<", wire: int | None = None) -> bytes:
    """pcapng simple packet block: no time, no interface."""
    head = struct.pack(order + "I", len(data) if wire is None else wire)
    return block(3, head + data, order=order)


class Packet(NamedTuple):
    """One row of PacketColumns, with what most tests do not care about left out."""

    time: int
    src: str
    sport: int
    dst: str
    dport: int
    protocol: int = TCP
    flags: int = ACK
    payload: int = 0
    seq: int = 0
    hint: int = 0

    @property
    def source(self) -> tuple[int, int]:
        """Address and port of the sender, as numbers that sort like the columns."""
        return number(self.src), self.sport

    @property
    def target(self) -> tuple[int, int]:
        """Address and port of the receiver."""
        return number(self.dst), self.dport


def number(address: str) -> int:
    """An address as 128 bits, IPv4 as IPv4-mapped IPv6."""
    ip = ipaddress.ip_address(address)
    return int(ip) if ip.version == 6 else IPV4_MAPPED | int(ip)


def packet_columns(packets: Iterable[Packet], position: int = 0) -> PacketColumns:
    """Packets as columns, numbered from ``position`` on."""
    low = (1 << 64) - 1
    rows = []
    for place, p in enumerate(packets, position):
        src, dst = number(p.src), number(p.dst)
        ends = (src >> 64, src & low, dst >> 64, dst & low, p.sport, p.dport)
        size = 20 + (8 if p.protocol == UDP else 20) + p.payload
        tail = (size, p.payload, p.seq, 0, 0, p.hint, *([0] * 6), place)
        rows.append((p.time, *ends, p.protocol, p.flags, *tail))
    return PacketColumns.from_rows(rows)


def assemble(
    packets: Sequence[Packet],
    options: FlowOptions | None = None,
    *,
    hold: int = 1 << 18,
    cuts: Iterable[int] = (),
) -> FlowBatch:
    """All flows of a list of packets as one batch; ``cuts`` says where the input is split."""
    assembler = FlowAssembler(options or FlowOptions(), hold)
    edges = [0, *sorted(cuts), len(packets)]
    batches: list[FlowBatch] = []
    for begin, end in pairwise(edges):
        batches += assembler.push(packet_columns(packets[begin:end], begin))
    batches += assembler.finish()
    if not batches:
        empty = packet_columns([])
        batches += FlowAssembler().push(empty)
    return join(batches)


def join(batches: Sequence[FlowBatch]) -> FlowBatch:
    """Several batches as one; ``first`` is counted through."""
    flows = FlowColumns.concat([b.flows for b in batches])
    packets = FlowPackets.concat([b.packets for b in batches])
    first = flows.packets.cumsum() - flows.packets
    return FlowBatch(FlowColumns(first, *flows.columns()[1:]), packets)
