"""Both ends of a WebRTC call: ``python -m llmflow.lab.programs._webrtc PORT ADDRESS...``."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from asyncio import StreamReader, StreamWriter
from fractions import Fraction
from random import Random

from aioice import ice
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from av import AudioFrame

from llmflow.lab.programs import ClientPlace
from llmflow.lab.programs._voice import noise, speaking

RATE, STEP = 48_000, 0.02  # samples per second, seconds per frame
CANDIDATE = re.compile(r"a=candidate:\S+ \d+ udp \d+ (\S+) (\d+) typ host")
# What goes over the data channel, as messages per second and their usual size.
CHATTER = ((0.4, 60), (3, 30), (20, 60), (50, 100), (5, 1500))
FAREWELL = 0.3  # seconds for the other side to hang up
GATHERS = asyncio.Lock()
TALKS: set[asyncio.Task[None]] = set()  # a loop alone does not keep its tasks alive


class Voice(MediaStreamTrack):
    """Somebody who speaks and listens in turn."""

    kind = "audio"

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self._rng, self._speaks, self._count = rng, speaking(rng, STEP), 0
        self._began = asyncio.get_running_loop().time()

    async def recv(self) -> AudioFrame:
        """Return the next 20 ms, when they are due."""
        await asyncio.sleep(self._began + self._count * STEP - asyncio.get_running_loop().time())
        samples = noise(self._rng, next(self._speaks), round(RATE * STEP))
        frame = AudioFrame.from_ndarray(samples.reshape(1, -1), layout="mono")
        frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        frame.pts = self._count * samples.size
        self._count += 1
        return frame


async def call(place: ClientPlace, port: int) -> None:
    """Call, talk until the visit's end, and hang up."""
    rng = place.rng
    reader, writer = await asyncio.open_connection(place.server, port)
    host = writer.get_extra_info("sockname")[0]
    place.connected("tcp", writer.get_extra_info("sockname"), writer.get_extra_info("peername"))
    style = rng.choice(("audio", "both", "both", "chat"))
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    if style != "chat":
        connection.addTrack(Voice(rng))
    if style != "audio":
        channel = connection.createDataChannel("chat")
        channel.on("open", lambda: _chat(channel, rng))
    offer = await _describe(connection, host, await connection.createOffer())
    message = {"sdp": offer, "seed": rng.getrandbits(32), "voice": style != "chat"}
    writer.write(json.dumps(message).encode() + b"\n")
    answer = json.loads(await reader.readline())["sdp"]
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    place.connected("udp", _candidate(offer), _candidate(answer))
    await place.rest(place.left)
    state = connection.connectionState
    writer.close()
    await asyncio.sleep(FAREWELL)
    await connection.close()
    if state != "connected":
        raise ConnectionError(f"the call was {state} at its end")


async def _describe(
    connection: RTCPeerConnection, host: str, description: RTCSessionDescription
) -> str:
    """Gather the candidates of one address: those of the namespace's others lead nowhere."""
    async with GATHERS:
        ice.get_host_addresses = lambda **_: [host]
        await connection.setLocalDescription(description)
    return str(connection.localDescription.sdp)


def _candidate(sdp: str) -> tuple[str, int]:
    found = CANDIDATE.search(sdp)
    if not found:
        raise ConnectionError("a description without a candidate")
    return found[1], int(found[2])


def _chat(channel: RTCDataChannel, rng: Random) -> None:
    async def talk() -> None:
        rate, size = rng.choice(CHATTER)
        while channel.readyState == "open":
            channel.send(rng.randbytes(max(1, int(rng.gauss(size, size / 4)))))
            await asyncio.sleep(rng.expovariate(rate) if rate < 10 else 1 / rate)

    task = asyncio.create_task(talk())
    TALKS.add(task)
    task.add_done_callback(TALKS.discard)


async def answer(reader: StreamReader, writer: StreamWriter) -> None:
    """Take one call, until the other side hangs up."""
    asked = json.loads(await reader.readline())
    rng = Random(asked["seed"])
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        await connection.setRemoteDescription(RTCSessionDescription(asked["sdp"], "offer"))
        if asked["voice"]:
            connection.addTrack(Voice(rng))
        connection.on("datachannel", lambda channel: _chat(channel, rng))
        host = writer.get_extra_info("sockname")[0]
        answered = await _describe(connection, host, await connection.createAnswer())
        writer.write(json.dumps({"sdp": answered}).encode() + b"\n")
        await reader.read()
    finally:
        await connection.close()
        writer.close()


async def serve(port: int, addresses: list[str]) -> None:
    """Take calls for ever."""
    server = await asyncio.start_server(answer, addresses, port, limit=2**20)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2:]))
