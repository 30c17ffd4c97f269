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
_STEPS = 8  # taken between two looks at which chains have arrived
_LEAST_CHAINS = 8  # with fewer, lockstep costs more than it saves

# (first, stride, window) -> for each stretch of the block, the offset of something that looks like
# a record in its first `window` bytes, or -1
Candidates = Callable[[int, int, int], I64]


def unaligned(block: bytes | memoryview, kind: str | np.dtype[Any]) -> NDArray[Any]:
    """A view of a block that holds, at each byte offset, the value of type ``kind`` there."""
    size = np.dtype(kind).itemsize
    return np.ndarray(max(len(block) - size + 1, 0), kind, block, strides=(1,))


def gather(block: bytes | memoryview, at: I64, layout: np.dtype[np.void]) -> NDArray[np.void]:
    """The header at each place: one copy of a few words per packet, fields as columns of it.

    All of each header must lie inside the block.
    """
    raw = np.dtype((np.void, layout.itemsize))
    return unaligned(block, raw)[at].view(layout)


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
        Bytes a record has at least; what is shorter, or claims to be, is no record.
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
        if (end - start) // _STRETCH >= _LEAST_CHAINS and self._size(sizes, start, end):
            found = candidates(start + _STRETCH, _STRETCH, _WINDOW)
            starts = np.concatenate([starts, found[found >= 0]])
        offsets, owner, stops = self._lockstep(sizes, starts, end)
        # Keep the chains that the one before landed on; walk plainly where none did.
        first = np.searchsorted(owner, np.arange(len(starts) + 1)).tolist()
        breaks = np.append(np.flatnonzero(stops[:-1] != starts[1:]), len(starts) - 1)
        chain_at = {offset: number for number, offset in enumerate(starts.tolist())}
        parts = [np.empty(0, np.int64)]
        at = start
        while size := self._size(sizes, at, end):
            number = chain_at.pop(at, None)  # once: it may have got nowhere
            if number is None:
                parts.append(np.array([at]))
                at += size
            else:
                last = int(breaks[np.searchsorted(breaks, number)])
                parts.append(offsets[first[number] : first[last + 1]])
                at = int(stops[last])
        return np.concatenate(parts), at

    def _lockstep(self, sizes: NDArray[Any], starts: I64, end: int) -> tuple[I64, I64, I64]:
        """Advance chains to the start of the next one; records, their chain, where it ended.

        The last few that are not there yet stay where they are.
        """
        limits = np.append(starts[1:], end)
        stops = starts.copy()
        last = end - self.header  # no whole record begins behind it
        lengths = sizes[self.size_at :]
        live = np.flatnonzero(starts <= last)
        offsets, owners = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        while len(live) >= _LEAST_CHAINS:
            # A few steps with as little as possible in each; what was run over is cut off behind.
            at = np.empty((_STEPS + 1, len(live)), np.int64)
            at[0] = stops[live]
            for step in range(_STEPS):
                np.add(at[step], lengths[np.minimum(at[step], last)], out=at[step + 1])
                at[step + 1] += self.extra
            size = np.diff(at, axis=0)
            whole = (at[1:] <= end) & (size >= self.header) & (size <= self.limit)
            whole &= (at[:-1] < limits[live]) & (at[:-1] <= last)
            whole = np.logical_and.accumulate(whole, axis=0)
            steps = whole.sum(axis=0)
            stops[live] = at[steps, np.arange(len(live))]
            offsets.append(at[:-1][whole])
            owners.append(np.broadcast_to(live, whole.shape)[whole])
            live = live[steps == _STEPS]
        offset, owner = np.concatenate(offsets), np.concatenate(owners)
        # Small integers are sorted by radix.
        small = np.int16 if len(starts) < 1 << 15 else np.int64
        order = np.argsort(owner.astype(small), kind="stable")
        return offset[order], owner[order], stops

    def _size(self, sizes: NDArray[Any], at: int, end: int) -> int:
        """Bytes of the record at ``at``; 0 if it is not whole, or cannot be."""
        if at + self.header > end:
            return 0
        size = int(sizes[at + self.size_at]) + self.extra
        return size if self.header <= size <= self.limit and at + size <= end else 0
