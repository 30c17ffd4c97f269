"""RTP: telephone calls with a packet every 20 or 30 ms while somebody speaks."""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from llmflow.lab.programs import ClientPlace, Program, ServerPlace
from llmflow.lab.programs._place import Popen
from llmflow.lab.programs._voice import speaking
from llmflow.lab.script import OTHER

PORT = 5004
HEAD = 12  # bytes
COMFORT_NOISE = 13  # payload type, RFC 3389
BYE, FAREWELL = 203, 0.3  # RTCP on the same port (RFC 5761); seconds for it to arrive
SILENT = 3.0  # seconds without a packet after which the other side has hung up
# Payload type and bytes per millisecond: G.711, G.729, GSM (RFC 3551).
CODECS = ((0, 8.0), (8, 8.0), (18, 1.0), (3, 1.65))


@dataclass(frozen=True, slots=True)
class Call:
    """What both ends agreed upon; drawn from the synchronization source of the caller."""

    payload_type: int
    step_ms: int
    size: int
    tag: int  # bytes of authentication, if the packets are secured (RFC 3711)
    suppresses: bool  # no packets in silence but a few of comfort noise

    @classmethod
    def of(cls, source: int) -> Call:
        rng = Random(source)
        payload_type, density = rng.choice(CODECS)
        step = rng.choice((20, 20, 20, 30))
        tag, suppresses = rng.choice((0, 10)), rng.random() < 0.6
        return cls(payload_type, step, round(density * step), tag, suppresses)


async def speak(send: Callable[[bytes], None], call: Call, rng: Random, source: int) -> None:
    """Send one party's packets, on absolute deadlines."""
    loop = asyncio.get_running_loop()
    began, sequence, was_silent = loop.time(), rng.getrandbits(15), 0
    for count, speaks in enumerate(speaking(rng, call.step_ms / 1000)):
        await asyncio.sleep(began + count * call.step_ms / 1000 - loop.time())
        was_silent = 0 if speaks else was_silent + 1
        quiet = call.suppresses and was_silent > 3  # the hangover of a detector
        if quiet and was_silent % 10 != 4:
            continue
        payload_type, size = (COMFORT_NOISE, 11) if quiet else (call.payload_type, call.size)
        sequence = (sequence + 1) % 65536
        stamp = (count * call.step_ms * 8) % 2**32
        head = struct.pack(">BBHII", 0x80, payload_type, sequence, stamp, source)
        send(head + rng.randbytes(size + call.tag))


class Answerer(asyncio.DatagramProtocol):
    """Picks up whenever a new caller speaks, and hangs up when nothing comes any more."""

    def __init__(self) -> None:
        self._calls: dict[Any, asyncio.Task[None]] = {}
        self._ends: dict[Any, asyncio.TimerHandle] = {}
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are sent with."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer a new call; note that an old one goes on."""
        if len(data) < HEAD:
            return
        if data[1] == BYE:
            if addr in self._calls:
                self._ends[addr].cancel()
                self._hang_up(addr)
        elif addr not in self._calls:
            source = int.from_bytes(data[8:HEAD], "big")
            rng = Random(-source)
            send = partial(self._send, addr)
            talk = speak(send, Call.of(source), rng, rng.getrandbits(32))
            self._calls[addr] = asyncio.create_task(talk)
            self._expect(addr)
        else:
            self._ends[addr].cancel()
            self._expect(addr)

    def _expect(self, addr: Any) -> None:
        self._ends[addr] = asyncio.get_running_loop().call_later(SILENT, self._hang_up, addr)

    def _send(self, addr: Any, packet: bytes) -> None:
        self._transport.sendto(packet, addr)

    def _hang_up(self, addr: Any) -> None:
        self._calls.pop(addr).cancel()
        del self._ends[addr]


async def answer(addresses: list[str]) -> None:
    """Answer calls on these addresses for ever."""
    loop = asyncio.get_running_loop()
    for host in addresses:
        await loop.create_datagram_endpoint(Answerer, (host, PORT))
    await loop.create_future()


def serve(place: ServerPlace) -> list[Popen]:
    """A telephone that answers every call."""
    return [place.start(sys.executable, "-m", __name__, *place.addresses)]


def visit(place: ClientPlace) -> None:
    """One call."""
    asyncio.run(_call(place))


async def _call(place: ClientPlace) -> None:
    loop = asyncio.get_running_loop()
    source = place.rng.getrandbits(32)
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=(place.server, PORT)
    )
    local, remote = (transport.get_extra_info(name) for name in ("sockname", "peername"))
    place.connected("udp", local, remote)
    talk = asyncio.create_task(speak(transport.sendto, Call.of(source), place.rng, source))
    await place.rest(place.left)
    talk.cancel()
    transport.sendto(struct.pack(">BBHI", 0x81, BYE, 1, source))
    await asyncio.sleep(FAREWELL)
    transport.close()


PROGRAMS = (
    Program(
        name="rtp",
        label=OTHER,
        category="voice",
        needs=(),
        modules=("numpy",),
        ports=(("udp", PORT),),
        serve=serve,
        visit=visit,
    ),
)

if __name__ == "__main__":
    asyncio.run(answer(sys.argv[1:]))
