"""Sessions of one kind, each at its time, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import signal
from collections.abc import Awaitable, Callable, Sequence

from llmflow.lab.clients.config import ClientConfig
from llmflow.lab.clients.desk import Desk, said
from llmflow.lab.kinds import REMEMBERED, script
from llmflow.lab.pace import until
from llmflow.lab.script import Exchange, Session

Client = Callable[[Desk, Sequence[Exchange]], Awaitable[None]]

# Of each client software: module, function, and what is loaded before processes part.
CLIENTS = {
    "httpx": ("http", "httpx", "httpx"),
    "openai": ("sdks", "openai", "openai.resources"),
    "anthropic": ("sdks", "anthropic", "anthropic.resources"),
    "google-genai": ("sdks", "google_genai", "google.genai"),
    "aioquic": ("h3", "aioquic", "aioquic"),
    "websockets": ("messages", "websockets", "websockets.asyncio.client"),
    "grpcio": ("messages", "grpcio", "grpc.aio"),
    "asyncio": ("raw", "stream", "asyncio"),
    "chromium": ("chromium", "chromium", "websockets.asyncio.client"),
}


def client_of(session: Session) -> Client:
    """Find what plays a session; KeyError if there is none."""
    room, name, library = CLIENTS[session.client]
    importlib.import_module(library)
    if session.transport == "udp":
        name = "datagrams"
    found: Client = getattr(importlib.import_module(f"llmflow.lab.clients.{room}"), name)
    return found


async def play(config: ClientConfig, sessions: Sequence[Session]) -> None:
    """Play sessions until all have ended, or SIGTERM or SIGINT comes."""
    for session in sessions[:REMEMBERED]:
        script(session)
    gc.collect()
    gc.freeze()
    tasks = [asyncio.ensure_future(_one(config, session)) for session in sessions]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: [task.cancel() for task in tasks])
    await asyncio.gather(*tasks, return_exceptions=True)


async def _one(config: ClientConfig, session: Session) -> None:
    await until(config.t0 + session.start)
    desk, error = Desk(config, session), None
    try:
        async with asyncio.timeout(session.seconds * 3 + 30):
            await client_of(session)(desk, script(session))
    except asyncio.CancelledError:
        error = "cut: the run was ended"
    except BaseException as problem:  # noqa: BLE001 - a session that fails must not stop the run
        error = said(problem)
    with contextlib.suppress(OSError):
        desk.write(error)
