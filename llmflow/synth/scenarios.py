"""The scenarios: which flows a capture holds, and which of them are LLM token streams."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from llmflow.synth import shapes
from llmflow.synth.tcp import TcpTalk
from llmflow.synth.udp import QuicTalk, UdpTalk, dns_messages, rtp_frame
from llmflow.synth.wire import Ends, Framer, Packet, Side

if TYPE_CHECKING:
    from collections.abc import Callable

STREAM, OTHER = "llm-stream", "other"
_IDLE = 12.0  # a pause long enough for a keep-alive
_CLIENT, _SERVER = Side.CLIENT, Side.SERVER


class Label(NamedTuple):
    """The truth about one flow."""

    label: str
    protocol: str
    ends: Ends
    category: str


class Turns(NamedTuple):
    """How a chat goes on: how many turns, until when at the latest, and how long each part lasts.

    Reply, wait for the first token and pause are in seconds, each a pair: median and sigma of a
    lognormal for the first two, the bounds of a uniform draw for the pause.
    """

    number: int
    until: float = 600.0
    reply: tuple[float, float] = (5.0, 0.4)
    first: tuple[float, float] = (1.6, 0.4)
    pause: tuple[float, float] = (3.0, 20.0)


@dataclass
class Scene:
    """A capture in the making.

    Parameters
    ----------
    name : str
        Name of the scenario; together with `seed` it decides every byte.
    seed : int
        Seed of the user.
    """

    name: str
    seed: int
    framer: Framer = field(default_factory=Framer)
    labels: list[Label] = field(default_factory=list)
    talks: list[TcpTalk | UdpTalk] = field(default_factory=list)

    def rng(self, part: str) -> Random:
        """Return a generator of its own for one part of the scene."""
        return Random(f"{self.name}/{self.seed}/{part}")  # noqa: S311 - repeatable, not secret

    def ends(self, port: int, *, ipv6: bool = False, server: int | None = None) -> Ends:
        """Return fresh ends from the documentation ranges; `server` shares an address."""
        index = len(self.labels)
        rng = self.rng(f"ends {index}")
        host = 20 + 7 * (index if server is None else server) + self.rng("hosts").randrange(40)
        client_port = 49_200 + 131 * index + rng.randrange(131)
        if ipv6:
            return Ends("2001:db8:a::10", client_port, f"2001:db8:b::{host:x}", port)
        block = ("198.51.100", "203.0.113")[host % 2]
        return Ends("192.0.2.10", client_port, f"{block}.{host}", port)

    def tcp(
        self,
        category: str,
        *,
        label: str = OTHER,
        port: int = 443,
        ipv6: bool = False,
        server: int | None = None,
        mss: int = 1448,
    ) -> TcpTalk:
        """Add a TCP flow and its label."""
        ends = self.ends(port, ipv6=ipv6, server=server)
        rng = self.rng(f"flow {len(self.labels)}")
        self.labels.append(Label(label, "tcp", ends, category))
        talk = TcpTalk(self.framer, ends, rng, rtt=rng.uniform(0.016, 0.026), mss=mss)
        self.talks.append(talk)
        return talk

    def quic(self, category: str, *, label: str = OTHER, ipv6: bool = False) -> QuicTalk:
        """Add a QUIC flow and its label."""
        ends = self.ends(443, ipv6=ipv6)
        rng = self.rng(f"flow {len(self.labels)}")
        self.labels.append(Label(label, "udp", ends, category))
        talk = QuicTalk(self.framer, ends, rng, rtt=rng.uniform(0.016, 0.026))
        self.talks.append(talk)
        return talk

    def udp(self, category: str, port: int, *, server: int | None = None) -> UdpTalk:
        """Add a flow of plain datagrams and its label."""
        ends = self.ends(port, server=server)
        rng = self.rng(f"flow {len(self.labels)}")
        self.labels.append(Label(OTHER, "udp", ends, category))
        talk = UdpTalk(self.framer, ends, rng)
        self.talks.append(talk)
        return talk

    def packets(self) -> list[Packet]:
        """Render all flows and return their packets in the order of time."""
        packets = [packet for talk in self.talks for packet in talk.packets()]
        return sorted(packets, key=lambda packet: packet.time)


def _chat(
    talk: TcpTalk | QuicTalk, shape: shapes.Shape, start: float, turns: Turns
) -> list[tuple[float, float]]:
    """Fill a flow with turns; return begin and end of each reply."""
    rng, now = talk.rng, start
    replies = []
    for turn in range(turns.number):
        talk.data(now, _CLIENT, rng.randint(900, 5200))
        begin = now + shapes.clipped(rng, *turns.first, 0.25, 8.0)
        length = shapes.clipped(rng, *turns.reply, 2.6, 14.0)
        end = begin
        for offset, size in shape(rng, length):
            if begin + offset >= turns.until:
                break
            end = begin + offset
            talk.data(end, _SERVER, size)
        replies.append((begin, end))
        pause = rng.uniform(*turns.pause)
        if turn + 1 == turns.number or end + pause + turns.first[0] >= turns.until:
            break
        if pause > _IDLE and isinstance(talk, TcpTalk):
            talk.data(end + 6.0, _CLIENT, 39)  # HTTP/2 PING and its answer
            talk.data(end + 6.0 + talk.rtt * 1.5, _SERVER, 39)
            talk.keep_alive(end + 11.0)
        now = end + pause
    return replies


def _drip(scene: Scene, start: float = 0.0, turns: Turns | None = None) -> None:
    talk = scene.tcp("drip", label=STREAM)
    turns = turns or Turns(11, reply=(4.6, 0.45), first=(2.9, 0.35))
    _chat(talk, shapes.drip, talk.open_tls(start, hello=1780), turns)


def _chunk(scene: Scene, start: float = 0.0, turns: Turns | None = None) -> None:
    """Clocked replies on a connection that was open before, and uploads of telemetry."""
    server = len(scene.labels)
    talk = scene.tcp("chunk", label=STREAM, mss=1380)
    rng = talk.rng
    turns = turns or Turns(5, reply=(9.0, 0.35), first=(1.2, 0.5), pause=(3.5, 14.0))
    replies = _chat(talk, shapes.clocked, talk.resume(start) + 0.2, turns)
    for begin, end in replies:
        for _ in range(3):
            size = rng.randint(14_000, 34_000)
            talk.data(rng.uniform(begin, end), _CLIENT, size)
    side = scene.tcp("telemetry", server=server, mss=1380)
    opened = side.open_tls(start + 1.5)
    for begin, _ in replies:
        now = max(opened, begin + 0.7)
        side.data(now, _CLIENT, rng.randint(3000, 9000))
        side.data(now + 0.08, _SERVER, rng.randint(160, 420))


def _blob(scene: Scene) -> None:
    turns = Turns(4, reply=(5.0, 0.35), first=(0.9, 0.5), pause=(4.0, 16.0))
    first = scene.tcp("blob", label=STREAM)
    replies = _chat(first, shapes.cumulative, first.open_tls(0.0, hello=1780), turns)
    first.close(replies[-1][1] + 5.0)
    second = scene.tcp("blob", label=STREAM)
    _chat(second, shapes.cumulative, second.resume(8.0) + 0.5, turns._replace(number=3))


def _burst_pause(scene: Scene) -> None:
    for start, number in ((0.0, 3), (11.0, 3)):
        talk = scene.tcp("burst-pause", label=STREAM, ipv6=True, mss=1428)
        turns = Turns(number, reply=(6.5, 0.35), first=(1.0, 0.4), pause=(3.0, 12.0))
        replies = _chat(talk, shapes.burst_pause, talk.open_tls(start), turns)
        if start == 0.0:  # the other one stays open
            talk.close(replies[-1][1] + 4.0, _SERVER)


def _api_drip(scene: Scene) -> None:
    """One reply per connection: headers and role first, the final events and a FIN at the end."""
    start = 0.0
    for _ in range(5):
        talk = scene.tcp("api-drip", label=STREAM)
        rng = talk.rng
        asked = talk.open_tls(start, flight=1197)
        talk.data(asked, _CLIENT, rng.randint(700, 2600))
        begin = asked + shapes.clipped(rng, 0.417, 0.35, 0.33, 1.1)
        talk.data(begin, _SERVER, 1714)
        talk.data(begin + 0.004, _SERVER, 374)
        end = begin
        for offset, size in shapes.padded(rng, shapes.clipped(rng, 3.3, 0.4, 2.2, 6.4)):
            end = begin + 0.02 + offset
            talk.data(end, _SERVER, size)
        for size in (rng.choice((340, 639)), 41, 27):
            end += 0.003
            talk.data(end, _SERVER, size)
        talk.close(end + rng.uniform(0.02, 0.4))
        start = end + rng.uniform(0.5, 4.0)


def _quic_flow(scene: Scene, start: float, turns: Turns, *, ipv6: bool = False) -> None:
    talk = scene.quic("quic-drip", label=STREAM, ipv6=ipv6)
    _chat(talk, shapes.quic_drip, talk.open(start), turns)


def _quic_drip(scene: Scene) -> None:
    turns = Turns(5, reply=(4.6, 0.4), first=(2.4, 0.4), pause=(3.0, 14.0))
    _quic_flow(scene, 0.0, turns)
    _quic_flow(scene, 17.0, turns._replace(number=3), ipv6=True)


def _ssh(scene: Scene, start: float = 0.0, seconds: float = 70.0) -> None:
    """Keystrokes and their echoes; a command ends with a burst of output."""
    talk = scene.tcp("ssh-typing", port=22)
    rng = talk.rng
    now = talk.open(start)
    for sender in (_SERVER, _CLIENT):
        now += talk.rtt * 1.5
        talk.send(now, sender, b"SSH-2.0-example\r\n")
    for sender, size in ((_CLIENT, 1496), (_SERVER, 1080), (_CLIENT, 48), (_SERVER, 452)):
        now += talk.rtt * 1.5
        talk.send(now, sender, rng.randbytes(size))
    for offset, size in shapes.typing(rng, seconds):
        key = now + 0.5 + offset
        talk.send(key, _CLIENT, rng.randbytes(size))
        echo = key + talk.rtt * 1.45
        talk.send(echo, _SERVER, rng.randbytes(size))
        if size > 36:  # noqa: PLR2004 - the key that runs the command
            for part in range(rng.randint(1, 5)):
                output = echo + 0.01 + 0.03 * part * rng.random()
                talk.send(output, _SERVER, rng.randbytes(rng.randint(84, 2600)))


def _voip(scene: Scene, start: float = 0.0, seconds: float = 9.0) -> None:
    talk = scene.udp("voip", 40_000)
    rng = talk.rng
    sources = (rng.getrandbits(32), rng.getrandbits(32))
    for index in range(int(seconds / 0.020)):
        for side, jitter in ((_CLIENT, 0.0003), (_SERVER, 0.0018)):
            time = start + 0.007 * side + 0.020 * index + abs(rng.gauss(0, jitter))
            talk.send(time, side, rtp_frame(rng, index, sources[side]))


def _ticker(scene: Scene) -> None:
    """Two feeds of small updates: one by the clock, one irregular; the client only listens."""
    for start, period, spread in ((0.0, 0.5, 0.0), (2.0, 0.35, 1.0)):
        talk = scene.tcp("ticker")
        asked = talk.open_tls(start)
        talk.data(asked, _CLIENT, talk.rng.randint(420, 700))
        first = asked + 0.06
        for offset, size in shapes.ticks(talk.rng, 55.0, period=period, spread=spread):
            talk.data(first + offset + talk.rng.uniform(0, 0.006), _SERVER, size)


def _download(scene: Scene, start: float = 0.0, size: int = 850_000) -> None:
    talk = scene.tcp("download")
    asked = talk.open_tls(start)
    talk.data(asked, _CLIENT, 520)
    end = asked
    for offset, part in shapes.bulk(talk.rng, size, rtt=talk.rtt):
        end = asked + 0.05 + offset
        talk.data(end, _SERVER, part)
    talk.close(end + 0.4)


def _web(scene: Scene, start: float = 0.0, pages: int = 3, weight: int = 3) -> None:
    """Page loads: a few connections each, some requests on each, and replies in bulk."""
    for _ in range(pages):
        for connection in range(2):
            talk = scene.tcp("web")
            rng = talk.rng
            now = talk.open_tls(start + 0.15 * connection, hello=1780)
            for _ in range(rng.randint(1, weight)):
                talk.data(now, _CLIENT, rng.randint(380, 900))
                first = now + rng.uniform(0.04, 0.12)
                reply = int(shapes.clipped(rng, 22_000, 0.8, 1_500, 90_000))
                for offset, part in shapes.bulk(rng, reply, rtt=talk.rtt):
                    now = first + offset
                    talk.data(now, _SERVER, part)
                now += rng.uniform(0.05, 0.5)
            if connection == 0:
                talk.close(now + 3.0, _SERVER)
        start += scene.rng(f"page {start}").uniform(5.0, 9.0)


def _dns(scene: Scene, start: float) -> None:
    talk = scene.udp("dns", 53, server=0)
    rng = talk.rng
    name = f"host{rng.randrange(1000)}.example"
    question, answer = dns_messages(rng.getrandbits(16), name, "198.51.100.7")
    talk.send(start, _CLIENT, question)
    talk.send(start + rng.uniform(0.004, 0.03), _SERVER, answer)


def _mixed(scene: Scene) -> None:
    """Ninety seconds of one desk: three chats between everything else."""
    for time in (0.9, 3.4, 9.5, 18.2, 18.3, 46.0, 59.7):
        _dns(scene, time)
    _ssh(scene, 0.1, 50.0)
    _drip(scene, 1.0, Turns(4, 86.0, (5.0, 0.3), (2.9, 0.3), (4.0, 13.0)))
    _chunk(scene, 3.5, Turns(4, 86.0, (6.5, 0.3), (1.2, 0.4), (4.0, 13.0)))
    _quic_flow(scene, 9.6, Turns(4, 86.0, (4.2, 0.3), (2.4, 0.3), (4.0, 13.0)))
    _web(scene, 18.4, pages=1, weight=2)
    _voip(scene, 31.0, 4.4)
    _download(scene, 46.1, 240_000)
    _web(scene, 59.8, pages=1, weight=2)


class Scenario(NamedTuple):
    """One capture that can be made: what it shows and how to fill its scene."""

    summary: str
    build: Callable[[Scene], None]


SCENARIOS: dict[str, Scenario] = {
    "drip": Scenario("LLM: one tiny record per event, about 13 per second, TCP", _drip),
    "chunk": Scenario("LLM: flushes on a 200 ms clock, telemetry uploads between", _chunk),
    "blob": Scenario("LLM: cumulative chunks that grow during the reply", _blob),
    "burst-pause": Scenario("LLM: bursts and long pauses of a content filter, IPv6", _burst_pause),
    "api-drip": Scenario("LLM: padded API events, one reply per connection", _api_drip),
    "quic-drip": Scenario("LLM: the drip in QUIC datagrams, IPv4 and IPv6", _quic_drip),
    "ssh-typing": Scenario("other: keystrokes, echoes and bursts of output", _ssh),
    "voip": Scenario("other: a call, 50 datagrams per second both ways", _voip),
    "ticker": Scenario("other: small updates pushed over TLS", _ticker),
    "download": Scenario("other: one bulk transfer", _download),
    "web": Scenario("other: page loads over short connections", _web),
    "mixed": Scenario("demo: three LLM chats between ssh, a call, web, download and DNS", _mixed),
}
