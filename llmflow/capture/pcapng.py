"""Records of pcapng (draft-ietf-opsawg-pcapng): sections, interfaces, three kinds of packets."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from llmflow.capture import resync
from llmflow.capture.account import DAMAGED_RECORD, TRUNCATED_CAPTURE
from llmflow.capture.records import MAX_RECORD, NANOSECOND, NO_TIME, Damage, Records

SECTION = b"\x0a\x0d\x0d\x0a"  # reads the same in both byte orders
_SECTION, _INTERFACE, _OBSOLETE_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET = (
    0x0A0D0D0A, 1, 2, 3, 6,
)  # fmt: skip


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
