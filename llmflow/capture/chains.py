"""Following a chain of records without walking it record by record.

In pcap and pcapng each record says only where the next one begins, so a block is a sequential
chain. Here many chains start at once, at places that look like records, and advance in lockstep,
one numpy step for all. Nothing rests on the guess: a chain counts only if the chain before it
landed exactly on its start; a stretch where that fails is walked plainly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import I64

_STRETCH = 1 << 13  # bytes a chain has to go
_WINDOW = 1 << 9  # bytes in which its start is looked for
_LEAST_CHAINS = 8  # with fewer, lockstep costs more than it saves

# (first, stride, window) -> for each stretch of the block, the offset of something that looks like
# a record in its first `window` bytes, or -1
Candidates = Callable[[int, int, int], I64]


def unaligned(block: bytes | memoryview, kind: str) -> NDArray[Any]:
    """A view of a block that holds, at each byte offset, the value of type ``kind`` there."""
    size = np.dtype(kind).itemsize
    return np.ndarray(max(len(block) - size + 1, 0), kind, block, strides=(1,))


@dataclass(frozen=True, slots=True)
class Chain:
    """How records of a format follow one another.

    Parameters
    ----------
    order : str
        ``<`` or ``>``.
    size_at : int
        Where in a record its 32-bit length stands.
    extra : int
        What the record is longer than that number.
    header : int
        Bytes a record has at least; a shorter rest of a block is no record.
    limit : int
        Longest record believed.
    """

    order: str
    size_at: int
    extra: int
    header: int
    limit: int

    def follow(
        self, block: bytes | memoryview, start: int, candidates: Candidates
    ) -> tuple[I64, int]:
        """Find the whole records of a block.

        Parameters
        ----------
        block : bytes or memoryview
        start : int
            Offset of the first record: known, not guessed.
        candidates : callable
            Where to guess; see ``Candidates``.

        Returns
        -------
        offsets : ndarray of int64
            Of all whole records, in order.
        stop : int
            Where the first record begins that is not whole, or cannot be.
        """
        end = len(block)
        sizes = unaligned(block, f"{self.order}u4")
        starts = np.array([start], np.int64)
        if (end - start) // _STRETCH >= _LEAST_CHAINS and self._fits(sizes, start, end):
            found = candidates(start + _STRETCH, _STRETCH, _WINDOW)
            starts = np.concatenate([starts, found[found >= 0]])
        offsets, owner, stops = self._lockstep(sizes, starts, end)
        # Keep the chains that the one before landed on; walk plainly where none did.
        first = np.searchsorted(owner, np.arange(len(starts) + 1)).tolist()
        breaks = np.append(np.flatnonzero(stops[:-1] != starts[1:]), len(starts) - 1)
        chain_at = {offset: number for number, offset in enumerate(starts.tolist())}
        parts = [np.empty(0, np.int64)]
        at = start
        while self._fits(sizes, at, end):
            number = chain_at.get(at)
            if number is None:
                parts.append(np.array([at]))
                at = int(self._next(sizes, parts[-1])[0])
            else:
                last = int(breaks[np.searchsorted(breaks, number)])
                parts.append(offsets[first[number] : first[last + 1]])
                at = int(stops[last])
        return np.concatenate(parts), at

    def _next(self, sizes: NDArray[Any], here: I64) -> I64:
        following: I64 = here + (sizes[here + self.size_at].astype(np.int64) + self.extra)
        return following

    def _lockstep(self, sizes: NDArray[Any], starts: I64, end: int) -> tuple[I64, I64, I64]:
        """Advance all chains to the start of the next one; records, their chain, where it ended."""
        limits = np.append(starts[1:], end)
        at = starts.copy()
        live = np.flatnonzero(at + self.header <= end)
        rows, owners = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        while len(live):
            here = at[live]
            after = self._next(sizes, here)
            whole = (after <= end) & (after - here <= self.limit)
            if not whole.all():
                live, here, after = live[whole], here[whole], after[whole]
            rows.append(here)
            owners.append(live)
            at[live] = after
            live = live[(after < limits[live]) & (after + self.header <= end)]
        offset, owner = np.concatenate(rows), np.concatenate(owners)
        # Small integers are sorted by radix.
        small = np.int16 if len(starts) < 1 << 15 else np.int64
        order = np.argsort(owner.astype(small), kind="stable")
        return offset[order], owner[order], at

    def _fits(self, sizes: NDArray[Any], at: int, end: int) -> bool:
        if at + self.header > end:
            return False
        size = int(sizes[at + self.size_at]) + self.extra
        return size <= self.limit and at + size <= end
