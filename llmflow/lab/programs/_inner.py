"""What goes through a tunnel: a kind's script over TLS between two ends of it.

``python -m llmflow.lab.programs._inner PORT CERTIFICATE KEY``
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
from asyncio import StreamReader, StreamWriter
from random import Random

from llmflow.errors import LabError
from llmflow.lab.kinds import kinds
from llmflow.lab.programs import ClientPlace, ServerPlace
from llmflow.lab.programs._place import Popen, trusting
from llmflow.lab.script import Exchange, Write

READY = 15.0  # seconds a tunnel may take to be there
FAREWELL = 1.0  # seconds for both sides to close


def network(port: int) -> str:
    """First three numbers of the addresses within the tunnels of a server; itself is the first."""
    return f"10.{port % 100 + 100}.0"


def _script(kind: str, seed: int, seconds: float) -> list[Exchange]:
    # One connection after the other through the tunnel: nothing goes on beside.
    return [one for one in kinds()[kind].build(Random(seed), seconds) if not one.beside]


def _request(exchange: Exchange) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in exchange.headers)
    return f"{exchange.method} {exchange.path}\r\n{head}\r\n".encode() + exchange.body


async def _play(writer: StreamWriter, writes: tuple[Write, ...]) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for write in writes:
        await asyncio.sleep(began + write.due - loop.time())
        writer.write(write.data)
        await writer.drain()


def start(place: ServerPlace, port: int) -> Popen:
    """Start the server within the tunnels; it listens before they are there."""
    return place.start(sys.executable, "-m", __name__, str(port), place.certificate, place.key)


async def serve(port: str, certificate: str, key: str) -> None:
    """Answer as the script says that the client names, for ever."""
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trust.load_cert_chain(certificate, key)
    server = await asyncio.start_server(_answer, "0.0.0.0", int(port), ssl=trust)  # noqa: S104
    await server.serve_forever()


async def _answer(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        for exchange in _script(*json.loads(await reader.readline())):
            await reader.readexactly(len(_request(exchange)))
            down = asyncio.create_task(_play(writer, exchange.down))
            await reader.readexactly(sum(len(write.data) for write in exchange.up))
            await down
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # the client went away, as clients do
    finally:
        writer.close()


async def visit(place: ClientPlace, label: str, device: str, port: int) -> None:
    """Play one connection of any kind of that label through a tunnel's device."""
    fitting = [name for name, kind in kinds().items() if kind.label == label]
    if not fitting:
        raise LabError(f"no kind of traffic is labelled {label}")
    asked = place.rng.choice(fitting), place.rng.getrandbits(32), place.left
    stream = await _connect(device, port)
    trust = trusting(place.authority)
    reader, writer = await asyncio.open_connection(sock=stream, ssl=trust, server_hostname="tunnel")
    writer.write(json.dumps(asked).encode() + b"\n")
    try:
        async with asyncio.timeout(max(place.left, 1)):
            for exchange in _script(*asked):
                await asyncio.sleep(exchange.think)
                writer.write(_request(exchange))
                up = asyncio.create_task(_play(writer, exchange.up))
                reading = reader.readexactly(sum(len(write.data) for write in exchange.down))
                async with asyncio.timeout(exchange.abort):
                    await reading
                await up
    except TimeoutError:
        pass  # the visit's end, or a stop button
    writer.close()
    # Without a tunnel, the other side would go on calling for long.
    await asyncio.sleep(FAREWELL)


async def _connect(device: str, port: int) -> socket.socket:
    """Connect through one device, as soon as the tunnel is there."""
    loop = asyncio.get_running_loop()
    until = loop.time() + READY
    while True:
        stream = socket.socket()
        stream.setblocking(False)
        try:
            # Every tunnel of the namespace leads to the same address.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            await asyncio.wait_for(loop.sock_connect(stream, (f"{network(port)}.1", port)), 5)
        except OSError:
            stream.close()
            if loop.time() > until:
                raise
            await asyncio.sleep(0.2)
        else:
            return stream


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
