"""Sessions of transports that name themselves once: exchanges one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from llmflow.lab.clients.desk import Connection, Desk, Seen
from llmflow.lab.pace import pace, until
from llmflow.lab.script import Exchange


class Line(Protocol):
    """An open connection."""

    connection: Connection

    async def send(self, data: bytes) -> object:
        """Send one write."""

    async def take(self, seen: Seen) -> None:
        """Wait for all that the server has to say in an exchange."""


Connect = Callable[[Desk, Sequence[Exchange], int], AbstractAsyncContextManager[Line]]


async def play_turns(desk: Desk, exchanges: Sequence[Exchange], connect: Connect) -> None:
    """Play a session; after an exchange that the client leaves, on a new connection.

    Parameters
    ----------
    desk : Desk
    exchanges : sequence of Exchange
    connect : callable
        ``connect(desk, exchanges, first)`` opens a connection that begins with the first-th.
    """
    first, ended = 0, time.time()
    while first < len(exchanges):
        if first:
            await until(ended + exchanges[first].think)
        async with connect(desk, exchanges, first) as line:
            for index in range(first, len(exchanges)):
                exchange = exchanges[index]
                due = ended + exchange.think if index else time.time()
                await until(due)
                first = index + 1
                with desk.exchange(index, exchange, due, line.connection) as seen:
                    left = await _turn(line, seen)
                ended = time.time()
                if left:
                    break
        line.connection.end = time.time()


async def _turn(line: Line, seen: Seen) -> bool:
    """Play an exchange; whether the client left it."""
    exchange = seen.exchange
    sent: list[float] = []
    sending: asyncio.Future[None] | None = None
    try:
        async with asyncio.timeout(exchange.abort):
            if exchange.body:
                await line.send(exchange.body)
            if exchange.up:
                sending = asyncio.ensure_future(pace(exchange.up, seen.start, line.send, sent))
            await line.take(seen)
            if sending:
                await sending
    except TimeoutError:
        if exchange.abort is None:
            raise
        return True
    finally:
        if sending:
            sending.cancel()
        lates = (at - seen.start - item.due for at, item in zip(sent, exchange.up, strict=False))
        seen.late = max([seen.late, *lates])
    return False
