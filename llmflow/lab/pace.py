"""Writing at absolute deadlines: a write that is late does not shift what follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from llmflow.lab.script import Write

# Event loops wait for whole milliseconds: what is due sooner than half of one is due.
_DUE = 0.0005


async def until(
    deadline: float,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> float:
    """Wait for a moment of the clock (seconds), at once if it has passed; what the clock says."""
    while (left := deadline - (now := clock())) > _DUE:
        await sleep(left)
    return now


async def pace(
    writes: Sequence[Write],
    start: float,
    write: Callable[[bytes], Awaitable[object]],
    sent: list[float],
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Play writes.

    Parameters
    ----------
    writes : sequence of Write
    start : float
        Moment that ``due`` counts from, in seconds of ``clock``.
    write : callable
        Called with the data of each write, at its deadline.
    sent : list of float
        Grows by the moment before each write, so that it is right also if this is cancelled.
    clock, sleep : callable, optional
        Stand-ins for tests.
    """
    for item in writes:
        sent.append(await until(start + item.due, clock, sleep))
        await write(item.data)
