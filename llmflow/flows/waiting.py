"""Packets that wait for their flows to end: few bytes each, their keys apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import I64, U8, U16, U32, U64, Bool, run_mask
from llmflow.capture.columns import TCP, Columns, PacketColumns
from llmflow.flows.keys import Endpoint, Paired, choose, key_hash


@dataclass(frozen=True, slots=True)
class Waiting(Columns):
    """Packets in waiting, 38 bytes each.

    ``key`` names the row's flow key in a :class:`KeyTable`; ``forward`` rows were sent by endpoint
    a. A *context* row stands for the part of a flow that has left as earlier slices: it is counted
    nowhere, and keeps the flow's last time and, as a FIN, whether it showed FIN or RST.
    """

    key: U64
    time: I64
    ip_bytes: U32
    payload: U32
    seq: U32
    ack: U32
    window: U16
    flags: U8
    hint: U8
    forward: Bool
    context: Bool


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


def wait(p: PacketColumns) -> tuple[Waiting, KeyTable]:
    """Make rows of packets, sorted by hash; ``key`` is the row of the key list that comes along."""
    source = Endpoint(p.src_hi, p.src_lo, p.src_port)
    target = Endpoint(p.dst_hi, p.dst_lo, p.dst_port)
    forward = source.at_most(target)
    a, b = choose(forward, source, target), choose(forward, target, source)
    keys = KeyTable(key_hash(*a, *b, p.protocol), *a, *b, p.protocol)
    order = by_key(keys.key, p.time)
    sorted_keys = keys.take(order)
    starts = run_mask(*sorted_keys.columns())
    rows = Waiting(
        (np.cumsum(starts) - 1).astype(np.uint64),
        p.time[order],
        p.ip_bytes[order].astype(np.uint32),
        p.payload[order].astype(np.uint32),
        p.seq[order],
        p.ack[order],
        p.window[order],
        (p.flags * (p.protocol == TCP))[order],
        p.hint[order],
        forward[order],
        np.zeros(len(p), np.bool_),
    )
    return rows, sorted_keys.take(starts)


def by_key(key: U64, time: I64) -> I64:
    """The order by key, then time, then place.

    Keys and places are sorted as one number each, which is several times faster than a stable sort;
    the few rows for which that was not enough are sorted again.
    """
    n = len(key)
    place = np.arange(n, dtype=np.uint64)
    mask = np.uint64((1 << max(n - 1, 1).bit_length()) - 1)
    packed = (key & ~mask) | place
    packed.sort()
    order = (packed & mask).astype(np.int64)
    ordered = key[order]
    if (ordered[1:] < ordered[:-1]).any():
        order = np.argsort(key, kind="stable")
        ordered = key[order]
    late = np.zeros(n, np.bool_)
    late[1:] = (time[order[1:]] < time[order[:-1]]) & (ordered[1:] == ordered[:-1])
    if late.any():
        run = np.cumsum(run_mask(ordered)) - 1
        rows = np.flatnonzero((np.bincount(run, late) > 0)[run])
        some = order[rows]
        order[rows] = some[np.lexsort((time[some], key[some]))]
    return order
