"""Plain streams and datagrams by asyncio: TLS, TCP, UDP.

The first eight bytes of a connection name it: session number and first exchange, big-endian. They
come before what the script says. Afterwards exchanges are told apart by counting bytes; datagrams
need no counting, as UDP has one exchange.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

from llmflow.lab.pace import pace
from llmflow.lab.servers.book import Book, Played
from llmflow.lab.servers.config import ServerConfig
from llmflow.lab.servers.tls import server_context
from llmflow.lab.servers.turns import play_turns

NAME = struct.Struct(">II")  # session number, index of the first exchange
_BLOCK = 1 << 16


@contextlib.asynccontextmanager
async def raw(config: ServerConfig, book: Book) -> AsyncIterator[None]:
    """Listen on all three."""
    loop = asyncio.get_running_loop()
    where = config.addresses

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, LookupError):
            await _talk(book, reader, writer)
        writer.close()

    async with contextlib.AsyncExitStack() as stack:
        for port, context in (
            (config.port, server_context(config, alpn=())),
            (config.tcp_port, None),
        ):
            server = await asyncio.start_server(talk, where, port, ssl=context, backlog=2048)
            stack.callback(server.close)
        for address in where:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(book), (address, config.udp_port)
            )
            stack.callback(transport.close)
        yield


async def _talk(book: Book, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    number, first = NAME.unpack(await reader.readexactly(NAME.size))
    peer = writer.get_extra_info("peername")[:2]

    async def take(writes: tuple[bytes, ...]) -> None:
        left = sum(map(len, writes))
        while left:
            data = await reader.read(min(left, _BLOCK))
            if not data:
                raise EOFError
            left -= len(data)

    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    await play_turns(book.turns(number, first, peer), take, write)
    # Who hangs up first holds the port for a while; as in life, that is mostly the client.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(reader.read(), 2)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, book: Book) -> None:
        self._book = book
        self._tasks: dict[Any, asyncio.Task[None]] = {}

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if addr in self._tasks or len(data) < NAME.size:
            return
        number, first = NAME.unpack_from(data)
        with contextlib.suppress(LookupError):
            played = self._book.play(number, first, addr[:2])
            task = asyncio.ensure_future(self._play(played, addr))
            self._tasks[addr] = task

    async def _play(self, played: Played, addr: tuple[str, int]) -> None:
        async def write(data: bytes) -> None:
            self._transport.sendto(data, addr)

        played.start = time.time()
        await pace(played.exchange.down, played.start, write, played.sent)
        # Late datagrams of the same client are no new session.
        await asyncio.sleep(10)
        self._tasks.pop(addr, None)
