"""Records of pcapng (draft-ietf-opsawg-pcapng): sections, interfaces, three kinds of packets.

Where the blocks chain up as they should, all packets up to the next section, interface or strange
block are read at once; those blocks themselves are taken one by one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import I64
from llmflow.capture import resync
from llmflow.capture.account import DAMAGED_RECORD, TRUNCATED_CAPTURE
from llmflow.capture.chains import Chain, unaligned
from llmflow.capture.interfaces import Interface, Table
from llmflow.capture.records import MAX_RECORD, Damage, Records

SECTION = b"\x0a\x0d\x0d\x0a"  # reads the same in both byte orders
_SECTION, _INTERFACE, _OBSOLETE_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET = (
    0x0A0D0D0A, 1, 2, 3, 6,
)  # fmt: skip
_LONGEST = MAX_RECORD + 64  # a packet, its block's fields and some options
_SHORTEST = 32  # an enhanced packet block around nothing; what is shorter is taken alone
_FEW = 32  # blocks; fewer are sooner read one by one
_NEAR = 1 << 12  # bytes behind a damaged place that are read block by block
MOST_INTERFACES = 1 << 14  # of a section; a small compressed file could name millions


@dataclass(slots=True)
class PcapngFramer:
    """pcapng: any sections and interfaces; enhanced, simple and obsolete packet blocks."""

    order: str = "<"
    ports: list[Interface | None] = field(default_factory=list)  # of this section; None: damaged
    names: dict[str, None] = field(default_factory=dict)  # of all sections, in order
    clock: int = 0  # time of the latest packet: simple packet blocks carry none
    lost: bool = False  # between a damaged place and the next good block

    def feed(self, block: bytes, *, last: bool) -> tuple[Records, int, list[Damage]]:
        """See :meth:`Framer.feed`."""
        parts: list[Records] = []
        rows: list[tuple[int, ...]] = []  # of packets taken one by one, behind the parts
        damage: list[Damage] = []
        runs: dict[int, I64] = {}
        # Runs are known up to `ahead`, along a chain of blocks that was begun anew at `anew`.
        at, ahead, anew, order = 0, 0, -len(block), self.order
        while True:
            if self.lost:
                at, self.lost = resync.find_pcapng(self.order, block, at, last=last)
                if self.lost:
                    break
                order = ""
            if order != self.order:
                order, anew, ahead, runs = self.order, at, at + _NEAR, {}
            if at >= ahead:
                # In proportion to what has proven sound, so that damage does not make it dear.
                runs, ahead = self._look_ahead(block, at, at + 4 * (at - anew))
            run = runs.get(at)
            if run is not None and len(run) >= len(self.ports):
                parts += [Records.from_rows(rows), self._packets(block, run, damage)]
                rows = []
                at = int(run[-1]) + self._length(block, int(run[-1]))
            else:
                after = self._one(block, at, rows, damage, last=last)
                if after == at:
                    break
                at = after
        return Records.concat([*parts, Records.from_rows(rows)]), at, damage

    def interfaces(self) -> list[str]:
        """See :meth:`Framer.interfaces`."""
        return list(self.names)

    def _look_ahead(self, block: bytes, at: int, stop: int) -> tuple[dict[int, I64], int]:
        """Long runs of usual blocks by where they begin, and where their chain ends."""
        front = memoryview(block)[:stop]
        words = unaligned(front, f"{self.order}u4")
        follow = Chain(self.order, 4, 0, 12, _LONGEST).follow
        offsets, end = follow(front, at, lambda *where: self._guess(words, *where))
        kind, length = words[offsets], words[offsets + 4]
        strange = (kind == _SECTION) | (kind == _INTERFACE)
        strange |= (length < _SHORTEST) | (length % 4 != 0)
        strange |= words[offsets + length - 4] != length
        edges = np.concatenate([[-1], np.flatnonzero(strange), [len(offsets)]])
        long = np.flatnonzero(np.diff(edges) > _FEW)
        runs = [offsets[edges[i] + 1 : edges[i + 1]] for i in long.tolist()]
        return {int(run[0]): run for run in runs}, end

    def _guess(self, words: NDArray[Any], first: int, stride: int, window: int) -> I64:
        """Places near each stretch's begin that look like a block with a packet or the like."""
        count = (len(words) - 4 - window - first) // stride + 1
        if count <= 0:
            return np.empty(0, np.int64)
        # Blocks begin at multiples of four bytes.
        grid = np.ndarray((count, window // 4), words.dtype, words.base, first, (stride, 4))
        place, near = np.nonzero(grid - np.uint32(_OBSOLETE_PACKET) <= 4)
        at = first + place * stride + near * 4
        length = words[at + 4].astype(np.int64)
        inside = (length >= _SHORTEST) & (length % 4 == 0) & (at + length <= len(words) + 3)
        at, length = at[inside], length[inside]
        at = at[words[at + length - 4] == length]
        found = np.full(count, -1)
        found[((at - first) // stride)[::-1]] = at[::-1]  # the first place of each stretch
        return found

    def _packets(self, block: bytes, blocks: I64, damage: list[Damage]) -> Records:
        """The packets of a run of blocks whose framing is sound; see :meth:`_block` for one."""
        words = unaligned(block, "V28")[blocks].view(f"{self.order}u4").reshape(-1, 7)
        kind = words[:, 0]
        packet = (kind == _ENHANCED_PACKET) | (kind == _SIMPLE_PACKET) | (kind == _OBSOLETE_PACKET)
        at, fields = blocks[packet], words[packet].T.astype(np.int64, order="C")
        kind, length, number, high, low, captured, wire = fields
        table = Table.of(self.ports)
        # An obsolete packet block has the interface and a count of drops in its third word.
        obsolete = np.flatnonzero(kind == _OBSOLETE_PACKET)
        both = number[obsolete]
        number[obsolete] = both & 0xFFFF if self.order == "<" else both >> 16
        # A simple packet block has the length on the wire there, and then the packet.
        simple = np.flatnonzero(kind == _SIMPLE_PACKET)
        front = np.full(len(at), 28)
        front[simple], wire[simple], number[simple] = 12, number[simple], 0
        room = length - front - 4
        captured[simple] = np.minimum(wire, room)[simple]
        if table.snaplen[0]:
            captured[simple] = np.minimum(captured[simple], table.snaplen[0])
        port = np.minimum(number, len(self.ports))
        known = table.known[port]
        time = table.times(port, high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64))
        stamped = known.copy()
        stamped[simple] = False  # these have the time of the packet before
        latest = np.maximum.accumulate(np.where(stamped, np.arange(len(at)), -1))
        time = np.where(latest < 0, self.clock, time[latest])
        good = known & (captured <= room)
        for wrong in np.flatnonzero(~good).tolist():
            self._try(block, int(at[wrong]), int(length[wrong]), damage)
        if len(time):
            self.clock = int(time[-1])
        found = Records(at + front, captured, wire, time, table.link[port])
        return found if good.all() else found.take(good)

    def _one(
        self,
        block: bytes,
        at: int,
        rows: list[tuple[int, ...]],
        damage: list[Damage],
        *,
        last: bool,
    ) -> int:
        """Take the one block at ``at``; where to go on: there if more bytes are needed."""
        try:
            length = self._frame(block, at, last=last)
        except ValueError as error:
            damage.append(Damage(DAMAGED_RECORD, at, str(error)))
            self.lost = True
            return at + 1
        if length:
            row = self._try(block, at, length, damage)
            if row is not None:
                rows.append(row)
        elif last and at < len(block):
            damage.append(Damage(TRUNCATED_CAPTURE, at, "the file ends inside a block"))
            self.lost = True
            return at + 1
        return at + length

    def _try(
        self, block: bytes, at: int, length: int, damage: list[Damage]
    ) -> tuple[int, ...] | None:
        """Read the framed block at ``at``; what contradicts itself is damage."""
        try:
            return self._block(block, at, length)
        except (struct.error, ValueError) as error:
            damage.append(Damage(DAMAGED_RECORD, at, str(error)))
            return None

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
        length = self._length(block, at)
        if length < 12 or length % 4 or length > _LONGEST:
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

    def _length(self, block: bytes, at: int) -> int:
        length: int = struct.unpack_from(self.order + "I", block, at + 4)[0]
        return length

    def _block(self, block: bytes, at: int, length: int) -> tuple[int, ...] | None:
        (kind,) = struct.unpack_from(self.order + "I", block, at)
        body, stop = at + 8, at + length - 4
        if kind == _SECTION:
            self.ports = []
        elif kind == _INTERFACE:
            if len(self.ports) == MOST_INTERFACES:
                raise ValueError(f"a section of more than {MOST_INTERFACES} interfaces")
            self.ports.append(None)  # a damaged one keeps its number
            self.ports[-1] = port = Interface.parse(self.order, block, body, stop)
            if len(self.names) < MOST_INTERFACES:
                self.names[port.name] = None
        elif kind in (_ENHANCED_PACKET, _OBSOLETE_PACKET):
            layout = "IIIII" if kind == _ENHANCED_PACKET else "HHIIII"
            number, *_drops, high, low, captured, wire = struct.unpack_from(
                self.order + layout, block[body : min(stop, body + 20)]
            )
            port = self._at(number)
            self.clock = port.time((high << 32) | low)
            return self._row(body + 20, captured, wire, port, stop)
        elif kind == _SIMPLE_PACKET:
            (wire,) = struct.unpack_from(self.order + "I", block[body:stop])
            port = self._at(0)
            captured = min(wire, port.snaplen or wire, stop - body - 4)
            return self._row(body + 4, captured, wire, port, stop)
        return None

    def _at(self, number: int) -> Interface:
        if number >= len(self.ports):
            raise ValueError(f"a packet names interface {number} of {len(self.ports)}")
        port = self.ports[number]
        if port is None:
            raise ValueError(f"a packet names the damaged interface {number}")
        return port

    def _row(
        self, offset: int, captured: int, wire: int, port: Interface, stop: int
    ) -> tuple[int, ...]:
        if captured > stop - offset:
            raise ValueError(f"a packet of {captured} bytes lies in {stop - offset} bytes")
        return offset, captured, wire, self.clock, port.link
