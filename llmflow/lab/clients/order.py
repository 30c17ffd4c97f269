"""When the exchanges of a session begin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from llmflow.lab.pace import until
from llmflow.lab.script import Exchange

Run = Callable[[int, Exchange, float], Awaitable[None]]  # index, exchange, when it was due


async def in_order(exchanges: Sequence[Exchange], run: Run) -> None:
    """Run exchanges as scripts have it: one after the other, some beside these.

    What fails beside the others fails alone; the first other failure ends the session.
    """
    begun = ended = time.time()
    besides: list[asyncio.Task[None]] = []
    try:
        for index, exchange in enumerate(exchanges):
            if exchange.beside:
                continue
            begun = ended + exchange.think
            besides += _besides(exchanges, index, begun, run)
            await until(begun)
            await run(index, exchange, begun)
            ended = time.time()
        if besides:
            await asyncio.wait(besides)
    finally:
        for task in besides:
            task.cancel()
        await asyncio.gather(*besides, return_exceptions=True)


def _besides(
    exchanges: Sequence[Exchange], index: int, begun: float, run: Run
) -> list[asyncio.Task[None]]:
    """Start what goes on beside an exchange, or in front of the first."""

    async def later(at: int, exchange: Exchange) -> None:
        due = begun + exchange.think
        await until(due)
        await run(at, exchange, due)

    first = index + 1
    last = next((at for at in range(first, len(exchanges)) if not exchanges[at].beside), None)
    beside = list(range(first, len(exchanges) if last is None else last))
    if all(exchange.beside for exchange in exchanges[:index]):
        beside += range(index)
    return [asyncio.ensure_future(later(at, exchanges[at])) for at in beside]
