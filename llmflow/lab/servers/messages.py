"""Servers of messages: WebSocket by websockets, gRPC by grpcio, both over TLS.

A connection names itself as ``NUMBER-INDEX`` in ``x-lab``, a header of the handshake or an entry of
the metadata; from that exchange on, messages are counted. What the client needs to know of its own
address, gRPC tells it in ``x-lab-peer``, as grpcio keeps its sockets to itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from llmflow.lab.servers.book import Book
from llmflow.lab.servers.config import ServerConfig
from llmflow.lab.servers.tls import server_context
from llmflow.lab.servers.turns import play_turns


@contextlib.asynccontextmanager
async def websockets(config: ServerConfig, book: Book) -> AsyncIterator[None]:
    """WebSocket over TLS, without compression."""
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosed

    async def talk(connection: ServerConnection) -> None:
        async def take(writes: tuple[bytes, ...]) -> None:
            for _ in writes:
                await connection.recv()

        request = connection.request
        with contextlib.suppress(ConnectionClosed, LookupError, ValueError):
            number, first = _name(request.headers.get("x-lab", "") if request else "")
            peer = connection.remote_address[:2]
            await play_turns(book.turns(number, first, peer), take, connection.send)
            await connection.wait_closed()

    hosts: Any = config.addresses  # as for the event loop's own servers
    async with serve(
        talk,
        hosts,
        config.port,
        ssl=server_context(config),
        compression=None,
        max_size=None,
        backlog=2048,
        close_timeout=1,
    ):
        yield


@contextlib.asynccontextmanager
async def grpcio(config: ServerConfig, book: Book) -> AsyncIterator[None]:
    """GRPC over TLS with messages of plain bytes; every method is a stream both ways."""
    import grpc

    async def talk(requests: AsyncIterator[bytes], context: Any) -> None:
        async def take(writes: tuple[bytes, ...]) -> None:
            for _ in writes:
                await anext(requests)

        metadata = dict(context.invocation_metadata())
        _, ip, port = context.peer().split(":")
        await context.send_initial_metadata((("x-lab-peer", f"{ip}:{port}"),))
        with contextlib.suppress(StopAsyncIteration, LookupError, ValueError):
            number, first = _name(metadata.get("x-lab", ""))
            await play_turns(book.turns(number, first, (ip, int(port))), take, context.write)

    handler = grpc.stream_stream_rpc_method_handler(talk)

    class AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, call: Any) -> Any:
            return handler

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((AnyMethod(),))
    key, chain = Path(config.key).read_bytes(), Path(config.certificate).read_bytes()
    credentials = grpc.ssl_server_credentials([(key, chain)])
    for address in config.addresses:
        server.add_secure_port(f"{address}:{config.port}", credentials)
    await server.start()
    try:
        yield
    finally:
        await server.stop(0.5)


def _name(text: str) -> tuple[int, int]:
    number, first = text.split("-")
    return int(number), int(first)
