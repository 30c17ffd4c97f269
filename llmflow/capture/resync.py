"""Finding the next record behind a damaged place.

A place is believed only if it begins a chain: for pcap several record headers, each where the one
before says, of plausible lengths and like times; for pcapng a block whose two lengths agree, with
another block behind it. The end of the file ends a chain. What is believed hangs on the bytes of
the file alone, so it is the same wherever blocks of reading are cut.
"""

from __future__ import annotations

import struct
from typing import Protocol

import numpy as np

from llmflow.arrays import I64, U8
from llmflow.capture.records import NANOSECOND

CHAIN = 4  # records that must follow each other
_WINDOWS = 1 << 10, 1 << 16  # bytes looked at together: few at first, the next is often near
_LARGEST = 1 << 18  # bytes of a record or block while looking: what has to be kept stays small
DAY = 86_400  # seconds

# Sections, interfaces, packets, names, statistics, journal, secrets, custom, process events.
_BLOCKS = frozenset({0x0A0D0D0A, 1, 2, 3, 4, 5, 6, 9, 10, 0xBAD, 0x40000BAD, 0x80000001})


class Pcap(Protocol):
    """What one has to know of a pcap file: byte order, ns per tick, sizes, the latest second."""

    order: str
    tick: int
    header: int
    limit: int
    latest: int | None


def _words(octets: U8, order: str, offset: int, count: int) -> I64:
    """32-bit numbers at ``offset`` behind each of ``count`` consecutive bytes."""
    places = range(offset + 3, offset - 1, -1) if order == "<" else range(offset, offset + 4)
    value = np.zeros(count, np.int64)
    for place in places:
        value = value << 8 | octets[place : place + count]
    return value


def _chained(framer: Pcap, block: bytes, at: int, *, last: bool) -> bool | None:
    """Whether a chain of records begins at ``at``; None if the block is too short to say."""
    before = None
    for _ in range(CHAIN):
        if at + framer.header > len(block):
            return at == len(block) if last else None
        seconds, fraction, captured, wire = struct.unpack_from(framer.order + "IIII", block, at)
        if not 0 < captured <= min(wire, _LARGEST) or fraction * framer.tick >= NANOSECOND:
            return False
        if before is not None and abs(seconds - before) > DAY:
            return False
        at, before = at + framer.header + captured, seconds
    return True


def leads_on(framer: Pcap, block: bytes, at: int, *, last: bool) -> bool | None:
    """Whether behind the strange record at ``at`` the file ends or a plausible one lies.

    None if the block is too short to say.
    """
    seconds, _, captured, _ = struct.unpack_from(framer.order + "IIII", block, at)
    after = at + framer.header + captured
    if after + framer.header > len(block):
        return True if last else None
    following, fraction, size, wire = struct.unpack_from(framer.order + "IIII", block, after)
    usual = 0 < size <= min(wire, _LARGEST) and fraction * framer.tick < NANOSECOND
    return bool(usual or (abs(following - seconds) <= DAY and size <= framer.limit))


def find_pcap(framer: Pcap, block: bytes, at: int, *, last: bool) -> tuple[int, bool]:
    """Look for a chain of records from ``at`` on.

    Returns
    -------
    at : int
        Where it begins; or up to where there is none, the rest being too short to tell.
    lost : bool
        Whether it has not been found.
    """
    end = len(block)
    octets = np.frombuffer(block, np.uint8)
    # Read 4 bytes too late, headers make a chain as well: the fraction passes for seconds. Seconds
    # since 1970 are larger than any fraction, unless the capture counts from 0.
    floor = NANOSECOND // framer.tick
    if framer.latest is not None and framer.latest < floor:
        floor = 0
    size, largest = _WINDOWS
    while at + framer.header <= end:
        count = min(size, end - at - framer.header + 1)
        window = octets[at : at + count + 15]
        captured = _words(window, framer.order, 8, count)
        wire = _words(window, framer.order, 12, count)
        good = (captured > 0) & (captured <= _LARGEST) & (captured <= wire)
        good &= _words(window, framer.order, 4, count) * framer.tick < NANOSECOND
        good &= _words(window, framer.order, 0, count) >= floor
        for place in np.flatnonzero(good).tolist():
            chained = _chained(framer, block, at + place, last=last)
            if chained is None:
                return at + place, True
            if chained:
                return at + place, False
        at, size = at + count, min(size * 4, largest)
    return end if last else at, True


def block_length(order: str, block: bytes, at: int) -> int:
    """Length of a pcapng block whose header at ``at`` is plausible, else 0."""
    if at + 12 > len(block):
        return 0
    kind, length = struct.unpack_from(order + "II", block, at)
    if kind == 0x0A0D0D0A:  # a section may change the byte order
        order = "<" if block[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
        (length,) = struct.unpack_from(order + "I", block, at + 4)
    known = kind in _BLOCKS and length >= 12 and length % 4 == 0 and length <= _LARGEST
    return length if known else 0


def _whole(order: str, block: bytes, at: int, *, last: bool) -> bool | None:
    """Whether a block lies at ``at`` and another behind it; None if too little is there."""
    length = block_length(order, block, at)
    if not length:
        return False
    end, stop = len(block), at + length
    if stop > end:
        return False if last else None
    # Both copies of the length are of one byte order.
    if block[at + 4 : at + 8] != block[stop - 4 : stop]:
        return False
    if stop == end and last:
        return True
    if stop + 12 > end:
        return False if last else None
    return bool(block_length(order, block, stop))


def find_pcapng(order: str, block: bytes, at: int, *, last: bool) -> tuple[int, bool]:
    """Look for a whole pcapng block from ``at`` on; returns as :func:`find_pcap`."""
    end = len(block)
    octets = np.frombuffer(block, np.uint8)
    kinds = np.array(sorted(_BLOCKS))
    size, largest = _WINDOWS
    while at + 12 <= end:
        count = min(size, end - at - 11)
        window = octets[at : at + count + 11]
        good = np.isin(_words(window, order, 0, count), kinds)
        for place in np.flatnonzero(good).tolist():
            whole = _whole(order, block, at + place, last=last)
            if whole is None:
                return at + place, True
            if whole:
                return at + place, False
        at, size = at + count, min(size * 4, largest)
    return end if last else at, True
