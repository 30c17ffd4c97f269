"""Record framing: where the packets lie in a block of pcap or pcapng bytes.

A framer is fed consecutive pieces of one capture and answers with the records that are whole in
it. Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. After a damaged place it looks for
the next records that prove themselves (``resync``) and goes on there.

This is the seam for faster lanes: whatever finds the records, ``Records`` is what comes out.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import I64
from llmflow.capture import resync
from llmflow.capture.account import DAMAGED_RECORD, TRUNCATED_CAPTURE
from llmflow.capture.chains import Chain, unaligned
from llmflow.capture.columns import Columns
from llmflow.errors import CaptureError

MAX_RECORD = 1 << 24  # no link delivers a larger packet
USUAL_RECORD = 1 << 18  # libpcap's own limit, where the file header names no larger one
NANOSECOND = 1_000_000_000
NO_TIME = -1  # a time stamp that cannot be
_LIKE_TIME = 3600  # s around the known time in which guessed records lie

# magic number as read little-endian -> (byte order, nanoseconds per tick, bytes of record header,
# bytes behind the file header). 0xA1B2CD34 is Kuznetzov's patched libpcap, 0x1C0001.. Ixia's.
_PCAP_MAGIC = {
    0xA1B2C3D4: ("<", 1000, 16, 0),
    0xD4C3B2A1: (">", 1000, 16, 0),
    0xA1B23C4D: ("<", 1, 16, 0),
    0x4D3CB2A1: (">", 1, 16, 0),
    0xA1B2CD34: ("<", 1000, 24, 0),
    0x34CDB2A1: (">", 1000, 24, 0),
    0x1C0001AC: ("<", 1, 16, 4),
    0xAC01001C: (">", 1, 16, 4),
    0x1C0001AB: ("<", 1000, 16, 4),
    0xAB01001C: (">", 1000, 16, 4),
}
SECTION = b"\x0a\x0d\x0d\x0a"  # reads the same in both byte orders
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
    """A place where a capture stops making sense: reason, byte offset in the block, what."""

    reason: str
    offset: int
    what: str


class Framer(Protocol):
    """Finds the packet records of one capture, piece by piece."""

    def feed(self, block: bytes, *, last: bool) -> tuple[Records, int, list[Damage]]:
        """Frame the whole records at the front of ``block``.

        Returns
        -------
        records : Records
        used : int
            Bytes done with; the rest belongs in front of the next block.
        damage : list of Damage
            Damaged places; each cost one record or more.
        """
        ...

    def interfaces(self) -> list[str]:
        """Names of the interfaces met, where the format has them."""
        ...


@dataclass(frozen=True, slots=True)
class _Usual:
    """A chain of records, and the numbers of the strange ones among them."""

    offsets: I64
    strange: I64

    def holds(self, at: int) -> bool:
        """Whether a record of the chain begins at ``at``."""
        number = int(np.searchsorted(self.offsets, at))
        return number < len(self.offsets) and int(self.offsets[number]) == at

    def run(self, at: int) -> I64:
        """The records from ``at`` on, up to the next strange one."""
        if not self.holds(at):
            return self.offsets[:0]
        number = int(np.searchsorted(self.offsets, at))
        ahead = int(np.searchsorted(self.strange, number))
        stop = int(self.strange[ahead]) if ahead < len(self.strange) else len(self.offsets)
        return self.offsets[number:stop]


@dataclass(slots=True)
class PcapFramer:
    """Classic pcap: micro- and nanoseconds, both byte orders, two modified record headers."""

    order: str
    tick: int
    link: int
    limit: int
    header: int = 16
    latest: int | None = None  # seconds of the latest record
    lost: bool = False  # between a damaged place and the next good record

    HEADER = 24

    @classmethod
    def open(cls, head: bytes, where: str) -> tuple[PcapFramer, int]:
        """Read the file header at the front of ``head``; say how long it is."""
        if len(head) < cls.HEADER:
            raise CaptureError(
                f"the file header is cut short at {len(head)} of 24 bytes",
                where=where,
                hint="copy the capture again",
            )
        order, tick, header, more = _PCAP_MAGIC[int.from_bytes(head[:4], "little")]
        snaplen, link = struct.unpack_from(order + "II", head, 16)
        limit = min(max(snaplen, USUAL_RECORD), MAX_RECORD)
        # The upper bits say whether frames end in an FCS; lengths come from the IP header anyway.
        return cls(order, tick, link & 0xFFFF, limit, header), cls.HEADER + more

    def feed(self, block: bytes, *, last: bool) -> tuple[Records, int, list[Damage]]:
        """See :meth:`Framer.feed`."""
        parts: list[Records] = [Records.from_rows([])]
        damage: list[Damage] = []
        at, usual = 0, _Usual(np.empty(0, np.int64), np.empty(0, np.int64))
        while True:
            if self.lost:
                at, self.lost = resync.find_pcap(self, block, at, last=last)
                if self.lost:
                    break
            if not usual.holds(at):
                usual = self._look_ahead(block, at)
            rows = usual.run(at)
            if len(rows):
                parts.append(self._records(block, rows))
                at = int(parts[-1].offset[-1] + parts[-1].captured[-1])
            elif not self._one(block, at, parts, damage, last=last):
                break
            else:
                at = at + 1 if self.lost else int(parts[-1].offset[-1] + parts[-1].captured[-1])
        if last and not self.lost and at < len(block):
            damage.append(Damage(TRUNCATED_CAPTURE, at, "the file ends inside a record"))
        return Records.concat(parts), at, damage

    def _look_ahead(self, block: bytes, at: int) -> _Usual:
        """The chain of whole records from ``at`` on, and which of them look strange."""
        follow = Chain(self.order, 8, self.header, self.header, self.limit + self.header).follow
        words = unaligned(block, f"{self.order}u4")
        offsets, _ = follow(block, at, lambda *where: self._guess(words, at, *where))
        if not len(offsets):
            return _Usual(offsets, offsets)
        seconds = words[offsets].astype(np.int64)
        before = np.concatenate(
            [[seconds[0] if self.latest is None else self.latest], seconds[:-1]]
        )
        strange = words[offsets + 8] > words[offsets + 12]
        strange |= words[offsets + 4].astype(np.int64) * self.tick >= NANOSECOND
        strange |= np.abs(seconds - before) > resync.DAY
        return _Usual(offsets, np.flatnonzero(strange))

    def _guess(self, words: NDArray[Any], known: int, first: int, stride: int, window: int) -> I64:
        """Places near each stretch's begin that look like two records of about the known time."""
        count = (len(words) - 12 - window - first) // stride
        if count <= 0:
            return np.empty(0, np.int64)
        earliest = np.uint32((int(words[known]) - _LIKE_TIME) & 0xFFFFFFFF)
        grid = np.ndarray((count, window), words.dtype, words.base, first, (stride, 1))
        near = np.flatnonzero(((grid - earliest) < np.uint32(2 * _LIKE_TIME)).ravel())
        at = first + near // window * stride + near % window
        for step in (0, 1):
            after = at + step * (self.header + words[at + 8].astype(np.int64))
            inside = after <= len(words) - 13
            at, after = at[inside], after[inside]
            good = (words[after] - earliest) < np.uint32(2 * _LIKE_TIME)
            good &= words[after + 8] <= np.minimum(words[after + 12], np.uint32(self.limit))
            good &= words[after + 4].astype(np.int64) * self.tick < NANOSECOND
            at = at[good]
        found = np.full(count, -1)
        found[((at - first) // stride)[::-1]] = at[::-1]  # the first place of each stretch
        return found

    def _records(self, block: bytes, offsets: I64) -> Records:
        """The fields of records whose headers are sound."""
        words = unaligned(block, f"{self.order}u4")
        seconds, fraction, captured, wire = (
            words[offsets + place].astype(np.int64) for place in (0, 4, 8, 12)
        )
        self.latest = int(seconds[-1])
        time = seconds * NANOSECOND + fraction * self.tick
        link = np.full(len(offsets), self.link)
        return Records(offsets + self.header, captured, wire, time, link)

    def _one(
        self,
        block: bytes,
        at: int,
        parts: list[Records],
        damage: list[Damage],
        *,
        last: bool,
    ) -> bool:
        """Take the one record at ``at``, strange or cut; False if more bytes are needed."""
        if at + self.header > len(block):
            return False
        captured = int.from_bytes(block[at + 8 : at + 12], "little" if self.order == "<" else "big")
        wrong, wait = self._doubt(block, at, captured, strange=True, last=last)
        if wait:
            return False
        if wrong:
            damage.append(wrong)
            self.lost = True
        else:
            parts.append(self._records(block, np.array([at])))
        return True

    def _doubt(
        self, block: bytes, at: int, captured: int, *, strange: bool, last: bool
    ) -> tuple[Damage | None, bool]:
        """What is wrong with a record, if anything; whether more bytes are needed to tell.

        Some writers put strange numbers into records; so does a wrong length that would swallow
        other records. Where the record leads to another, it is believed.
        """
        if captured > self.limit:
            return Damage(DAMAGED_RECORD, at, f"a record claims {captured} bytes"), False
        if at + self.header + captured > len(block):
            return Damage(TRUNCATED_CAPTURE, at, "the file ends inside a record"), not last
        proven = not strange or resync.leads_on(self, block, at, last=last)
        if proven is False:
            return Damage(DAMAGED_RECORD, at, "a record that leads to no other"), False
        return None, proven is None

    def interfaces(self) -> list[str]:
        """See :meth:`Framer.interfaces`."""
        return []


@dataclass(slots=True)
class _Interface:
    link: int
    snaplen: int
    name: str = ""
    ticks: int = 1_000_000  # per second
    offset: int = 0  # seconds


@dataclass(slots=True)
class PcapngFramer:
    """pcapng: any sections and interfaces; enhanced, simple and obsolete packet blocks."""

    order: str = "<"
    ports: list[_Interface | None] = field(default_factory=list)  # of this section; None: damaged
    names: dict[str, None] = field(default_factory=dict)  # of all sections, in order
    clock: int = 0  # time of the latest packet: simple packet blocks carry none
    lost: bool = False  # between a damaged place and the next good block

    def feed(self, block: bytes, *, last: bool) -> tuple[Records, int, list[Damage]]:
        """See :meth:`Framer.feed`."""
        rows: list[tuple[int, ...]] = []
        at, end = 0, len(block)
        damage: list[Damage] = []
        while True:
            if self.lost:
                at, self.lost = resync.find_pcapng(self.order, block, at, last=last)
                if self.lost:
                    break
            try:
                length = self._frame(block, at, last=last)
            except ValueError as error:
                damage.append(Damage(DAMAGED_RECORD, at, str(error)))
                at, self.lost = at + 1, True
                continue
            if not length:
                if not last or at == end:
                    break
                damage.append(Damage(TRUNCATED_CAPTURE, at, "the file ends inside a block"))
                at, self.lost = at + 1, True
                continue
            try:
                row = self._block(block, at, length)
            except (struct.error, ValueError) as error:
                damage.append(Damage(DAMAGED_RECORD, at, str(error)))
            else:
                if row is not None:
                    rows.append(row)
            at += length
        return Records.from_rows(rows), at, damage

    def interfaces(self) -> list[str]:
        """See :meth:`Framer.interfaces`."""
        return list(self.names)

    def _frame(self, block: bytes, at: int, *, last: bool) -> int:
        """Length of the block at ``at``, 0 if it is not whole yet; ValueError if it is none."""
        end = len(block)
        if at + 12 > end:
            return 0
        if block[at : at + 4] == SECTION:
            magic = block[at + 8 : at + 12]
            if magic not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                raise ValueError("a section without byte-order magic")
            self.order = "<" if magic == b"\x4d\x3c\x2b\x1a" else ">"
        length: int = struct.unpack_from(self.order + "I", block, at + 4)[0]
        if length < 12 or length % 4 or length > MAX_RECORD + 64:
            raise ValueError(f"a block claims {length} bytes")
        stop = at + length
        # Where the two lengths differ, the one in front is believed if a block or the end follows.
        if stop <= end and (
            block[stop - 4 : stop] == block[at + 4 : at + 8]
            or resync.block_length(self.order, block, stop)
            or (last and stop == end)
        ):
            return length
        if stop + 12 > end and (stop > end or not last):
            return 0
        raise ValueError(f"a block of {length} bytes does not end in its length")

    def _block(self, block: bytes, at: int, length: int) -> tuple[int, ...] | None:
        (kind,) = struct.unpack_from(self.order + "I", block, at)
        body, stop = at + 8, at + length - 4
        if kind == _SECTION:
            self.ports = []
        elif kind == _INTERFACE:
            self.ports.append(None)  # a damaged one keeps its number
            self.ports[-1] = port = self._interface(block, body, stop)
            self.names[port.name] = None
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
        if number >= len(self.ports):
            raise ValueError(f"a packet names interface {number} of {len(self.ports)}")
        port = self.ports[number]
        if port is None:
            raise ValueError(f"a packet names the damaged interface {number}")
        return port

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
            if code == 2:  # if_name
                found.name = value[:64].decode(errors="replace")
            elif code == 9 and len(value) == 1:  # if_tsresol
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
        return PcapFramer.open(head, where)
    if magic == _SECTION:
        return PcapngFramer(), 0
    raise CaptureError(
        f"not a pcap or pcapng capture (it starts with {head[:4].hex(' ') or 'nothing'})",
        where=where,
        hint="convert it with `editcap -F pcap`",
    )
