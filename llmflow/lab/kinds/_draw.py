"""Draws shared by the look-alikes: when something is written, how large it is, and its bytes.

Ranges are drawn from log-uniformly, once per session: sessions of one kind differ as much as kinds
do, so that no single rate, rhythm or size tells a look-alike from a model's stream.
"""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from llmflow.lab.script import Write

Range = tuple[float, float]

# TLS hides what it says; text without control characters also does for headers and in clear.
_POOL = base64.urlsafe_b64encode(Random(20_251_125).randbytes(150_000))
LARGEST_WRITE = 64_000  # bytes
_HEAD = 9  # bytes of a header that leaves before its message


def spread(rng: Random, bounds: Range) -> float:
    """Log-uniform between two bounds above 0."""
    low, high = bounds
    return low * math.pow(high / low, rng.random())


def payload(rng: Random, size: int) -> bytes:
    """Bytes to send, at most twice ``LARGEST_WRITE``."""
    start = rng.randrange(len(_POOL) - size)
    return _POOL[start : start + size]


class Budget:
    """Bytes that a session may still write."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, size: int) -> bool:
        self.left -= size
        return self.left >= 0


# Clocks: gaps in seconds, for ever, from the usual gap.


def _clock(rng: Random, gap: float) -> Iterator[float]:
    jitter = rng.uniform(0, 0.1)
    while True:
        yield gap * (1 + rng.uniform(-jitter, jitter))


def _ticks(rng: Random, gap: float) -> Iterator[float]:
    """A clock at whose ticks there is not always news."""
    news = rng.uniform(0.4, 0.95)
    while True:
        yield gap * next(n for n in itertools.count(1) if rng.random() < news)


def _poisson(rng: Random, gap: float) -> Iterator[float]:
    while True:
        yield rng.expovariate(1 / gap)


def _lognormal(rng: Random, gap: float) -> Iterator[float]:
    sigma = rng.uniform(0.2, 1.3)
    while True:
        yield gap * math.exp(rng.gauss(0, sigma))


def _drift(rng: Random, gap: float) -> Iterator[float]:
    """Slower and faster stretches: neighbouring gaps resemble each other."""
    memory, sigma, level = rng.uniform(0.6, 0.95), rng.uniform(0.1, 0.25), 0.0
    while True:
        level = memory * level + rng.gauss(0, sigma)
        yield gap * math.exp(level)


def _bursts(rng: Random, gap: float) -> Iterator[float]:
    """Several at once, then a pause; the mean gap stays."""
    length, quick = spread(rng, (1.5, 12)), min(gap / 2, spread(rng, (0.001, 0.03)))
    while True:
        burst = 1 + int(rng.expovariate(1 / length))
        yield from (quick * rng.uniform(0.5, 1.5) for _ in range(burst))
        yield gap * burst * rng.uniform(0.5, 1.5)


def _on_off(rng: Random, gap: float) -> Iterator[float]:
    """Talks for a while, then is silent for a while."""
    steady = CLOCKS[rng.choice(("clock", "poisson", "lognormal"))](rng, gap)
    on, off = spread(rng, (1, 15)), spread(rng, (0.7, 10))
    while True:
        until = on * rng.uniform(0.3, 2)
        while until > 0:
            until -= (step := next(steady))
            yield step
        yield off * rng.uniform(0.3, 2)


CLOCKS: dict[str, Callable[[Random, float], Iterator[float]]] = {
    "clock": _clock,
    "ticks": _ticks,
    "poisson": _poisson,
    "lognormal": _lognormal,
    "drift": _drift,
    "bursts": _bursts,
    "on-off": _on_off,
}

# Sizes in bytes, from the position in the reply.

Sizes = Callable[[int], float]


def _fixed(rng: Random, size: float) -> Sizes:
    odd = rng.choice((0.0, 0.0, rng.uniform(0, 0.4)))
    return lambda _: size * rng.uniform(1, 2) if rng.random() < odd else size


def _varied(rng: Random, size: float) -> Sizes:
    sigma = rng.uniform(0.05, 1)
    return lambda _: size * math.exp(rng.gauss(0, sigma))


def _quantised(rng: Random, size: float) -> Sizes:
    step, sigma = rng.choice((4, 8, 16, 32)), rng.uniform(0.05, 0.6)
    return lambda _: step * math.ceil(size * math.exp(rng.gauss(0, sigma)) / step)


def _few(rng: Random, size: float) -> Sizes:
    """Records of a few fixed formats."""
    formats = [size * rng.uniform(0.5, 2) for _ in range(rng.randint(2, 6))]
    return lambda _: rng.choice(formats)


def _mixed(rng: Random, size: float) -> Sizes:
    """Mostly small, now and then a large one."""
    large, share = size * spread(rng, (3, 20)), rng.uniform(0.02, 0.3)
    return lambda _: (large if rng.random() < share else size) * rng.uniform(0.7, 1.4)


def _growing(rng: Random, size: float) -> Sizes:
    """Each tells all that was told so far, and more."""
    step, noise = size * spread(rng, (0.01, 0.15)), rng.uniform(0, 0.15)
    return lambda at: (size / 2 + step * at) * (1 + rng.uniform(-noise, noise))


SIZES: dict[str, Callable[[Random, float], Sizes]] = {
    "fixed": _fixed,
    "varied": _varied,
    "quantised": _quantised,
    "few": _few,
    "mixed": _mixed,
    "growing": _growing,
}
STABLE = ("fixed", "varied", "quantised", "few", "mixed")


@dataclass(frozen=True, slots=True)
class Flow:
    """Writes in one direction, as ranges of which every session draws its own values.

    Parameters
    ----------
    rate : tuple of float
        Writes per second, while there are any.
    size : tuple of float
        Usual bytes of a write.
    clocks, sizes : tuple of str
        Names in ``CLOCKS`` and ``SIZES`` of which a session has one.
    chance : float
        Share of the sessions that have this flow at all.
    most : int
        Largest write in bytes.
    split : int
        Writes above that many bytes leave in pieces: datagrams.
    echo : tuple of float or None
        Of a flow up: bytes with which the server answers each write.
    even : bool
        A machine's clock: no stalls, no outsize writes, none in two pieces.
    """

    rate: Range
    size: Range
    clocks: tuple[str, ...] = tuple(CLOCKS)
    sizes: tuple[str, ...] = STABLE
    chance: float = 1.0
    most: int = 16_000
    split: int = LARGEST_WRITE
    echo: Range | None = None
    even: bool = False


class Source:
    """A flow with the values of one session; its rhythm goes on from one reply to the next."""

    def __init__(self, flow: Flow, rng: Random) -> None:
        self.flow, self._rng = flow, rng
        self._usual = 1 / spread(rng, flow.rate)
        self._gaps = CLOCKS[rng.choice(flow.clocks)](rng, self._usual)
        self._size = SIZES[rng.choice(flow.sizes)](rng, spread(rng, flow.size))
        self._delay = spread(rng, (0.002, 0.08))
        # Nothing real is as tidy as its clock: half of the sessions each have one of these.
        self._stalls = self._sometimes((0.003, 0.06))
        self._outsize = self._sometimes((0.005, 0.1))
        self._pieces = self._sometimes((0.05, 1))
        self._gathers = self._sometimes((0.1, 1))  # how much grows with the time since the last

    def _sometimes(self, share: Range) -> float:
        tidy = self.flow.even or self._rng.choice((True, False))
        return 0.0 if tidy else spread(self._rng, share)

    def _happens(self, share: float) -> bool:
        return self._rng.random() < share

    def gap(self) -> float:
        stall = self._rng.uniform(3, 15) if self._happens(self._stalls) else 1
        return next(self._gaps) * stall

    def _sizes(self, at: int, gap: float) -> list[int]:
        """Bytes of the write at a position, or of the pieces in which it leaves."""
        more = spread(self._rng, (2, 15)) if self._happens(self._outsize) else 1.0
        more *= 1 + self._gathers * (gap / self._usual - 1)
        size = max(1, min(self.flow.most, round(self._size(at) * more)))
        if self._happens(self._pieces) and size > _HEAD:
            head = self._rng.choice((_HEAD, self._rng.randrange(1, size)))  # or a header alone
            return [head, size - head]
        step = self.flow.split
        return [min(step, size - start) for start in range(0, size, step)]

    def writes(
        self, start: float, end: float, budget: Budget, count: float = math.inf
    ) -> list[Write]:
        """Write from ``start`` to ``end``, at most ``count`` times and within the budget."""
        out: list[Write] = []
        due, gap = start, self._usual
        for at in itertools.count():
            sizes = self._sizes(at, gap)
            if due > end or at >= count or not budget.take(sum(sizes)):
                break
            out += [Write(due, payload(self._rng, size)) for size in sizes]
            gap = self.gap()
            due += gap
        return out

    def echoes(self, writes: list[Write], budget: Budget) -> list[Write]:
        """Answer what this flow wrote up."""
        if self.flow.echo is None:
            return []
        sizes = [round(spread(self._rng, self.flow.echo)) for _ in writes]
        return [
            Write(write.due + self._delay * self._rng.uniform(0.7, 2), payload(self._rng, size))
            for write, size in zip(writes, sizes, strict=True)
            if budget.take(size)
        ]
