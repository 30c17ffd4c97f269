"""HTTP/1.1 and 2 by httpx, and what the official SDKs share with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from llmflow.lab.clients.desk import Connection, Desk, Seen
from llmflow.lab.clients.order import in_order
from llmflow.lab.pace import until
from llmflow.lab.script import Exchange

_REST = 600  # seconds a connection may rest: a session is one connection, if it can
Call = Callable[[Seen], Awaitable[None]]


async def httpx(desk: Desk, exchanges: Sequence[Exchange]) -> None:
    """Play a session."""
    import httpx as library

    web = Web(desk, library, library.Limits(keepalive_expiry=_REST))
    await web.play(exchanges, web.request)


class Web:
    """A client of httpx, or of its successor that SDKs use, which notes all that it does.

    Parameters
    ----------
    desk : Desk
    library : module
        ``httpx`` or ``httpx2``.
    limits : Limits
        Of the library: how connections are kept.
    """

    def __init__(self, desk: Desk, library: Any, limits: Any) -> None:
        self._desk, self._library = desk, library
        self._open: dict[str, tuple[Seen, asyncio.Timeout]] = {}
        http2 = desk.session.transport == "h2"
        context = desk.tls(*(["h2", "http/1.1"] if http2 else ["http/1.1"]))
        transport = library.AsyncHTTPTransport(
            verify=context, http1=not http2, http2=http2, limits=limits
        )
        self._pool = transport._pool
        self._pool._network_backend = _Backend(desk, self._pool._network_backend)
        hooks = {"request": [self._asked], "response": [self._answered]}
        self.client = library.AsyncClient(
            transport=transport, timeout=None, trust_env=False, event_hooks=hooks
        )

    async def play(self, exchanges: Sequence[Exchange], call: Call) -> None:
        """Play exchanges; ``call(seen)`` sends one request and reads the reply."""

        async def run(index: int, exchange: Exchange, due: float) -> None:
            with self._desk.exchange(index, exchange, due) as seen:
                try:
                    async with asyncio.timeout(None) as limit:
                        self._open[self._desk.name(index)] = seen, limit
                        await call(seen)
                except TimeoutError:
                    if exchange.abort is None:
                        raise
                    if self._desk.session.transport == "h2":
                        # The library only stops reading a stream; going away is closing.
                        await self._pool.aclose()

        try:
            await in_order(exchanges, run)
        finally:
            await self.client.aclose()

    async def request(self, seen: Seen) -> None:
        """Send a request as the script has it."""
        exchange, desk = seen.exchange, self._desk
        async with self.client.stream(
            exchange.method,
            desk.url(exchange.path),
            headers=[*exchange.headers, ("x-lab", desk.name(seen.index))],
            content=_upload(seen) if exchange.up else exchange.body or None,
        ) as response:
            async for _ in response.aiter_raw():
                pass
            response.raise_for_status()

    async def _asked(self, request: Any) -> None:
        seen, limit = self._open[request.headers["x-lab"]]
        abort = seen.exchange.abort

        async def trace(event: str, info: dict[str, Any]) -> None:
            if event == "connection.connect_tcp.complete":
                seen.connection = info["return_value"].connection
            elif event.endswith("send_request_headers.started"):
                seen.start = time.time()
                if abort is not None:
                    limit.reschedule(asyncio.get_running_loop().time() + abort)

        request.extensions["trace"] = trace

    async def _answered(self, response: Any) -> None:
        seen, _ = self._open[response.request.headers["x-lab"]]
        local = response.extensions["network_stream"].get_extra_info("client_addr")
        found = (c for c in reversed(self._desk.connections) if c.local == local)
        seen.connection = next(found, None)
        response.stream = self._counted(response.stream, seen)

    def _counted(self, inner: Any, seen: Seen) -> Any:
        """Note the pieces of a reply before anybody parses them."""

        class Counted(self._library.AsyncByteStream):  # type: ignore[misc, name-defined]
            async def __aiter__(self) -> AsyncIterator[bytes]:
                async for data in inner:
                    seen.took(data)
                    yield data

            async def aclose(self) -> None:
                await inner.aclose()

        return Counted()


async def _upload(seen: Seen) -> AsyncIterator[bytes]:
    if seen.exchange.body:
        yield seen.exchange.body
    for item in seen.exchange.up:
        due = seen.start + item.due
        await until(due)
        seen.late = max(seen.late, time.time() - due)
        yield item.data


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
        self._inner, self.connection = inner, connection
        self.read, self.write, self.get_extra_info = inner.read, inner.write, inner.get_extra_info

    async def start_tls(self, *given: Any, **more: Any) -> _Stream:
        return _Stream(await self._inner.start_tls(*given, **more), self.connection)

    async def aclose(self) -> None:
        self.connection.end = self.connection.end or time.time()
        await self._inner.aclose()
