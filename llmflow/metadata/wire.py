"""Reading bytes that somebody else wrote: a cursor that only shrinks, and pieces of streams."""

from __future__ import annotations

import re
from functools import lru_cache
from struct import unpack

_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
MAX_NAME = 253  # RFC 1035, section 2.3.4, without the final dot


class MalformedError(Exception):
    """Bytes that are not what they were read as; the only exception of the parsers in this room."""


class Cursor:
    """A view of bytes that is read from the front and can only shrink.

    Parameters
    ----------
    data : bytes
        What is read.
    at, end : int
        The part of it that may be read; all by default.
    """

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data, self.at = data, at
        self.end = len(data) if end is None else min(end, len(data))

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self.end - self.at

    def take(self, count: int) -> bytes:
        """Read ``count`` bytes."""
        at = self.at
        if count > self.end - at:
            raise MalformedError("a length reaches behind the end")
        self.at = at + count
        return self.data[at : at + count]

    def number(self, width: int) -> int:
        """Read a big-endian number of ``width`` bytes."""
        at = self.at
        if width > self.end - at:
            raise MalformedError("a length reaches behind the end")
        self.at = at + width
        return int.from_bytes(self.data[at : at + width], "big")

    def numbers(self, width: int) -> tuple[int, ...]:
        """Read all that is left as numbers of ``width`` bytes."""
        if self.left % width:
            raise MalformedError("a list ends inside an entry")
        data = self.take(self.left)
        if width == 2:
            return unpack(f">{len(data) // 2}H", data)
        return tuple(
            int.from_bytes(data[at : at + width], "big") for at in range(0, len(data), width)
        )

    def vector(self, width: int, *, cut: bool = False) -> Cursor:
        """Read a length of ``width`` bytes and go past what it counts, which is returned.

        ``cut`` allows the data to end before.
        """
        length = self.number(width)
        if length > self.left and not cut:
            raise MalformedError("a length reaches behind the end")
        start = self.at
        self.at = min(start + length, self.end)
        return Cursor(self.data, start, self.at)

    def varint(self) -> int:
        """Read a number of 1, 2, 4 or 8 bytes (RFC 9000, section 16)."""
        first = self.number(1)
        rest = (1 << (first >> 6)) - 1
        return (first & 0x3F) << 8 * rest | self.number(rest)


class Pieces:
    """Pieces of a byte stream by their offset, in any order, with overlaps and repetitions.

    What is put together depends on the set of pieces, never on the order in which they came, as
    long as the bounds are not met.

    Parameters
    ----------
    limit : int
        Bytes held at most.
    count : int
        Pieces held at most.
    """

    __slots__ = ("_count", "_limit", "_pieces", "held")

    def __init__(self, limit: int, count: int) -> None:
        self._pieces: dict[int, bytes] = {}
        self._limit, self._count, self.held = limit, count, 0

    def add(self, offset: int, data: bytes) -> bool:
        """Hold a piece; False if it goes beyond the bounds and is not held."""
        old = self._pieces.get(offset, b"")
        if (len(data), data) <= (len(old), old):
            return True
        grown = self.held + len(data) - len(old)
        if grown > self._limit or (not old and len(self._pieces) >= self._count):
            return False
        self._pieces[offset], self.held = data, grown
        return True

    def items(self) -> list[tuple[int, bytes]]:
        """All pieces by offset."""
        return sorted(self._pieces.items())

    def run(self, start: int) -> bytes:
        """All bytes from ``start`` to the first gap."""
        parts, end = [], start
        for offset, data in self.items():
            if offset > end:
                break
            if offset + len(data) > end >= start:
                parts.append(data[end - offset :])
                end = offset + len(data)
        return b"".join(parts)

    def drop(self, start: int, end: int | None = None) -> None:
        """Let the pieces go that begin at ``start`` or behind it, and before ``end``."""
        self._pieces = {
            at: data
            for at, data in self._pieces.items()
            if at < start or (end is not None and at >= end)
        }
        self.held = sum(map(len, self._pieces.values()))


@lru_cache(maxsize=4096)  # the same few names come over and over
def host_name(raw: str) -> str:
    """Bring a host name to the one form that names are compared in; empty if it cannot be one.

    Lower case, ASCII (RFC 5891 A-labels), without a final dot. Underscores are met in the wild.

    Examples
    --------
    >>> host_name("Bücher.Example."), host_name("a..b"), host_name("a b")
    ('xn--bcher-kva.example', '', '')
    """
    if len(raw) > MAX_NAME + 1:
        return ""
    name = raw.lower().removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return ""
    return name if len(name) <= MAX_NAME and _NAME.fullmatch(name) else ""
