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

    async def later(at: int, due: float) -> None:
        await until(due)
        await run(at, exchanges[at], due)

    try:
        for main, beside in _groups(exchanges):
            if main is not None:
                begun = ended + exchanges[main].think
            besides += [
                asyncio.ensure_future(later(at, begun + exchanges[at].think)) for at in beside
            ]
            if main is not None:
                await later(main, begun)
            ended = time.time()
        if besides:
            await asyncio.wait(besides)
    finally:
        for task in besides:
            task.cancel()
        await asyncio.gather(*besides, return_exceptions=True)


def _groups(exchanges: Sequence[Exchange]) -> list[tuple[int | None, list[int]]]:
    """Put exchanges with what is beside them; what is beside nothing goes with the first."""
    groups: list[tuple[int | None, list[int]]] = [(None, [])]
    for index, exchange in enumerate(exchanges):
        if exchange.beside:
            groups[-1][1].append(index)
        elif groups[0][0] is None:
            groups[0] = index, groups[0][1]
        else:
            groups.append((index, []))
    return groups
