"""Run one server software until it is told to stop; then write its log."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import sys
from pathlib import Path

from llmflow.errors import LabError, LlmflowError
from llmflow.lab.servers.book import Book
from llmflow.lab.servers.config import ServerConfig

# Where each software is started; its module is loaded in its own process only.
STARTS = {
    "uvicorn": "web",
    "hypercorn": "web",
    "nginx": "web",
    "caddy": "web",
    "websockets": "messages",
    "grpcio": "messages",
    "asyncio": "raw",
}
_SLOW_LOOP = ("grpcio",)  # polls by itself; uvloop gains nothing
_PATIENCE = 20.0


async def serve(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises
    ------
    LabError
        The software is not known, not installed, or does not start.
    """
    room = STARTS.get(config.software)
    if room is None:
        known = ", ".join(STARTS)
        raise LabError("is no server software", where=config.software, hint=f"there are: {known}")
    module = importlib.import_module(f"llmflow.lab.servers.{room}")
    start = getattr(module, "raw" if config.software == "asyncio" else config.software)
    Path(config.folder).mkdir(parents=True, exist_ok=True)
    book = Book(Path(config.plan), config.software)
    book.prepare()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with start(config, book):
            await _accepting(config)
            Path(config.ready).write_text(f"{os.getpid()}\n")
            await stop.wait()
    finally:
        book.write(Path(config.log))


async def _accepting(config: ServerConfig) -> None:
    """Wait until every address takes connections."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    for address in config.addresses:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(address, config.port)
                writer.close()
                break
            if asyncio.get_running_loop().time() > deadline:
                where = f"{config.software} on {address}:{config.port}"
                raise LabError("does not accept", where=where, hint="see its log in its folder")
            await asyncio.sleep(0.05)
    if config.software == "caddy":
        while not all(map(_udp_bound, config.addresses, [config.port] * len(config.addresses))):
            if asyncio.get_running_loop().time() > deadline:
                raise LabError("does not accept QUIC", where="caddy", hint="see its log")
            await asyncio.sleep(0.05)


def _udp_bound(address: str, port: int) -> bool:
    """Whether somebody holds a UDP port (proc(5)), without disturbing who is about to."""
    little = socket.inet_aton(address)[::-1].hex().upper()
    return f" {little}:{port:04X} " in Path("/proc/net/udp").read_text()


def main() -> None:
    """Start as the command line says: one argument, the configuration."""
    try:
        config = ServerConfig.from_json(Path(sys.argv[1]))
        slow = config.software in _SLOW_LOOP
        with (
            contextlib.suppress(KeyboardInterrupt),
            asyncio.Runner(loop_factory=None if slow else _fast_loop) as runner,
        ):
            runner.run(serve(config))
    except (LlmflowError, IndexError, OSError) as error:
        sys.exit(f"llmflow.lab.servers: {error}")


def _fast_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


if __name__ == "__main__":
    main()
