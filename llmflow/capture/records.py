"""What framing gives: where the packets lie in a block of bytes.

This is the seam for faster lanes: whatever finds the records, ``Records`` is what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from llmflow.arrays import I64
from llmflow.capture.columns import Columns

MAX_RECORD = 1 << 24  # no link delivers a larger packet
NANOSECOND = 1_000_000_000
NO_TIME = -1  # a time stamp that cannot be


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

    def links(self) -> dict[int, int]:
        """Link types, and how many records have each."""
        link = self.link
        if not len(link) or (link == link[0]).all():
            return dict.fromkeys(link[:1].tolist(), len(link))
        return dict(zip(*(column.tolist() for column in np.unique_counts(link)), strict=True))


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
