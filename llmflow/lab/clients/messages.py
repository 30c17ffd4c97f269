"""WebSocket by websockets and gRPC by grpcio; see ``servers/messages.py``.

grpcio neither binds to an address nor gives away the secrets of its TLS.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from websockets.asyncio.client import connect

from llmflow.lab.clients.desk import Desk, Seen
from llmflow.lab.clients.turns import play_turns
from llmflow.lab.script import Exchange


class _Socket:
    def __init__(self, desk: Desk, inner: Any) -> None:
        ip, port = inner.local_address[:2]
        self.connection = desk.connected((ip, port))
        self.send = inner.send
        self._receive = inner.recv

    async def take(self, seen: Seen) -> None:
        for _ in seen.exchange.down:
            seen.took(await self._receive())


@contextlib.asynccontextmanager
async def _socket(desk: Desk, exchanges: Sequence[Exchange], first: int) -> AsyncIterator[_Socket]:
    headers = [*exchanges[0].headers, ("x-lab", desk.name(first))]
    async with connect(
        desk.url(exchanges[0].path).replace("https", "wss", 1),
        ssl=desk.tls("http/1.1"),
        host=desk.endpoint.address,
        port=desk.port(),
        local_addr=(desk.host, 0) if desk.host else None,
        additional_headers=headers,
        max_size=None,
        proxy=None,
        close_timeout=2,
    ) as inner:
        yield _Socket(desk, inner)


async def websockets(desk: Desk, exchanges: Sequence[Exchange]) -> None:
    """Play a session over WebSocket."""
    await play_turns(desk, exchanges, _socket)


class _Call:
    def __init__(self, desk: Desk, call: Any, peer: str) -> None:
        ip, _, port = peer.rpartition(":")
        self.connection = desk.connected((ip, int(port)))
        self.send = call.write
        self._call = call

    async def take(self, seen: Seen) -> None:
        for _ in seen.exchange.down:
            data = await self._call.read()
            if data is grpc.aio.EOF:
                raise EOFError("the server ended the call")
            seen.took(data)


@contextlib.asynccontextmanager
async def _call(desk: Desk, exchanges: Sequence[Exchange], first: int) -> AsyncIterator[_Call]:
    credentials = grpc.ssl_channel_credentials(Path(desk.config.ca).read_bytes())
    options = [
        ("grpc.ssl_target_name_override", desk.endpoint.name),
        ("grpc.default_authority", desk.endpoint.name),
        ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for each session
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", -1),
    ]
    target = f"{desk.endpoint.address}:{desk.port()}"
    metadata = [(name.lower(), value) for name, value in exchanges[0].headers]
    async with grpc.aio.secure_channel(target, credentials, options) as channel:
        call = channel.stream_stream(exchanges[0].path)(
            metadata=(*metadata, ("x-lab", desk.name(first)))
        )
        peer = dict(await call.initial_metadata())["x-lab-peer"]
        try:
            yield _Call(desk, call, peer)
            await call.done_writing()
        finally:
            call.cancel()


async def grpcio(desk: Desk, exchanges: Sequence[Exchange]) -> None:
    """Play a session over gRPC."""
    await play_turns(desk, exchanges, _call)
