"""Sessions made of rounds: a request, a wait, a reply and a pause, all of them drawn from ranges.

A push that never ends is a session of one long round, a poll one of many short ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from llmflow.lab.kinds._draw import LARGEST_WRITE, Budget, Flow, Range, Source, payload, spread
from llmflow.lab.script import Exchange, Write

SESSION_BYTES = 2_500_000
HTTP = ("h2", "h1", "h3")
BROWSER = ("chromium",)
_LONGEST_HEADER = 3_000  # bytes; servers refuse heads above 8 kB
_SHORTEST = 0.4  # seconds for which another round is worth it


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One request and its reply, as ranges of which every session draws its own values.

    Parameters
    ----------
    reply : Flow
        What the server writes.
    lasts : tuple of float
        Seconds from the first write of the reply to the last.
    count : tuple of float or None
        Writes of a reply, where their number ends it.
    request : tuple of float
        Bytes of the request; of a GET, those of a header (as of cookies).
    wait, think : tuple of float
        Seconds from the request to the reply, and from the reply to the next request.
    opening, closing : tuple of float or None
        Bytes of a first write (a snapshot) and of a last one (a summary).
    also, up : tuple of Flow
        What the server writes beside (keep-alives), and what the client writes meanwhile.
    sides : tuple of Side
        Requests meanwhile; over h1, h2 and h3 only.
    head : bool
        The reply's head is sent at once, its first byte after the wait.
    leave : float
        Share of the replies that the client leaves before their end.
    often : float
        Weight among the rounds of a kind.
    """

    reply: Flow
    lasts: Range = (3, 600)
    count: Range | None = None
    request: Range = (50, 2_000)
    wait: Range = (0.01, 2)
    think: Range = (0.5, 20)
    opening: Range | None = None
    closing: Range | None = None
    also: tuple[Flow, ...] = ()
    up: tuple[Flow, ...] = ()
    sides: tuple[Side, ...] = ()
    method: str = "POST"
    path: str = "/"
    content_type: str = "text/event-stream"
    head: bool = False
    leave: float = 0.0
    often: float = 1.0


@dataclass(frozen=True, slots=True)
class Side:
    """Requests beside a reply: telemetry, assets of a page.

    Parameters
    ----------
    round : Round
        Each of them.
    every : tuple of float
        Seconds from one to the next.
    most : tuple of float
        How many there are at most beside one reply.
    chance : float
        Share of the sessions that have them at all.
    """

    round: Round
    every: Range
    most: Range = (5, 60)
    chance: float = 1.0


# What many clients send meanwhile: receipts and cursors on the connection itself, telemetry as
# requests of their own.
RECEIPTS = Flow((0.2, 15), (8, 2_500), chance=0.5)
TELEMETRY = Side(
    Round(
        reply=Flow((20, 60), (2, 400)),
        count=(1, 1),
        request=(200, 60_000),
        wait=(0.002, 0.2),
        path="/telemetry",
        content_type="application/json",
    ),
    every=(0.2, 6),
    chance=0.6,
)


class _Settled:
    """A round with the values of one session."""

    def __init__(self, rng: Random, shape: Round) -> None:
        self._rng, self.shape = rng, shape
        self._reply = Source(shape.reply, rng)
        self._also = [Source(flow, rng) for flow in shape.also if rng.random() < flow.chance]
        self._up = [Source(flow, rng) for flow in shape.up if rng.random() < flow.chance]
        self._sides = [
            (_Settled(rng, side.round), spread(rng, side.every), spread(rng, side.most))
            for side in shape.sides
            if rng.random() < side.chance
        ]
        self.lasts = self._near(shape.lasts)
        self.count = self._near(shape.count or (math.inf, math.inf))
        self.request = self._near(shape.request)
        self.wait = self._near(shape.wait)
        self.think = self._near(shape.think)

    def _near(self, bounds: Range) -> Callable[[], float]:
        """Draw what is usual in this session; its rounds vary around it, within the bounds."""
        low, high = bounds
        usual = low if low == high else spread(self._rng, bounds)
        return lambda: min(high, max(low, usual * math.exp(self._rng.gauss(0, 0.4))))

    def _single(self, bounds: Range | None, due: float, budget: Budget) -> list[Write]:
        if bounds is None:
            return []
        size = min(LARGEST_WRITE, round(spread(self._rng, bounds)))
        budget.take(size)
        return [Write(due, payload(self._rng, size))]

    def _down(self, wait: float, end: float, budget: Budget) -> list[Write]:
        main = self._reply.writes(wait, end, budget, max(1, self.count()))
        last = main[-1].due if main else wait
        also = [write for source in self._also for write in source.writes(wait, last, budget)]
        return [
            *self._single(self.shape.opening, wait, budget),
            *sorted(main + also, key=lambda write: write.due),
            *self._single(self.shape.closing, last, budget),
        ]

    def exchanges(self, think: float, left: float, budget: Budget) -> list[Exchange]:
        """One exchange of at most ``left`` seconds, and those beside it."""
        rng, shape = self._rng, self.shape
        request = payload(rng, round(self.request()))
        budget.take(len(request))
        wait = min(self.wait(), left / 3)
        down = self._down(wait, min(left, wait + self.lasts()), budget)
        end = down[-1].due
        up: list[Write] = []
        for source in self._up:
            pieces = source.writes(source.gap() * rng.random(), end, budget)
            up += pieces
            down += [echo for echo in source.echoes(pieces, budget) if echo.due <= left]
        down.sort(key=lambda write: write.due)
        up.sort(key=lambda write: write.due)
        get = shape.method == "GET"
        main = Exchange(
            tuple(down),
            body=b"" if get else request,
            up=tuple(up),
            think=think,
            method=shape.method,
            path=shape.path,
            headers=(("x-state", request[:_LONGEST_HEADER].decode()),) if get else (),
            content_type=shape.content_type,
            head=wait * rng.random() if shape.head else None,
            abort=end * rng.uniform(0.3, 1) if rng.random() < shape.leave and end > 1 else None,
        )
        return [main, *self._beside(main.abort or end, budget)]

    def _beside(self, end: float, budget: Budget) -> list[Exchange]:
        out: list[Exchange] = []
        for side, every, most in self._sides:
            at = every * self._rng.random()
            for _ in range(round(most)):
                if at >= end or budget.left < LARGEST_WRITE:
                    break
                made = side.exchanges(at, end - at, budget)
                out += [replace(exchange, beside=True) for exchange in made]
                at += every * self._rng.uniform(0.3, 1.7)
        return sorted(out, key=lambda exchange: exchange.think)


def duration(exchange: Exchange) -> float:
    """Seconds from the request to the last write, or until the client leaves."""
    last = max(exchange.down[-1].due, exchange.up[-1].due if exchange.up else 0)
    return last if exchange.abort is None else min(last, exchange.abort)


class Rounds:
    """Build sessions whose rounds are drawn from one shape or several.

    Parameters
    ----------
    *shapes : Round
        What a round may be; each session draws its values of each once.
    rounds : tuple of float
        How many there are at most.
    up, side : Flow, Side, optional
        Added to every shape.
    """

    def __init__(
        self,
        *shapes: Round,
        rounds: Range = (1, 400),
        up: Flow | None = None,
        side: Side | None = None,
    ) -> None:
        self._rounds = rounds
        self._shapes = [
            replace(
                shape,
                up=(*shape.up, up) if up else shape.up,
                sides=(*shape.sides, side) if side else shape.sides,
            )
            for shape in shapes
        ]

    def __call__(self, rng: Random, seconds: float) -> tuple[Exchange, ...]:
        settled = [_Settled(rng, shape) for shape in self._shapes]
        weights = [shape.often for shape in self._shapes]
        budget, out = Budget(SESSION_BYTES), list[Exchange]()
        left, think = seconds, rng.choice((0.0, 0.0, spread(rng, (0.05, 1))))
        for _ in range(round(spread(rng, self._rounds))):
            think = min(think, left / 2)
            if out and (left - think < _SHORTEST or budget.left < 2 * LARGEST_WRITE):
                break
            chosen = rng.choices(settled, weights)[0]
            out += (made := chosen.exchanges(think, left - think, budget))
            left -= think + duration(made[0])
            think = chosen.think()
        return tuple(out)
