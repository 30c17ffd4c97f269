"""A clock that jumps from event to event."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from llmflow.lab.net.impairment import SECOND


class Clock:
    """Calls functions at their times, without waiting.

    Calls of the same time run in the order in which they were asked for, which makes a run
    repeatable.

    Parameters
    ----------
    start : int
        Time to begin at, ns since 1970.

    Attributes
    ----------
    now : int
        Nanoseconds since 1970.
    """

    def __init__(self, start: int) -> None:
        self.start = self.now = start
        self._calls: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, when: int, call: Callable[[], None]) -> None:
        """Have ``call`` called at ``when``, ns; a time that has passed means now."""
        heappush(self._calls, (max(when, self.now), next(self._order), call))

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Have ``call`` called so many seconds from now."""
        self.at(self.now + round(seconds * SECOND), call)

    @property
    def elapsed(self) -> float:
        """Seconds since the start, exact to less than a nanosecond."""
        return (self.now - self.start) / SECOND

    @property
    def unix(self) -> float:
        """Seconds since 1970, as exact as these are."""
        return self.now / SECOND

    def run(self) -> None:
        """Go on until nobody waits for anything."""
        while self._calls:
            self.now, _, call = heappop(self._calls)
            call()
