"""HTTP/1.1 and 2 by httpx, and what the official SDKs share with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from llmflow.lab.clients.desk import Connection, Desk, Seen
from llmflow.lab.clients.order import in_order
from llmflow.lab.pace import until
from llmflow.lab.script import Exchange

_REST = 600  # seconds a connection may rest: a session is one connection, if it can


async def httpx(desk: Desk, exchanges: Sequence[Exchange]) -> None:
    """Play a session."""
    import httpx as library

    client = new_client(library, desk, library.Limits(keepalive_expiry=_REST))

    async def run(index: int, exchange: Exchange, due: float) -> None:
        with desk.exchange(index, exchange, due) as seen:
            try:
                async with asyncio.timeout(None) as limit:
                    await _request(client, desk, seen, limit)
            except TimeoutError:
                if exchange.abort is None:
                    raise
                if desk.session.transport == "h2":
                    # The library only stops reading a stream; going away is closing.
                    await client._transport._pool.aclose()

    try:
        await in_order(exchanges, run)
    finally:
        await client.aclose()


async def _request(client: Any, desk: Desk, seen: Seen, limit: asyncio.Timeout) -> None:
    exchange = seen.exchange

    async def trace(event: str, _: object) -> None:
        if event.endswith("send_request_headers.started"):  # the connection is there
            seen.start = time.time()
            if exchange.abort is not None:
                limit.reschedule(asyncio.get_running_loop().time() + exchange.abort)

    async with client.stream(
        exchange.method,
        desk.url(exchange.path),
        headers=[*exchange.headers, ("x-lab", desk.name(seen.index))],
        content=_upload(seen) if exchange.up else exchange.body or None,
        extensions={"trace": trace},
    ) as response:
        seen.connection = connection_of(desk, response)
        async for data in response.aiter_raw():
            seen.took(data)
        response.raise_for_status()


async def _upload(seen: Seen) -> AsyncIterator[bytes]:
    if seen.exchange.body:
        yield seen.exchange.body
    for item in seen.exchange.up:
        due = seen.start + item.due
        await until(due)
        seen.late = max(seen.late, time.time() - due)
        yield item.data


def new_client(library: Any, desk: Desk, limits: Any) -> Any:
    """Make a client of httpx (or of its successor, which SDKs use) that notes its connections."""
    http2 = desk.session.transport == "h2"
    context = desk.tls(*(["h2", "http/1.1"] if http2 else ["http/1.1"]))
    transport = library.AsyncHTTPTransport(
        verify=context, http1=not http2, http2=http2, limits=limits
    )
    pool = transport._pool
    pool._network_backend = _Backend(desk, pool._network_backend)
    return library.AsyncClient(transport=transport, timeout=None, trust_env=False)


def connection_of(desk: Desk, response: Any) -> Connection | None:
    """Find the connection that a response came over."""
    local = response.extensions["network_stream"].get_extra_info("client_addr")
    return next((c for c in reversed(desk.connections) if c.local == local), None)


class _Backend:
    """Connects to the lab's addresses, whatever the name, and notes that."""

    def __init__(self, desk: Desk, inner: Any) -> None:
        self._desk, self._inner = desk, inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> _Stream:
        desk = self._desk
        address = desk.endpoint.address
        inner = await self._inner.connect_tcp(address, port, timeout, desk.host, socket_options)
        ip, port = inner.get_extra_info("client_addr")[:2]
        return _Stream(inner, desk.connected((ip, port)))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Stream:
    """A stream of httpcore that notes when it is closed."""

    def __init__(self, inner: Any, connection: Connection) -> None:
        self._inner, self._connection = inner, connection
        self.read, self.write, self.get_extra_info = inner.read, inner.write, inner.get_extra_info

    async def start_tls(self, *given: Any, **more: Any) -> _Stream:
        return _Stream(await self._inner.start_tls(*given, **more), self._connection)

    async def aclose(self) -> None:
        self._connection.end = self._connection.end or time.time()
        await self._inner.aclose()
