"""Plain streams and datagrams by asyncio; ``servers/raw.py`` says how they name themselves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from llmflow.lab.clients.desk import Desk, Seen
from llmflow.lab.clients.turns import play_turns
from llmflow.lab.pace import pace
from llmflow.lab.script import Exchange
from llmflow.lab.servers.raw import NAME

_BLOCK = 1 << 16
_GRACE = 2.0  # seconds for the last datagram to arrive, and between two tries to begin
_TRIES = 4


class _Stream:
    """A stream of bytes; the first write has the connection's name in front."""

    def __init__(
        self, desk: Desk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: bytes
    ) -> None:
        ip, port = writer.get_extra_info("sockname")[:2]
        self.connection = desk.connected((ip, port))
        self._reader, self._writer, self._name = reader, writer, name

    async def send(self, data: bytes) -> None:
        self._writer.write(self._name + data)
        self._name = b""
        await self._writer.drain()

    async def take(self, seen: Seen) -> None:
        left = sum(len(item.data) for item in seen.exchange.down)
        while left:
            data = await self._reader.read(min(left, _BLOCK))
            if not data:
                raise EOFError("the server hung up")
            seen.took(data)
            left -= len(data)


@contextlib.asynccontextmanager
async def _connect(desk: Desk, exchanges: Sequence[Exchange], first: int) -> AsyncIterator[_Stream]:
    tls = desk.session.transport == "tls"
    reader, writer = await asyncio.open_connection(
        desk.endpoint.address,
        desk.port(),
        ssl=desk.tls() if tls else None,
        server_hostname=desk.endpoint.name if tls else None,
        local_addr=(desk.host, 0) if desk.host else None,
    )
    try:
        line = _Stream(desk, reader, writer, NAME.pack(desk.session.number, first))
        if not exchanges[first].body:
            await line.send(b"")
        yield line
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), _GRACE)


async def stream(desk: Desk, exchanges: Sequence[Exchange]) -> None:
    """Play a session over TLS or TCP."""
    await play_turns(desk, exchanges, _connect)


async def datagrams(desk: Desk, exchanges: Sequence[Exchange]) -> None:
    """Play a session over UDP: one exchange, over when all has come or nothing more will."""
    loop = asyncio.get_running_loop()
    exchange = exchanges[0]
    last = max((item.due for item in (*exchange.down, *exchange.up)), default=0.0)
    done = asyncio.Event()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Receiver(len(exchange.down), done),
        local_addr=(desk.source(), 0),
        remote_addr=(desk.endpoint.address, desk.port()),
    )
    ip, port = transport.get_extra_info("sockname")[:2]
    connection = desk.connected((ip, port), "udp")
    sent: list[float] = []

    async def write(data: bytes) -> None:
        transport.sendto(data)

    try:
        with desk.exchange(0, exchange, time.time(), connection) as seen:
            transport.get_protocol().seen = seen  # type: ignore[attr-defined]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(exchange.abort or last + _GRACE):
                    sending = asyncio.ensure_future(pace(exchange.up, seen.start, write, sent))
                    await _begin(transport, NAME.pack(desk.session.number, 0), seen)
                    await sending
                    await done.wait()
    finally:
        transport.close()
        connection.end = time.time()


async def _begin(transport: asyncio.DatagramTransport, name: bytes, seen: Seen) -> None:
    """Send the request until something comes back."""
    down = seen.exchange.down
    for _ in range(_TRIES):
        transport.sendto(name + seen.exchange.body)
        await asyncio.sleep(_GRACE + down[0].due if down else 0)
        if seen.events or not down:
            return


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, count: int, done: asyncio.Event) -> None:
        self._count, self._done = count, done
        self.seen: Seen | None = None
        if not count:
            done.set()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self.seen is None:
            return
        self.seen.took(data)
        if self.seen.events >= self._count:
            self._done.set()
