"""HTTP/3 by aioquic."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset

from llmflow.lab.clients.desk import Connection, Desk, Seen
from llmflow.lab.clients.order import in_order
from llmflow.lab.pace import pace
from llmflow.lab.script import Exchange

_PING = 15  # seconds, while a reply is under way: as browsers do, or the server gives up
_HANDSHAKE = 15


class _Client(QuicConnectionProtocol):
    """One connection; each request waits for its reply."""

    connection: Connection

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self._http = H3Connection(quic)
        self._waiting: dict[int, tuple[Seen, asyncio.Future[None]]] = {}
        self._pings: asyncio.Task[None] | None = None
        self.over = False

    def open(
        self, headers: list[tuple[bytes, bytes]], seen: Seen
    ) -> tuple[int, asyncio.Future[None]]:
        """Begin a request; the future is done when the reply is."""
        stream = self._quic.get_next_available_stream_id()
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting[stream] = seen, done
        self._http.send_headers(stream, headers)
        if self._pings is None:
            self._pings = asyncio.ensure_future(self._keep())
        return stream, done

    def send(self, stream: int, data: bytes, end: bool) -> None:
        """Send a piece of a request."""
        self._http.send_data(stream, data, end)
        self.transmit()

    def leave(self, stream: int) -> None:
        """Take no more of a reply."""
        self._waiting.pop(stream, None)
        if not self.over:
            self._quic.reset_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
            self._quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
            self.transmit()

    def quic_event_received(self, event: QuicEvent) -> None:
        """Hand pieces of replies to who waits for them."""
        if isinstance(event, StreamReset):
            self._end(event.stream_id, "the server reset the stream")
        elif isinstance(event, ConnectionTerminated):
            self.over = True
            self.connection.end = self.connection.end or time.time()
            for stream in list(self._waiting):
                self._end(stream, f"the connection ended: {event.reason_phrase or 'idle'}")
            if self._pings is not None:
                self._pings.cancel()
            if self._transport is not None:
                self._transport.close()
        for heard in self._http.handle_event(event):
            self._heard(heard)

    def _heard(self, event: H3Event) -> None:
        stream = getattr(event, "stream_id", -1)
        if stream not in self._waiting:
            return
        if isinstance(event, HeadersReceived):
            status = dict(event.headers).get(b":status", b"")
            if status != b"200":
                self._end(stream, f"status {status.decode('latin-1')}")
                return
        elif isinstance(event, DataReceived) and event.data:
            self._waiting[stream][0].took(event.data)
        if getattr(event, "stream_ended", False):
            self._end(stream, None)

    def _end(self, stream: int, error: str | None) -> None:
        _, done = self._waiting.pop(stream, (None, None))
        if done is None or done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(ConnectionError(error))

    async def _keep(self) -> None:
        while not self.over:
            await asyncio.sleep(_PING)
            if self._waiting:
                await self.ping()


class _Player:
    """A session's connection, opened anew where it has ended."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._client: _Client | None = None
        self._opening = asyncio.Lock()

    async def client(self) -> _Client:
        async with self._opening:
            if self._client is None or self._client.over:
                self._client = await self._connect()
            return self._client

    async def _connect(self) -> _Client:
        desk = self._desk
        settings = QuicConfiguration(
            alpn_protocols=H3_ALPN,
            server_name=desk.endpoint.name,
            secrets_log_file=_secrets(desk.config.keys),
        )
        settings.load_verify_locations(desk.config.ca)
        transport, client = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Client(QuicConnection(configuration=settings)), local_addr=(desk.source(), 0)
        )
        ip, port = transport.get_extra_info("sockname")[:2]
        client.connection = desk.connected((ip, port), "udp")
        client.connect((desk.endpoint.address, desk.port()))
        async with asyncio.timeout(_HANDSHAKE):
            await client.wait_connected()
        return client

    async def run(self, index: int, exchange: Exchange, due: float) -> None:
        desk = self._desk
        with desk.exchange(index, exchange, due) as seen:
            client = await self.client()
            seen.connection, seen.start = client.connection, time.time()
            headers = [
                (b":method", exchange.method.encode()),
                (b":scheme", b"https"),
                (b":authority", f"{desk.endpoint.name}:{desk.port()}".encode()),
                (b":path", exchange.path.encode()),
                *((name.lower().encode(), value.encode()) for name, value in exchange.headers),
                (b"x-lab", desk.name(index).encode()),
            ]
            stream, done = client.open(headers, seen)
            sending = asyncio.ensure_future(_upload(client, stream, seen))
            try:
                async with asyncio.timeout(exchange.abort):
                    await done
                    await sending
            except TimeoutError:
                if exchange.abort is None:
                    raise
            finally:
                sending.cancel()
                if not done.done():
                    done.cancel()
                    client.leave(stream)

    async def close(self) -> None:
        if self._client is not None and not self._client.over:
            self._client.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._client.wait_closed(), 2)
        for connection in self._desk.connections:
            connection.end = connection.end or time.time()


async def _upload(client: _Client, stream: int, seen: Seen) -> None:
    exchange, sent = seen.exchange, list[float]()

    async def write(data: bytes) -> None:
        client.send(stream, data, len(sent) == len(exchange.up))

    client.send(stream, exchange.body, not exchange.up)
    await pace(exchange.up, seen.start, write, sent)
    lates = (at - seen.start - item.due for at, item in zip(sent, exchange.up, strict=True))
    seen.late = max([seen.late, *lates])


@lru_cache(maxsize=1)
def _secrets(path: str) -> TextIO:
    return Path(path).open("a", buffering=1)  # of the whole process


async def aioquic(desk: Desk, exchanges: Sequence[Exchange]) -> None:
    """Play a session."""
    player = _Player(desk)
    try:
        await in_order(exchanges, player.run)
    finally:
        await player.close()
