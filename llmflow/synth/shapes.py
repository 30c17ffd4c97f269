"""Cadences: when a server writes how many bytes.

Every generator yields ``(offset, size)`` pairs: seconds since the first write of the reply, and
payload bytes on the wire (TLS record header included).  The numbers are medians and spreads
measured on real browser and API captures, and on published traces; each generator cites what it
imitates.  They are archetypes for demo and tests, never training data: a model that has only
seen these has seen nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

Chunk = tuple[float, int]
Shape = Callable[[Random, float], Iterator[Chunk]]

API_EVENT = 655  # payload of one padded completion event
CLOCK_GRID = 268  # smallest event of the clocked web interface; larger ones come in steps of 8


def lognormal(rng: Random, median: float, sigma: float) -> float:
    """Draw from a lognormal distribution given by its median."""
    return rng.lognormvariate(math.log(median), sigma)


def clipped(rng: Random, median: float, sigma: float, low: float, high: float) -> float:
    """Draw from a lognormal distribution and keep the value within ``[low, high]``."""
    return min(max(lognormal(rng, median, sigma), low), high)


def drip(rng: Random, seconds: float) -> Iterator[Chunk]:
    """One tiny record per event, as Claude's web interface writes them.

    Measured: median gap 58 ms with std/mean 0.9, 45-75 bytes (median 58), about 13 writes per
    second, no padding, alike on TCP and QUIC.  Here one write in twelve holds two events.

    Parameters
    ----------
    rng : random.Random
        Source of all randomness.
    seconds : float
        The reply ends after this time.

    Yields
    ------
    tuple of (float, int)
        Offset in seconds and bytes of one write.

    Examples
    --------
    >>> chunks = list(drip(Random(1), 6.0))
    >>> 60 < len(chunks) < 120
    True
    >>> chunks[0][0]
    0.0
    """
    now = 0.0
    while now < seconds:
        size = rng.choice((55, 56, 57, 58, 58, 59, 60, 62, 65, 69, 75))
        if rng.random() < 0.08:  # noqa: PLR2004 - share of merged events
            size += rng.randint(55, 75)
        yield now, size
        now += clipped(rng, 0.058, 0.75, 0.004, 0.9)


def quic_drip(rng: Random, seconds: float) -> Iterator[Chunk]:
    """Yield :func:`drip` in datagrams: the same cadence, a median of 54 bytes."""
    for offset, size in drip(rng, seconds):
        yield offset, size - rng.randint(5, 7)


def clocked(rng: Random, seconds: float) -> Iterator[Chunk]:
    """Flushes on a 200 ms clock, as ChatGPT's web interface writes them.

    Measured: median gap 204 ms with std/mean 0.53, about five writes per second, sizes mostly
    ``268 + 8k``.  Here about one tick in five has a second flush and one in seventeen none.

    Parameters
    ----------
    rng : random.Random
        Source of all randomness.
    seconds : float
        The reply ends after this time.

    Yields
    ------
    tuple of (float, int)
        Offset in seconds and bytes of one write.
    """
    tick = 0.0
    while tick < seconds:
        draw = rng.random()
        if draw > 0.06:  # noqa: PLR2004 - the rest of the ticks have nothing to flush
            yield tick, _clocked_size(rng)
            if draw > 0.78:  # noqa: PLR2004 - a second flush before the next tick
                yield tick + rng.uniform(0.006, 0.150), _clocked_size(rng)
        tick += max(rng.gauss(0.204, 0.008), 0.170)


def _clocked_size(rng: Random) -> int:
    size = CLOCK_GRID + 8 * int(rng.expovariate(1 / 3.2))
    return size if rng.random() < 0.65 else size + rng.randint(1, 7)  # noqa: PLR2004 - off the grid


def cumulative(rng: Random, seconds: float) -> Iterator[Chunk]:
    """Repeat the reply so far in every write, so that writes grow, as Gemini's web interface does.

    Measured: median gap 117 ms with std/mean 0.64, about eight writes per second, chunk sizes
    from 300 bytes to tens of kilobytes, rank correlation of size and position 0.78.

    Parameters
    ----------
    rng : random.Random
        Source of all randomness.
    seconds : float
        The reply ends after this time.

    Yields
    ------
    tuple of (float, int)
        Offset in seconds and bytes of one write.
    """
    now, text = 0.0, 0.0
    while now < seconds:
        yield now, int(285 + text * rng.uniform(0.7, 1.0))
        text += lognormal(rng, 75, 0.6)
        now += clipped(rng, 0.112, 0.55, 0.020, 0.6)


def burst_pause(rng: Random, seconds: float) -> Iterator[Chunk]:
    """Bursts of small writes and long pauses, as a content filter releases them.

    Published for GPT-4o behind a filter: mean gap 0.046 s with std 0.151 s.  Here 8-22 writes about
    12 ms apart, then a pause of 0.3-1.5 s.

    Parameters
    ----------
    rng : random.Random
        Source of all randomness.
    seconds : float
        The reply ends after this time.

    Yields
    ------
    tuple of (float, int)
        Offset in seconds and bytes of one write.
    """
    now = 0.0
    while now < seconds:
        for _ in range(rng.randint(8, 22)):
            yield now, rng.randint(230, 420)
            now += clipped(rng, 0.012, 0.5, 0.004, 0.060)
        now += rng.uniform(0.3, 1.5)


def padded(rng: Random, seconds: float) -> Iterator[Chunk]:
    """Pad events as a completion API does: nearly constant sizes, 23-38 writes per second.

    Measured on 180 GPT-4o streams: 57 % of the packets carry 655 bytes, 55 + 628 byte pairs are
    one event in two records, gaps lognormal(-3.67, 0.753) s with lag-1 autocorrelation 0.09.

    Parameters
    ----------
    rng : random.Random
        Source of all randomness.
    seconds : float
        The reply ends after this time.

    Yields
    ------
    tuple of (float, int)
        Offset in seconds and bytes of one write.
    """
    now = 0.0
    others = ((55, 628), (55, 628), (1281,), (1310,), (671,), (968,))
    while now < seconds:
        records = (API_EVENT,) if rng.random() < 0.66 else rng.choice(others)  # noqa: PLR2004
        for size in records:
            yield now, size
        now += min(rng.lognormvariate(-3.67, 0.753), 0.4)


def typing(rng: Random, seconds: float) -> Iterator[Chunk]:
    """Keystrokes of a person: 36-byte records, words of a few keys, pauses between commands.

    Parameters
    ----------
    rng : random.Random
        Source of all randomness.
    seconds : float
        The typing ends after this time.

    Yields
    ------
    tuple of (float, int)
        Offset in seconds and bytes; the last key of a command has 44 bytes.
    """
    now = 0.0
    while now < seconds:
        for _ in range(rng.randint(5, 22)):
            yield now, 36
            now += clipped(rng, 0.150, 0.5, 0.045, 0.9)
        yield now, 44
        now += rng.uniform(1.0, 5.0)


def ticks(rng: Random, seconds: float, *, period: float, spread: float) -> Iterator[Chunk]:
    """Small pushed updates: `spread` 0 is a clock, 1 a Poisson process.

    Parameters
    ----------
    rng : random.Random
        Source of all randomness.
    seconds : float
        The feed ends after this time.
    period : float
        Mean time between updates in seconds.
    spread : float
        Share of the gap that is exponential, from 0 to 1.

    Yields
    ------
    tuple of (float, int)
        Offset in seconds and bytes of one update.
    """
    now = 0.0
    while now < seconds:
        yield now, rng.randint(78, 210)
        now += period * (1 - spread) + rng.expovariate(1 / (period * spread)) if spread else period


def bulk(rng: Random, size: int, *, rtt: float = 0.020, mss: int = 1448) -> Iterator[Chunk]:
    """Bulk data in the rounds of TCP slow start: 10 segments, then twice as many per round trip.

    Parameters
    ----------
    rng : random.Random
        Source of all randomness.
    size : int
        Bytes in all.
    rtt : float
        Seconds between two rounds.
    mss : int
        Payload bytes of a full segment.

    Yields
    ------
    tuple of (float, int)
        Offset in seconds and bytes of one round.

    Examples
    --------
    >>> sum(part for _, part in bulk(Random(1), 100_000))
    100000
    """
    now, window = 0.0, 10
    while size > 0:
        part = min(size, window * mss)
        yield now, part
        size -= part
        window = min(window * 2, 64)
        now += rtt * rng.uniform(1.0, 1.3)
