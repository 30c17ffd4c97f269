"""Record framing: where the packets lie in a block of pcap or pcapng bytes.

A framer is fed consecutive pieces of one capture and answers with the records that are whole in
it. Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.

This is the seam for faster lanes: whatever finds the records, ``Records`` is what comes out.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from llmflow.arrays import I64
from llmflow.capture.account import DAMAGED_RECORD, TRUNCATED_CAPTURE
from llmflow.capture.columns import Columns
from llmflow.errors import CaptureError

MAX_RECORD = 1 << 24  # no link delivers a larger packet; libpcap refuses far smaller ones
NANOSECOND = 1_000_000_000
NO_TIME = -1  # a time stamp that cannot be

# magic number as read little-endian -> (byte order, nanoseconds per tick)
_PCAP_MAGIC = {
    0xA1B2C3D4: ("<", 1000),
    0xD4C3B2A1: (">", 1000),
    0xA1B23C4D: ("<", 1),
    0x4D3CB2A1: (">", 1),
}
_SECTION, _INTERFACE, _OBSOLETE_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET = (
    0x0A0D0D0A, 1, 2, 3, 6,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Records(Columns):
    """Packet records in a block.

    Parameters
    ----------
    offset, captured, wire : ndarray of int64
        Where the packet's bytes begin in the block, how many are there, how many it had.
    time : ndarray of int64
        Nanoseconds since 1970-01-01 UTC; ``NO_TIME`` where the stamp cannot be.
    link : ndarray of int64
        Link type (LINKTYPE_ number).
    """

    offset: I64
    captured: I64
    wire: I64
    time: I64
    link: I64

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[int, ...]]) -> Records:
        """Records from one tuple per packet, in the order of the fields."""
        return cls(*np.array(rows, np.int64).reshape(len(rows), 5).T)


@dataclass(slots=True)
class Damage:
    """The place where a capture stops making sense: reason, byte offset in the block, what."""

    reason: str
    offset: int
    what: str


class Framer(Protocol):
    """Finds the packet records of one capture, piece by piece."""

    def feed(self, block: bytes, *, last: bool) -> tuple[Records, int, Damage | None]:
        """Frame the whole records at the front of ``block``.

        Returns
        -------
        records : Records
        used : int
            Bytes done with; the rest belongs in front of the next block.
        damage : Damage or None
            Where the capture is damaged; nothing more can be framed after it.
        """
        ...


@dataclass(slots=True)
class PcapFramer:
    """Classic pcap: micro- and nanoseconds, both byte orders."""

    order: str
    tick: int
    link: int

    HEADER = 24

    @classmethod
    def open(cls, head: bytes, where: str) -> PcapFramer:
        """Read the 24-byte file header at the front of ``head``."""
        if len(head) < cls.HEADER:
            raise CaptureError(
                f"the file header is cut short at {len(head)} of 24 bytes",
                where=where,
                hint="copy the capture again",
            )
        order, tick = _PCAP_MAGIC[int.from_bytes(head[:4], "little")]
        (link,) = struct.unpack_from(order + "I", head, 20)
        # The upper bits say whether frames end in an FCS; lengths come from the IP header anyway.
        return cls(order, tick, link & 0xFFFF)

    def feed(self, block: bytes, *, last: bool) -> tuple[Records, int, Damage | None]:
        """See :meth:`Framer.feed`."""
        header = struct.Struct(self.order + "IIII")
        rows: list[tuple[int, ...]] = []
        at, end, tick, link = 0, len(block), self.tick, self.link
        damage = None
        while at + 16 <= end:
            seconds, fraction, captured, wire = header.unpack_from(block, at)
            if captured > MAX_RECORD:
                damage = Damage(DAMAGED_RECORD, at, f"a record claims {captured} bytes")
                break
            if at + 16 + captured > end:
                break
            time = seconds * NANOSECOND + fraction * tick
            rows.append((at + 16, captured, wire, time, link))
            at += 16 + captured
        if last and damage is None and at < end:
            damage = Damage(TRUNCATED_CAPTURE, at, "the file ends inside a record")
        return Records.from_rows(rows), at, damage


@dataclass(slots=True)
class _Interface:
    link: int
    snaplen: int
    ticks: int = 1_000_000  # per second
    offset: int = 0  # seconds


@dataclass(slots=True)
class PcapngFramer:
    """pcapng: any sections and interfaces; enhanced, simple and obsolete packet blocks."""

    order: str = "<"
    interfaces: list[_Interface] = field(default_factory=list)
    clock: int = 0  # time of the latest packet: simple packet blocks carry none

    def feed(self, block: bytes, *, last: bool) -> tuple[Records, int, Damage | None]:
        """See :meth:`Framer.feed`."""
        rows: list[tuple[int, ...]] = []
        at, end = 0, len(block)
        damage = None
        while at + 12 <= end:
            kind = int.from_bytes(block[at : at + 4], "little")
            if kind == _SECTION:
                magic = block[at + 8 : at + 12]
                if magic not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                    damage = Damage(DAMAGED_RECORD, at, "a section without byte-order magic")
                    break
                self.order = "<" if magic == b"\x4d\x3c\x2b\x1a" else ">"
            kind, length = struct.unpack_from(self.order + "II", block, at)
            if length < 12 or length % 4 or length > MAX_RECORD + 64:
                damage = Damage(DAMAGED_RECORD, at, f"a block claims {length} bytes")
                break
            if at + length > end:
                break
            (trailer,) = struct.unpack_from(self.order + "I", block, at + length - 4)
            if trailer != length:
                what = f"a block of {length} bytes ends in the length {trailer}"
                damage = Damage(DAMAGED_RECORD, at, what)
                break
            try:
                row = self._block(kind, block, at, length)
            except (struct.error, ValueError) as error:
                damage = Damage(DAMAGED_RECORD, at, str(error))
                break
            if row is not None:
                rows.append(row)
            at += length
        if last and damage is None and at < end:
            damage = Damage(TRUNCATED_CAPTURE, at, "the file ends inside a block")
        return Records.from_rows(rows), at, damage

    def _block(self, kind: int, block: bytes, at: int, length: int) -> tuple[int, ...] | None:
        body, stop = at + 8, at + length - 4
        if kind == _SECTION:
            self.interfaces = []
        elif kind == _INTERFACE:
            self.interfaces.append(self._interface(block, body, stop))
        elif kind in (_ENHANCED_PACKET, _OBSOLETE_PACKET):
            layout = "IIIII" if kind == _ENHANCED_PACKET else "HHIIII"
            number, *_drops, high, low, captured, wire = struct.unpack_from(
                self.order + layout, block[body : min(stop, body + 20)]
            )
            port = self._at(number)
            ticks = (high << 32) | low
            time = port.offset * NANOSECOND + ticks * NANOSECOND // port.ticks
            self.clock = time if 0 <= time < 1 << 62 else NO_TIME
            return self._row(body + 20, captured, wire, port, stop)
        elif kind == _SIMPLE_PACKET:
            (wire,) = struct.unpack_from(self.order + "I", block[body:stop])
            port = self._at(0)
            captured = min(wire, port.snaplen or wire, stop - body - 4)
            return self._row(body + 4, captured, wire, port, stop)
        return None

    def _at(self, number: int) -> _Interface:
        if number >= len(self.interfaces):
            raise ValueError(f"a packet names interface {number} of {len(self.interfaces)}")
        return self.interfaces[number]

    def _row(
        self, offset: int, captured: int, wire: int, port: _Interface, stop: int
    ) -> tuple[int, ...]:
        if captured > stop - offset:
            raise ValueError(f"a packet of {captured} bytes lies in {stop - offset} bytes")
        return offset, captured, wire, self.clock, port.link

    def _interface(self, block: bytes, body: int, stop: int) -> _Interface:
        link, _, snaplen = struct.unpack_from(self.order + "HHI", block[body:stop])
        found = _Interface(link, snaplen)
        at = body + 8
        while at + 4 <= stop:
            code, length = struct.unpack_from(self.order + "HH", block, at)
            value = block[at + 4 : min(at + 4 + length, stop)]
            if code == 0:
                break
            if code == 9 and len(value) == 1:  # if_tsresol
                power = value[0] & 0x7F
                if power > (63 if value[0] & 0x80 else 19):
                    raise ValueError(f"an interface claims the time resolution {value[0]:#04x}")
                found.ticks = (2 if value[0] & 0x80 else 10) ** power
            elif code == 14 and len(value) == 8:  # if_tsoffset
                (found.offset,) = struct.unpack(self.order + "q", value)
            at += 4 + (length + 3 & ~3)
        return found


def open_framer(head: bytes, where: str) -> tuple[Framer, int]:
    """Choose the framer by the capture's first bytes.

    Parameters
    ----------
    head : bytes
        At least the first 24 bytes of the capture, or all of a shorter one.
    where : str
        Name for error messages.

    Returns
    -------
    framer : Framer
    skip : int
        Bytes of file header to pass over.

    Raises
    ------
    CaptureError
        Empty, or neither pcap nor pcapng.
    """
    if not head:
        raise CaptureError("the file is empty", where=where, hint="a capture has at least a header")
    magic = int.from_bytes(head[:4], "little")
    if len(head) >= 4 and magic in _PCAP_MAGIC:
        return PcapFramer.open(head, where), PcapFramer.HEADER
    if magic == _SECTION:
        return PcapngFramer(), 0
    raise CaptureError(
        f"not a pcap or pcapng capture (it starts with {head[:4].hex(' ') or 'nothing'})",
        where=where,
        hint="convert it with `editcap -F pcap`",
    )
