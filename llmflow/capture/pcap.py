"""Records of classic pcap (draft-ietf-opsawg-pcap), many at once.

After a damaged place it looks for the next records that prove themselves (``resync``) and goes on
there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import I64, Bool
from llmflow.capture import resync
from llmflow.capture.account import DAMAGED_RECORD, TRUNCATED_CAPTURE
from llmflow.capture.chains import Chain, gather, unaligned
from llmflow.capture.records import MAX_RECORD, NANOSECOND, Damage, Records
from llmflow.errors import CaptureError

USUAL_RECORD = 1 << 18  # libpcap's own limit, where the file header names no larger one
_HEADER = np.dtype((np.void, 16))  # of a record: seconds, fraction, captured, wire
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
class _Ahead:
    """The records of a chain, where their headers begin, and the numbers of the strange ones."""

    at: I64
    records: Records
    strange: I64

    def run(self, at: int) -> Records | None:
        """The records from ``at`` on, up to the next strange one; None if none begins there."""
        number = int(np.searchsorted(self.at, at))
        if number == len(self.at) or int(self.at[number]) != at:
            return None
        ahead = int(np.searchsorted(self.strange, number))
        stop = int(self.strange[ahead]) if ahead < len(self.strange) else len(self.at)
        return self.records.take(slice(number, stop))


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
        at, anew = 0, -len(block)  # the chain of records was begun anew at `anew`
        ahead: _Ahead | None = None
        while True:
            if self.lost:
                at, self.lost = resync.find_pcap(self, block, at, last=last)
                if self.lost:
                    break
                anew = at
            run = None if ahead is None else ahead.run(at)
            if run is None:
                # In proportion to what has proven sound, so that damage does not make it dear.
                stop = at + max(4 * (at - anew), _NEAR, self.header + self._captured(block, at))
                ahead = self._look_ahead(block, at, stop)
                run = ahead.run(at)
            if run is not None and len(run):
                parts.append(run)
            else:
                found = self._one(block, at, damage, last=last)
                if found is None:
                    break
                if not len(found):
                    at, self.lost = at + 1, True
                    continue
                parts.append(found)
            self.latest = int(parts[-1].time[-1]) // NANOSECOND
            at = int(parts[-1].offset[-1] + parts[-1].captured[-1])
        if last and not self.lost and at < len(block):
            damage.append(Damage(TRUNCATED_CAPTURE, at, "the file ends inside a record"))
        return Records.concat(parts), at, damage

    def _captured(self, block: bytes, at: int) -> int:
        """What the record at ``at`` claims to have captured."""
        return int.from_bytes(block[at + 8 : at + 12], "little" if self.order == "<" else "big")

    def _look_ahead(self, block: bytes, at: int, stop: int) -> _Ahead:
        """The chain of whole records from ``at`` to ``stop``, and which of them look strange."""
        front = memoryview(block)[:stop]
        follow = Chain(self.order, 8, self.header, self.header, self.limit + self.header).follow
        words = unaligned(front, f"{self.order}u4")
        offsets, _ = follow(front, at, lambda *where: self._guess(words, at, *where))
        records, strange = self._records(block, offsets)
        return _Ahead(offsets, records, np.flatnonzero(strange))

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

    def _records(self, block: bytes, at: I64) -> tuple[Records, Bool]:
        """The records whose headers are at ``at``, and which of them hold strange numbers."""
        words = gather(block, at, _HEADER).view(f"{self.order}u4").reshape(-1, 4)
        seconds, fraction, captured, wire = (words[:, i].astype(np.int64) for i in range(4))
        fraction *= self.tick
        before = seconds[:1] if self.latest is None else [self.latest]
        strange = np.abs(np.diff(seconds, prepend=before)) > resync.DAY
        strange |= captured > wire
        strange |= fraction >= NANOSECOND
        link = np.full(len(at), self.link)
        time = seconds * NANOSECOND + fraction
        return Records(at + self.header, captured, wire, time, link), strange

    def _one(self, block: bytes, at: int, damage: list[Damage], *, last: bool) -> Records | None:
        """The record at ``at``, strange or cut; none if damaged, None if bytes are missing."""
        if at + self.header > len(block):
            return None
        captured = self._captured(block, at)
        wrong, wait = self._doubt(block, at, captured, strange=True, last=last)
        if wait:
            return None
        if wrong:
            damage.append(wrong)
        return self._records(block, np.array([at] * (wrong is None), np.int64))[0]

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
