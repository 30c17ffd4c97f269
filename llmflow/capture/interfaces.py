"""Interfaces of a pcapng section: link types, snapshot lengths and clocks.

A clock counts from 1970 plus ``if_tsoffset`` seconds in steps of ``if_tsresol``. Times are exact to
the nanosecond, rounded down, for one packet (:class:`Interface`) and for many (:class:`Table`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from llmflow.arrays import I64, U64, Bool
from llmflow.capture.records import NANOSECOND, NO_TIME

_END = 1 << 62  # ns: times from here on cannot be
_WRAP = 1 << 64


@dataclass(slots=True)
class Interface:
    """What an interface description block says."""

    link: int
    snaplen: int
    name: str = ""
    ticks: int = 1_000_000  # per second
    offset: int = 0  # seconds

    @classmethod
    def parse(cls, order: str, block: bytes, body: int, stop: int) -> Self:
        """Read the block's fields and options, which lie between ``body`` and ``stop``.

        Raises
        ------
        struct.error, ValueError
            Too short, or of a time resolution that cannot be.
        """
        link, _, snaplen = struct.unpack_from(order + "HHI", block[body:stop])
        found = cls(link, snaplen)
        at = body + 8
        while at + 4 <= stop:
            code, length = struct.unpack_from(order + "HH", block, at)
            value = block[at + 4 : min(at + 4 + length, stop)]
            if code == 0:
                break
            if code == 2:  # if_name
                found.name = value[:64].decode(errors="replace")
            elif code == 9 and len(value) == 1:  # if_tsresol
                power = value[0] & 0x7F
                if power > (63 if value[0] & 0x80 else 19):
                    raise ValueError(f"an interface claims the time resolution {value[0]:#04x}")
                found.ticks = (2 if value[0] & 0x80 else 10) ** power
            elif code == 14 and len(value) == 8:  # if_tsoffset
                (found.offset,) = struct.unpack(order + "q", value)
            at += 4 + (length + 3 & ~3)
        return found

    def time(self, ticks: int) -> int:
        """Nanoseconds since 1970 of a time stamp, or ``NO_TIME``."""
        time = self.offset * NANOSECOND + ticks * NANOSECOND // self.ticks
        return time if 0 <= time < _END else NO_TIME


@dataclass(frozen=True, slots=True)
class Table:
    """Interfaces as columns, one row each, and a last row for all numbers that name none.

    Parameters
    ----------
    known : ndarray of bool
        Whether there is such an interface, and it is not damaged.
    link, snaplen : ndarray of int64
    ticks, steps, per_step : ndarray of uint64
        Ticks per second; ``steps`` ticks are ``per_step`` ns, in lowest terms.
    offset : ndarray of uint64
        ``if_tsoffset`` modulo 2**64.
    first, end : ndarray of uint64
        Seconds without the offset from which on, and up to which, a time can be.
    """

    known: Bool
    link: I64
    snaplen: I64
    ticks: U64
    steps: U64
    per_step: U64
    offset: U64
    first: U64
    end: U64

    @classmethod
    def of(cls, interfaces: Sequence[Interface | None]) -> Self:
        """Columns of a section's interfaces; ``None`` is a damaged one."""
        rows = [port or Interface(0, 0) for port in [*interfaces, None]]
        common = [math.gcd(port.ticks, NANOSECOND) for port in rows]
        unsigned = [
            [port.ticks for port in rows],
            [port.ticks // divisor for port, divisor in zip(rows, common, strict=True)],
            [NANOSECOND // divisor for divisor in common],
            [port.offset % _WRAP for port in rows],
            [max(0, -port.offset) for port in rows],
            [max(0, _END // NANOSECOND + 1 - port.offset) for port in rows],
        ]
        return cls(
            np.array([*(port is not None for port in interfaces), False]),
            np.array([port.link for port in rows], np.int64),
            np.array([port.snaplen for port in rows], np.int64),
            *(np.array(column, np.uint64) for column in unsigned),
        )

    def times(self, port: I64, ticks: U64) -> I64:
        """:meth:`Interface.time` of time stamps of the interfaces ``port``."""
        seconds, rest = np.divmod(ticks, self.ticks[port])
        good = (seconds >= self.first[port]) & (seconds < self.end[port])
        per_step, steps = self.per_step[port], self.steps[port]
        if (self.ticks <= np.uint64(_WRAP - 1) // self.per_step).all():
            rest = rest * per_step // steps
        else:  # finer than 2**-43 s, which is rare: the product needs more than 64 bits
            rest = (rest.astype(object) * per_step // steps).astype(np.uint64)
        time = (seconds + self.offset[port]) * np.uint64(NANOSECOND) + rest
        good &= time < _END
        return np.where(good, time.astype(np.int64), NO_TIME)
