"""The web application behind every HTTP server: one exchange for each request.

A request names its exchange in the header ``x-lab: NUMBER-INDEX``. Behind a proxy,
``x-lab-peer: ADDRESS:PORT`` is the client that the proxy sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from llmflow.lab.pace import pace, until
from llmflow.lab.servers.book import Book, Played

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Where browsers start from: nothing to see, and no icon to ask for.
PAGE_PATH = "/lab"
_PAGE = b'<!doctype html><title>lab</title><link rel="icon" href="data:,">'


class App:
    """An ASGI application over a book of scripts."""

    def __init__(self, book: Book) -> None:
        self._book = book

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])  # how servers learn what is not there
        headers = dict(scope["headers"])
        if scope["path"] == PAGE_PATH:
            await _whole(send, 200, b"text/html", _PAGE)
            return
        try:
            number, index = map(int, headers[b"x-lab"].split(b"-"))
            played = self._book.play(number, index, _peer(scope, headers))
        except (KeyError, IndexError, ValueError):
            await _whole(send, 404, b"text/plain", b"x-lab names no exchange\n")
            return
        request = asyncio.create_task(_request(receive))
        try:
            if not played.exchange.up:
                await request
            played.start = time.time()
            gone = asyncio.create_task(_gone(request, receive))
            try:
                await _unless(gone, _reply(played, request, send))
            finally:
                gone.cancel()
        except ConnectionError:
            pass  # the client went away, as in life
        finally:
            request.cancel()


async def _reply(played: Played, request: asyncio.Task[None], send: Send) -> None:
    exchange = played.exchange
    down = exchange.down
    if exchange.head is not None:
        await until(played.start + exchange.head)
    elif down:
        await until(played.start + down[0].due)
    headers = [(b"content-type", exchange.content_type.encode("latin-1"))]
    if len(down) < 2:  # noqa: PLR2004 - of more than one write nobody knows the length beforehand
        headers.append((b"content-length", b"%d" % sum(len(write.data) for write in down)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    await pace(down, played.start, write, played.sent)
    await request  # no server may end its reply while the request goes on
    await send({"type": "http.response.body", "body": b""})


async def _request(receive: Receive) -> None:
    """Read the request to its end."""
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.disconnect":
        raise ConnectionResetError


async def _gone(request: asyncio.Task[None], receive: Receive) -> None:
    """Wait until the client goes away."""
    with contextlib.suppress(ConnectionError):
        await request
        while (await receive())["type"] != "http.disconnect":
            pass


async def _unless(gone: asyncio.Task[None], work: Awaitable[None]) -> None:
    """Do work, but stop when the client goes away."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not task.done():
            task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _whole(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _peer(scope: Message, headers: dict[bytes, bytes]) -> tuple[str, int]:
    told = headers.get(b"x-lab-peer")
    if told is None:
        ip, port = scope["client"]
        return ip, port
    ip, _, port = told.decode("ascii").rpartition(":")
    return ip, int(port)
