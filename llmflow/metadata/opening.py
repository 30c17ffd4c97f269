"""Opening the payloads that may say a name (``metadata.candidates`` chooses them), one by one.

What is whole in one packet, as nearly all hellos are, is read at once and nothing is kept of its
flow. Hellos in several packets go through a :class:`~llmflow.metadata.collector.NameCollector`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from llmflow.metadata import candidates, dns, http1, tls
from llmflow.metadata.collector import NameCollector
from llmflow.metadata.names import Names, read_client
from llmflow.metadata.providers import Providers
from llmflow.metadata.wire import MalformedError

_MAX_KNOWN = 1 << 16  # names that are remembered with their providers
_PATIENCE = 30_000_000_000  # ns for which the rest of a hello is waited for
_WINDOW = 1 << 17  # TCP bytes that a hello may span
_QUESTION = 12  # where the question begins in a DNS message


class Opened(NamedTuple):
    """A payload, of whom it is, and whether the capture cut it."""

    kind: int
    key: bytes
    side: int
    seq: int
    time: int
    port: int
    payload: bytes
    cut: bool


class _Began(NamedTuple):
    """A hello that is not whole yet: last part, first sequence number, source port, if on TCP."""

    time: int
    seq: int
    port: int
    stream: bool


class NameReader:
    """Reads names from payloads, in capture order.

    Parameters
    ----------
    providers : Providers
    idle : int
        Silence that ends a flow, ns: what comes behind it is another flow's.
    """

    def __init__(self, providers: Providers, idle: int) -> None:
        self._providers, self._idle = providers, idle
        self._patience = min(idle, _PATIENCE)
        self._collector: NameCollector[bytes] = NameCollector(client_only=True)
        self._began: dict[bytes, _Began] = {}
        # QUIC flows whose hello is known. Their later Initials would only cost.
        self._done: dict[bytes, int] = {}
        self._most_done = _MAX_KNOWN
        self._fronts: list[tuple[bytes, int, Names]] = []
        self._known: dict[str, tuple[str, str]] = {}
        self._questions: dict[bytes, bool] = {}
        self._readers: dict[int, Callable[[Opened], Names | None]] = {
            candidates.HELLO: self._hello,
            candidates.FRONT: self._part,
            candidates.MORE: self._more,
            candidates.REQUEST: self._request,
            candidates.INITIAL: self._initial,
        }

    @property
    def dropped(self) -> int:
        """Packets and flows given up for want of memory."""
        return self._collector.dropped_packets + self._collector.given_up

    def ports(self, *, streams: bool = False) -> list[int]:
        """Source ports of hellos that are not whole yet; all, or those of TCP."""
        return [x.port for x in self._began.values() if x.stream or not streams]

    @property
    def begun(self) -> list[bytes]:
        """Keys of flows whose hellos are not whole yet."""
        return list(self._began)

    def unfinished(self, key: bytes) -> tuple[int, Names] | None:
        """What the hello of a flow has said that is not whole yet, and when last."""
        began = self._began.get(key)
        return (began.time, self._collector.names(key)) if began else None

    def read(self, packet: Opened) -> Names | None:
        """Names that this packet says or makes whole; None if there are none."""
        try:
            return self._readers[packet.kind](packet)
        except MalformedError:
            return None

    def _hello(self, packet: Opened) -> Names | None:
        """A hello in one segment; of one that the capture cut, what is there."""
        found = tls.record_message(packet.payload)
        return read_client(found) if found else None

    def _request(self, packet: Opened) -> Names | None:
        found = http1.request(packet.payload, self._providers.agents)
        return Names(host=found.host, agent=found.agent) if found.host or found.agent else None

    def _part(self, packet: Opened) -> Names | None:
        if packet.cut:
            return self._hello(packet)
        began = self._began.get(packet.key)
        if began and (self._stale(began, packet) or (packet.seq - began.seq) % 2**32 > _WINDOW):
            self._give_up(packet.key)  # the port is used again
            began = None
        return self._feed(packet, began)

    def _more(self, packet: Opened) -> Names | None:
        began = self._began.get(packet.key)
        if began is None:
            return None
        if self._stale(began, packet):
            self._give_up(packet.key)
            return None
        return self._feed(packet, began)

    def _initial(self, packet: Opened) -> Names | None:
        done, began = self._done.get(packet.key), self._began.get(packet.key)
        if done is not None and not self._late(done, packet):
            self._done[packet.key] = max(done, packet.time)
            return None
        if began and self._stale(began, packet):
            self._give_up(packet.key)
            began = None
        names = self._feed(packet, began)
        if names:
            self._done[packet.key] = packet.time
        return names

    def _stale(self, began: _Began, packet: Opened) -> bool:
        return packet.time - began.time >= self._patience

    def _late(self, time: int, packet: Opened) -> bool:
        return packet.time - time >= self._idle

    def _feed(self, packet: Opened, began: _Began | None) -> Names | None:
        key, seq = packet.key, packet.seq
        of_stream = seq if packet.kind != candidates.INITIAL else None
        names = self._collector.feed(key, packet.side, of_stream, packet.payload)
        if names or key not in self._collector.unfinished:
            self._end(key)
            return names
        self._began[key] = _Began(
            packet.time, began.seq if began else seq, packet.port, of_stream is not None
        )
        return None

    def _end(self, key: bytes) -> Names:
        self._began.pop(key, None)
        return self._collector.finish(key)

    def _give_up(self, key: bytes) -> None:
        began = self._began[key]
        self._fronts.append((key, began.time, self._end(key)))

    def fronts(self, before: int) -> list[tuple[bytes, int, Names]]:
        """Flows, times and names of hellos that nobody waits for any more.

        Parameters
        ----------
        before : int
            Nothing that is older will come: what would be too late behind it is let go.
        """
        old = before - self._idle
        for key in [
            key for key, began in self._began.items() if began.time <= before - self._patience
        ]:
            self._give_up(key)
        if len(self._done) > self._most_done:
            self._done = {key: time for key, time in self._done.items() if time > old}
            self._most_done = max(_MAX_KNOWN, 2 * len(self._done))
        found, self._fronts = self._fronts, []
        return found

    def clear(self) -> None:
        """Let go of all flows."""
        for key in list(self._began):
            self._end(key)
        self._done.clear()
        self._fronts.clear()

    def answers(self, packet: Opened) -> list[dns.Answer]:
        """DNS answers to questions for names of services; others are of no use."""
        payload = packet.payload
        question = payload[_QUESTION : payload.find(b"\0", _QUESTION)]
        asks = self._questions.get(question)
        if asks is None:
            asks = self._questions[question] = self._asks(question)
            if len(self._questions) > _MAX_KNOWN:
                self._questions.clear()
        try:
            return dns.answers(payload, time=packet.time) if asks else []
        except MalformedError:
            return []

    def _asks(self, question: bytes) -> bool:
        if not question.isascii():  # nor is what it is compared with
            return False
        labels, at = [], 0
        while at < len(question):
            labels.append(question[at + 1 : at + 1 + question[at]])
            at += 1 + question[at]
        return any(self.provider(b".".join(labels).decode()))

    def agent(self, token: str) -> str:
        """Whose program sent a request, and what for; empty where it is unknown."""
        service = self._providers.agent(token) if token else None
        return f"{service.provider} {service.kind}" if service else ""

    def provider(self, name: str) -> tuple[str, str]:
        """Whom a name belongs to: by strong, and by weak evidence; empty where it is unknown."""
        known = self._known.get(name)
        if known is None:
            service = self._providers.match(name) if name else None
            known = ("", "")
            if service:
                known = ("", service.provider) if service.weak else (service.provider, "")
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[name] = known
        return known
