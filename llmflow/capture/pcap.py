"""Records of classic pcap (draft-ietf-opsawg-pcap), many at once.

After a damaged place it looks for the next records that prove themselves (``resync``) and goes on
there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import I64
from llmflow.capture import resync
from llmflow.capture.account import DAMAGED_RECORD, TRUNCATED_CAPTURE
from llmflow.capture.chains import Chain, unaligned
from llmflow.capture.records import MAX_RECORD, NANOSECOND, Damage, Records
from llmflow.errors import CaptureError

USUAL_RECORD = 1 << 18  # libpcap's own limit, where the file header names no larger one
_NEAR = 1 << 12  # bytes looked ahead behind damage, which often comes in swarms
_LIKE_TIME = 3600  # s around the known time in which guessed records lie

# magic number as read little-endian -> (byte order, nanoseconds per tick, bytes of record header,
# bytes behind the file header). 0xA1B2CD34 is Kuznetzov's patched libpcap, 0x1C0001.. Ixia's.
MAGIC = {
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
        order, tick, header, more = MAGIC[int.from_bytes(head[:4], "little")]
        snaplen, link = struct.unpack_from(order + "II", head, 16)
        limit = min(max(snaplen, USUAL_RECORD), MAX_RECORD)
        # The upper bits say whether frames end in an FCS; lengths come from the IP header anyway.
        return cls(order, tick, link & 0xFFFF, limit, header), cls.HEADER + more

    def feed(self, block: bytes, *, last: bool) -> tuple[Records, int, list[Damage]]:
        """See :meth:`Framer.feed`."""
        parts: list[Records] = [Records.from_rows([])]
        damage: list[Damage] = []
        at, usual = 0, _Usual(np.empty(0, np.int64), np.empty(0, np.int64))
        reach = len(block)
        while True:
            if self.lost:
                at, self.lost = resync.find_pcap(self, block, at, last=last)
                if self.lost:
                    break
            if not usual.holds(at):
                usual, reach = self._look_ahead(block, at, reach), len(block)
            rows = usual.run(at)
            if len(rows):
                parts.append(self._records(block, rows))
                at = int(parts[-1].offset[-1] + parts[-1].captured[-1])
            elif not self._one(block, at, parts, damage, last=last):
                break
            else:
                at = at + 1 if self.lost else int(parts[-1].offset[-1] + parts[-1].captured[-1])
                reach = _NEAR if self.lost else len(block)
        if last and not self.lost and at < len(block):
            damage.append(Damage(TRUNCATED_CAPTURE, at, "the file ends inside a record"))
        return Records.concat(parts), at, damage

    def _look_ahead(self, block: bytes, at: int, reach: int) -> _Usual:
        """The chain of whole records from ``at`` on, and which of them look strange.

        It may end after ``reach`` bytes.
        """
        follow = Chain(self.order, 8, self.header, self.header, self.limit + self.header).follow
        for end in (at + reach, len(block)):  # a record may be longer than the reach
            part = memoryview(block)[:end]
            words = unaligned(part, f"{self.order}u4")
            offsets, _ = follow(part, at, partial(self._guess, words, at))
            if len(offsets):
                break
        else:
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
