"""What was said, by whom and when: joined with flows by key and time, without a loop over flows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import I64, U8, U16, U64, Bool, run_mask
from llmflow.flows.keys import Endpoint, Paired, key_hash

MAX_ENTRIES = 1 << 20  # about 100 bytes each


@dataclass(frozen=True, slots=True)
class Entries(Paired):
    """Sayings: when, how long they hold, between which ends, and texts by number, (n, texts)."""

    time: I64
    until: I64
    a_high: U64
    a_low: U64
    a_port: U16
    b_high: U64
    b_low: U64
    b_port: U16
    protocol: U8
    texts: NDArray[np.int32]


class Keys(NamedTuple):
    """Who talked: key columns, and their hash."""

    columns: tuple[NDArray[np.unsignedinteger], ...]
    hash: U64

    @classmethod
    def of(cls, a: Endpoint, b: Endpoint, protocol: U8) -> Keys:
        """Keys of flows."""
        columns = (*a, *b, protocol)
        return cls(columns, key_hash(*columns))


@dataclass(slots=True)
class Ledger:
    """Entries in the order in which they were said.

    Attributes
    ----------
    dropped : int
        Entries not taken because there were ``MAX_ENTRIES``.
    """

    dropped: int = 0
    _parts: list[Entries] = field(default_factory=list)
    _order: I64 | None = None
    _hash: U64 = field(default_factory=lambda: np.empty(0, np.uint64))
    _count: int = 0

    def __len__(self) -> int:
        return self._count

    def add(self, entries: Entries) -> None:
        """Take entries, as long as there is room."""
        room = MAX_ENTRIES - self._count
        if len(entries) > room:
            self.dropped += len(entries) - room
            entries = entries.take(slice(0, room))
        self._parts.append(entries)
        self._count += len(entries)
        self._order = None

    def _sorted(self) -> Entries:
        """All entries by hash, then time, then place; the hashes in ``_hash``."""
        entries = Entries.concat(self._parts)
        if self._order is None:
            hashes = Keys.of(entries.a, entries.b, entries.protocol).hash
            order = np.lexsort((entries.time, hashes))
            entries, self._hash, self._order = entries.take(order), hashes[order], order
            self._parts = [entries]
        return entries

    def find(self, keys: Keys, time: I64, *, latest: bool = False) -> tuple[I64, Entries]:
        """For each key the first entry at ``time`` or behind it, or the latest up to it.

        Returns
        -------
        row : ndarray of int64
            Row of the entry; -1 where there is none. Keys that share a hash with others of the
            ledger, which takes intent, may find none.
        entries : Entries
            What the rows are of.
        """
        row = np.full(len(time), -1)
        if not self._count:
            return row, Entries.concat(self._parts) if self._parts else _NOTHING
        entries = self._sorted()
        begins = run_mask(self._hash)
        distinct, group = self._hash[begins], np.cumsum(begins) - 1
        place = np.minimum(np.searchsorted(distinct, keys.hash), len(distinct) - 1)
        mine = np.flatnonzero(distinct[place] == keys.hash)
        # Groups and ranks of time as one number each: one search for both.
        times, base = np.unique(entries.time), len(entries) + 1
        packed = group * base + np.searchsorted(times, entries.time)
        side: Literal["left", "right"] = "right" if latest else "left"
        rank = np.searchsorted(times, time[mine], side)
        wanted = place[mine] * base + rank
        found = np.searchsorted(packed, wanted) - latest
        inside = (found >= 0) & (found < len(entries))
        mine, found = mine[inside], found[inside]
        same = np.ones(len(mine), np.bool_)
        others: tuple[NDArray[Any], ...] = (*entries.a, *entries.b, entries.protocol)
        for theirs, ours in zip(others, keys.columns, strict=True):
            same &= theirs[found] == ours[mine]
        row[mine[same]] = found[same]
        return row, entries

    def keep(self, wanted: I64, since: int) -> None:
        """Let go of all but some rows, and of those that hold at ``since`` or behind it."""
        if self._count:
            entries = self._sorted()
            kept: Bool = entries.until >= since
            kept[wanted[wanted >= 0]] = True
            self._parts, self._hash = [entries.take(kept)], self._hash[kept]
            self._count = len(self._hash)

    def renumber(self, number: Callable[[int], int]) -> None:
        """Give texts other numbers."""
        if self._count:
            entries = self._sorted()
            old, place = np.unique(entries.texts, return_inverse=True)
            new = np.array([number(text) for text in old.tolist()], np.int32)
            entries.texts[:] = new[place].reshape(entries.texts.shape)

    def clear(self) -> None:
        """Let go of all."""
        self._parts, self._order, self._count = [], None, 0


_NONE, _NO_PORT = np.empty(0, np.uint64), np.empty(0, np.uint16)
_NOTHING = Entries(
    np.empty(0, np.int64), np.empty(0, np.int64), _NONE, _NONE, _NO_PORT, _NONE, _NONE, _NO_PORT,
    np.empty(0, np.uint8), np.empty((0, 6), np.int32),
)  # fmt: skip
