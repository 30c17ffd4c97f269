"""VNC: looking at a screen on which something happens, and typing there."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from random import Random

from llmflow.errors import LabError
from llmflow.lab.programs import ClientPlace, Program, ServerPlace
from llmflow.lab.programs._place import Popen, await_path
from llmflow.lab.programs._talker import talker
from llmflow.lab.script import OTHER

PORT = 5900
SOCKETS = Path("/tmp/.X11-unix")  # noqa: S108 # where X servers have their sockets
RAW, COPY, ZRLE = 0, 1, 16  # encodings, RFC 6143 section 7.7
PICTURE, BELL, CUT_TEXT = 0, 2, 3  # messages of the server, section 7.6
RETURN = 0xFF0D
# Answers a line with some lines, as a shell would, and does nothing else whatever is typed.
ANSWERS = "import sys\nfor line in sys.stdin: print(line.upper() * min(len(line), 40), flush=True)"


def serve(place: ServerPlace) -> list[Popen]:
    """Three screens: one to type on, one with now and then a line, and one in full flow."""
    rng = Random(0)
    shows = (
        [sys.executable, "-c", ANSWERS],
        talker(rng, gap=0.8, longest=100),
        talker(rng, gap=0.08, longest=200),
    )
    started = []
    for screen, show in enumerate(shows):
        display = _free_display()
        size = rng.choice(("800x600", "1024x768"))
        started.append(
            place.start(
                *("Xvnc", f":{display}", "-rfbport", str(PORT + screen), "-geometry", size),
                *("-SecurityTypes", "None", "-AlwaysShared", "-UseIPv6=0"),
            )
        )
        await_path(SOCKETS / f"X{display}")
        xterm = ("xterm", "-display", f":{display}", "-geometry", "140x50+0+0", "-e")
        started.append(place.start(*xterm, *show))
    return started


def _free_display() -> int:
    taken = {path.name for path in SOCKETS.glob("X*")}
    return next(n for n in range(100 + os.getpid() % 5000, 10_000) if f"X{n}" not in taken)


def visit(place: ClientPlace) -> None:
    """The viewer of TigerVNC, or a client that also types."""
    if place.rng.random() < 0.4:
        _watch(place)
    else:
        asyncio.run(_work(place))


def _watch(place: ClientPlace) -> None:
    display = _free_display()
    with place.popen("Xvfb", f":{display}", "-nolisten", "tcp"):
        await_path(SOCKETS / f"X{display}")
        encoding = place.rng.choice(("Tight", "ZRLE", "Hextile"))
        options = ("-AutoSelect=0", f"-PreferredEncoding={encoding}", "-SecurityTypes=None")
        port = PORT + place.rng.choice((1, 2))
        viewer = ("xtigervncviewer", "-display", f":{display}", "-Shared", *options)
        with place.popen(*viewer, f"{place.server}::{port}"):
            place.pause(place.left)


async def _work(place: ClientPlace) -> None:
    screen = place.rng.randrange(3)
    reader, writer = await asyncio.open_connection(place.server, PORT + screen)
    place.connected("tcp", writer.get_extra_info("sockname"), writer.get_extra_info("peername"))
    everything = b"\0\0\0\0" + await _greet(reader, writer, place.rng)
    writer.write(b"\x03\x00" + everything)
    tasks = [asyncio.create_task(_look(place, reader, writer, everything))]
    if screen == 0 or place.rng.random() < 0.3:
        tasks.append(asyncio.create_task(_type(place, writer)))
    done, others = await asyncio.wait(tasks, timeout=place.left)
    for task in others:
        task.cancel()
    writer.close()
    for task in done:
        task.result()


async def _greet(reader: StreamReader, writer: StreamWriter, rng: Random) -> bytes:
    """Go through the greetings (RFC 6143, section 7.1-7.4) and return width and height."""
    writer.write(await reader.readexactly(12))
    await reader.readexactly((await reader.readexactly(1))[0])
    writer.write(b"\x01")
    if await reader.readexactly(4) != bytes(4):
        raise LabError("the VNC server wants a password")
    writer.write(b"\x01")
    head = await reader.readexactly(24)
    await reader.readexactly(int.from_bytes(head[20:], "big"))
    wanted = rng.choice(((ZRLE, COPY, RAW), (ZRLE, RAW), (COPY, RAW)))
    numbers = b"".join(number.to_bytes(4, "big") for number in wanted)
    writer.write(b"\x02\x00" + len(wanted).to_bytes(2, "big") + numbers)
    return head[:4]


async def _look(
    place: ClientPlace, reader: StreamReader, writer: StreamWriter, everything: bytes
) -> None:
    """Ask for the next picture when the last one is drawn, at some pace."""
    pace = place.rng.choice((0.02, 0.05, 0.2, 0.5))
    while place.left > 0:
        kind = (await reader.readexactly(1))[0]
        if kind == PICTURE:
            await _picture(reader)
            await place.rest(pace)
            writer.write(b"\x03\x01" + everything)
        elif kind == CUT_TEXT:
            size = (await reader.readexactly(7))[3:]
            await reader.readexactly(int.from_bytes(size, "big"))
        elif kind != BELL:
            raise LabError(f"unknown message {kind} of the VNC server")


async def _picture(reader: StreamReader) -> None:
    rectangles = (await reader.readexactly(3))[1:]
    for _ in range(int.from_bytes(rectangles, "big")):
        *_, width, height, encoding = struct.unpack(">HHHHi", await reader.readexactly(12))
        size = {RAW: width * height * 4, COPY: 4}.get(encoding)
        if size is None:  # ZRLE says how long it is
            size = int.from_bytes(await reader.readexactly(4), "big")
        await reader.readexactly(size)


async def _type(place: ClientPlace, writer: StreamWriter) -> None:
    rng, rate = place.rng, place.rng.uniform(2, 9)
    # A terminal hears the keys when the pointer is over it.
    writer.write(struct.pack(">BBHH", 5, 0, rng.randint(50, 300), rng.randint(50, 300)))
    while True:
        key = ord(rng.choice("etaoinshr ")) if rng.random() < 0.95 else RETURN
        for down in (1, 0):
            writer.write(struct.pack(">BBHI", 4, down, 0, key))
        await asyncio.sleep(rng.gammavariate(2, 0.5 / rate))


PROGRAMS = (
    Program(
        name="vnc",
        label=OTHER,
        category="remote_desktop",
        needs=("Xvnc", "Xvfb", "xterm", "xtigervncviewer"),
        modules=(),
        ports=tuple(("tcp", PORT + screen) for screen in range(3)),
        serve=serve,
        visit=visit,
    ),
)
