"""Packets that wait for their flows to end: few bytes each, their keys apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import I64, U8, U16, U64, Bool, run_mask
from llmflow.capture.columns import TCP, Columns, PacketColumns
from llmflow.flows.keys import Endpoint, Paired, choose, key_hash

# What only goes along: kept as one value per row, so that it is moved at once.
_REST = np.dtype(
    [("ip_bytes", "u4"), ("payload", "u4"), ("seq", "u4"), ("ack", "u4"),
     ("window", "u2"), ("flags", "u1"), ("hint", "u1"), ("forward", "?"), ("context", "?")]
)  # fmt: skip
_RAW = np.dtype((np.void, _REST.itemsize))


@dataclass(frozen=True, slots=True)
class Waiting(Columns):
    """Packets in waiting, 38 bytes each.

    ``key`` names the row's flow key in a :class:`KeyTable`; ``rest`` holds the other columns as
    raw bytes, see :meth:`field`.
    """

    key: U64
    time: I64
    rest: NDArray[np.void]

    def field(self, name: str) -> NDArray[Any]:
        """A view of one of the other columns.

        ``ip_bytes``, ``payload``, ``seq``, ``ack``, ``window``, ``flags`` and ``hint`` are the
        packet's; ``forward`` rows were sent by endpoint a. A ``context`` row stands for the part of
        a flow that has left as earlier slices: it is counted nowhere, and keeps the flow's last
        time and, as a FIN, whether it showed FIN or RST.
        """
        column: NDArray[Any] = self.rest.view(_REST)[name]
        return column


@dataclass(frozen=True, slots=True)
class KeyTable(Paired):
    """Flow keys, sorted by ``key``: a number that stands for the full key, and is no guess.

    It is the key's hash, or the next number that was free when the key was first seen.
    """

    key: U64
    a_high: U64
    a_low: U64
    a_port: U16
    b_high: U64
    b_low: U64
    b_port: U16
    protocol: U8

    @classmethod
    def empty(cls) -> KeyTable:
        """A table without keys."""
        none, port = np.empty(0, np.uint64), np.empty(0, np.uint16)
        return cls(none, none, none, port, none, none, port, np.empty(0, np.uint8))

    def intern(self, wanted: KeyTable) -> tuple[U64, KeyTable]:
        """Find or add keys.

        Parameters
        ----------
        wanted : KeyTable
            In any order, the same key any number of times; ``key`` holds the hashes.

        Returns
        -------
        numbers : ndarray of uint64
            The number of each wanted key.
        table : KeyTable
            This table with the new keys.
        """
        table, numbers = self, wanted.key.copy()
        open_ = np.arange(len(wanted))
        while len(open_):
            place = np.searchsorted(table.key, numbers[open_])
            inside = np.minimum(place, max(len(table) - 1, 0))
            taken = np.zeros(len(open_), np.bool_)
            if len(table):
                taken = table.key[inside] == numbers[open_]
            # Free numbers go to the first key that wants them; everybody looks again.
            free = open_[~taken]
            if len(free):
                _, first = np.unique(numbers[free], return_index=True)
                fresh = wanted.take(free[first])
                fresh.key[:] = numbers[free[first]]
                table = KeyTable.concat([table, fresh])
                table = table.take(np.argsort(table.key))
                continue
            same = np.ones(len(open_), np.bool_)
            for mine, theirs in zip(table.columns()[1:], wanted.columns()[1:], strict=True):
                same &= mine[inside] == theirs[open_]
            open_ = open_[~same]
            numbers[open_] += np.uint64(1)
        return numbers, table

    def find(self, keys: U64) -> I64:
        """Rows of keys that are in the table."""
        return np.searchsorted(self.key, keys)

    def keep(self, keys: U64) -> KeyTable:
        """Some keys, and those in front of a taken number: they may have turned others away."""
        wanted = np.isin(self.key, keys)
        wanted[:-1] |= self.key[1:] - self.key[:-1] == 1
        return self.take(wanted)


_SPREAD = np.uint64(0x9E3779B97F4A7C15)


def _words(end: Endpoint) -> U64:
    """Endpoints as one number each; unique where the address is IPv4 (48 bits)."""
    word: U64 = end.low ^ (end.high * _SPREAD) ^ (end.port.astype(np.uint64) << np.uint64(48))
    return word


def wait(p: PacketColumns) -> tuple[Waiting, KeyTable]:
    """Make rows of packets, sorted by hash; ``key`` is the row of the key list that comes along."""
    source = Endpoint(p.src_hi, p.src_lo, p.src_port)
    target = Endpoint(p.dst_hi, p.dst_lo, p.dst_port)
    mine, theirs = _words(source), _words(target)
    forward = mine <= theirs
    low, high = np.minimum(mine, theirs), np.maximum(mine, theirs)
    order, key, time = by_key(key_hash(low, high, p.protocol), p.time)
    # Runs of one key. Numbers that do not tell all endpoints apart are proved by the endpoints.
    starts = run_mask(key, low[order], high[order], p.protocol[order])
    wide = (p.src_hi | p.dst_hi | (p.src_lo >> np.uint64(48)) | (p.dst_lo >> np.uint64(48))) != 0
    rows = np.flatnonzero(wide[order])
    if len(rows):
        some = order[rows]
        forward[some] = source.take(some).at_most(target.take(some))
        a, b = _ordered(source.take(some), target.take(some), forward[some])
        apart = run_mask(*a, *b) | (np.diff(rows, prepend=-2) > 1)
        starts[rows] |= apart
        after = rows[rows + 1 < len(order)] + 1
        starts[after] |= ~wide[order[after]]
    run = np.flatnonzero(starts)
    head = order[run]
    a, b = source.take(head), target.take(head)
    first_is_a = a.at_most(b)
    a, b = choose(first_is_a, a, b), choose(first_is_a, b, a)
    keys = KeyTable(key[run], *a, *b, p.protocol[head])
    number = np.cumsum(starts) - 1
    rest = np.empty(len(p), _REST)
    for name in ("ip_bytes", "payload", "seq", "ack", "window", "hint"):
        rest[name] = getattr(p, name)
    rest["flags"] = p.flags * (p.protocol == TCP)
    rest["context"] = False
    rest["forward"] = forward
    rest = rest.view(_RAW)[order]
    rest.view(_REST)["forward"] ^= (first_is_a != forward[head])[number]
    return Waiting(number.view(np.uint64), time, rest), keys


def _ordered(source: Endpoint, target: Endpoint, forward: Bool) -> tuple[Endpoint, Endpoint]:
    return choose(forward, source, target), choose(forward, target, source)


def by_key(key: U64, time: I64) -> tuple[I64, U64, I64]:
    """The order by key, then time, then place; and both columns in that order.

    Keys and places are sorted as one number each, which is several times faster than a stable sort;
    the few rows for which that was not enough are sorted again.
    """
    n = len(key)
    place = np.arange(n, dtype=np.uint64)
    mask = np.uint64((1 << max(n - 1, 1).bit_length()) - 1)
    packed = key & ~mask
    packed |= place
    packed.sort()
    packed &= mask
    order = packed.view(np.int64)
    ordered = key[order]
    if (ordered[1:] < ordered[:-1]).any():
        order = np.argsort(key, kind="stable")
        ordered = key[order]
    sorted_time = time[order]
    del key, time  # large
    late = np.zeros(n, np.bool_)
    late[1:] = (sorted_time[1:] < sorted_time[:-1]) & (ordered[1:] == ordered[:-1])
    if late.any():
        run = np.cumsum(run_mask(ordered)) - 1
        rows = np.flatnonzero((np.bincount(run, late) > 0)[run])
        again = rows[np.lexsort((sorted_time[rows], ordered[rows]))]
        order[rows], sorted_time[rows] = order[again], sorted_time[again]
    return order, ordered, sorted_time
