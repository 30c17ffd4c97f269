"""Exchanges of connections that name themselves once: messages, streams of bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from llmflow.lab.pace import pace
from llmflow.lab.servers.book import Played


async def play_turns(
    turns: Iterable[Played],
    take: Callable[[tuple[bytes, ...]], Awaitable[None]],
    write: Callable[[bytes], Awaitable[object]],
) -> None:
    """Play exchanges one after the other.

    An exchange without a body begins when the last one has ended and ``think`` has passed; the
    first one at once.

    Parameters
    ----------
    turns : iterable of Played
    take : callable
        Waits until the client has sent what it has to: the body, then what is ``up``.
    write : callable
        Sends one write.
    """
    ended = time.time()
    for turn, played in enumerate(turns):
        exchange = played.exchange
        if exchange.body:
            await take((exchange.body,))
            played.start = time.time()
        else:
            played.start = ended + exchange.think * (turn > 0)
        taking = asyncio.ensure_future(take(tuple(item.data for item in exchange.up)))
        try:
            await pace(exchange.down, played.start, write, played.sent)
            await taking
        finally:
            taking.cancel()
        ended = time.time()
