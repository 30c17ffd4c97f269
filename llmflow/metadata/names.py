"""Names of one flow, from the payloads of its first packets.

TCP payloads are put in order by their sequence numbers; QUIC Initials need no order. Nothing is
kept but the fields of :class:`Names`: payloads are let go as soon as they have told theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llmflow.metadata import http1, quic, tls
from llmflow.metadata.ja4 import ja4
from llmflow.metadata.wire import MalformedError, Pieces

# A hello of 64 KiB in records; more segments than that are no handshake.
MAX_SIDE = tls.MAX_HELLO + (1 << 12)
MAX_PIECES = 128
MAX_IDLE = 1 << 14  # bytes held where nothing begins like a hello
MAX_STARTS = 16  # payloads of one side that begin like a hello and are none
_TLS = b"\x16\x03"
_BEGINNINGS = (_TLS, *http1.METHODS)
_FAR = 1 << 62  # beyond any offset

Hello = tls.ClientHello | tls.ServerHello


@dataclass(frozen=True, slots=True)
class Names:
    """What a flow says of itself in clear. Empty, None and False where it does not say.

    Parameters
    ----------
    sni : str
        Server name of the ClientHello; with ``ech`` perhaps only that of a front.
    alpn : tuple of str
        Protocols that the client offered.
    alpn_chosen : str
        What the server chose; in clear up to TLS 1.2.
    ech : bool
        The hello has an ECH extension, real or GREASE (:mod:`llmflow.metadata.tls`).
    ja4 : str
        Fingerprint of the client.
    tls_version : str
        ``1.0`` to ``1.3``, as the server chose; QUIC has 1.3 only.
    quic_version : str
        ``1``, ``2``, ``draft-29`` …; also of versions that cannot be read.
    host : str
        Host of the first HTTP/1 request.
    agent : str
        Token of an AI crawler or agent found in that request's User-Agent.
    event_stream : bool
        An HTTP/1 response announced server-sent events.
    """

    sni: str = ""
    alpn: tuple[str, ...] = ()
    alpn_chosen: str = ""
    ech: bool = False
    ja4: str = ""
    tls_version: str = ""
    quic_version: str = ""
    host: str = ""
    agent: str = ""
    event_stream: bool = False


def _text(protocol: bytes) -> str:
    """Write an ALPN id as text; GREASE and other bytes outside ASCII are escaped."""
    return protocol.decode("ascii", "backslashreplace")


class _Side:
    """One direction of a TCP connection: the lowest hello, and the lowest request.

    Attributes
    ----------
    hello : ClientHello, ServerHello or None
        The whole one with the lowest sequence number, which is ``hello_at``.
    request : Request or None
        The same for requests.
    closed : bool
        Given up: too much came that is no hello.
    """

    __slots__ = (
        "_agents", "_dead", "_pieces", "closed", "hello", "hello_at", "request", "request_at",
    )  # fmt: skip

    def __init__(self, agents: Sequence[str]) -> None:
        self._agents = agents
        self._pieces = Pieces(MAX_SIDE, MAX_PIECES)
        self._dead: frozenset[int] = frozenset()
        self.closed = False
        self.hello: Hello | None = None
        self.request: http1.Request | None = None
        self.hello_at = self.request_at = _FAR

    @property
    def held(self) -> int:
        return self._pieces.held

    def add_request(self, offset: int, found: http1.Request) -> None:
        """Keep the lowest; of one sent twice what says more."""
        if (offset, self.request or found) < (self.request_at, found):
            self.request, self.request_at = found, offset

    def add(self, offset: int, data: bytes) -> None:
        """Hold a payload as long as it may belong to the lowest hello or request."""
        starts = self._starts()
        behind = starts and offset > starts[0] + self._reach(starts[0])
        if self.closed or offset >= self.hello_at or (behind and not data.startswith(_BEGINNINGS)):
            return
        if offset >= self.request_at and data.startswith(http1.METHODS):
            return
        fits = self._pieces.add(offset, data)
        for start in self._starts():
            self._try(start)
        idle = self._pieces.held > MAX_IDLE and not self._starts()
        if not fits or idle or len(self._dead) > MAX_STARTS:
            self.close()

    def _starts(self) -> list[int]:
        """Offsets of payloads that may begin a hello or a request."""
        return [
            at
            for at, data in self._pieces.items()
            if at not in self._dead and data.startswith((*_BEGINNINGS, _TLS[: len(data)]))
        ]

    def _reach(self, start: int) -> int:
        """Bytes that the hello or head at ``start`` can take."""
        run = self._pieces.run(start)
        if run.startswith(http1.METHODS):
            return http1.MAX_HEAD
        found = tls.record_message(run)
        return found.length + MAX_IDLE if found else MAX_SIDE

    def _try(self, start: int) -> None:
        run = self._pieces.run(start)
        try:
            if run.startswith(http1.METHODS):
                length = http1.head_length(run)
                if length >= 0:
                    self.add_request(start, http1.request(run, self._agents))
                    self._pieces.drop(start, start + length)
                return
            found = tls.record_message(run)
            if found and found.whole:
                self.hello, self.hello_at = _read(found), start
                self._pieces.drop(start)  # what lies behind tells nothing more
        except MalformedError:
            self._dead |= {start}

    def fronts(self) -> tuple[Hello | None, http1.Request | None]:
        """The hello and the request; where there is no whole one, the front of the lowest."""
        hello, request = self.hello, self.request
        for start in self._starts():
            run = self._pieces.run(start)
            with suppress(MalformedError):
                if run.startswith(http1.METHODS):
                    request = request or http1.request(run, self._agents)
                elif not hello and (found := tls.record_message(run)):
                    hello = _read(found)
        return hello, request

    def close(self) -> None:
        """Give up: nothing more is held."""
        self.closed = True
        self._pieces.drop(-_FAR)


def _read(found: tls.Message) -> Hello:
    read = tls.client_hello if found.kind == tls.CLIENT_HELLO else tls.server_hello
    return read(found.body, whole=found.whole)


class FlowNames:
    """Collects the names of one flow.

    Within the bounds the result is decided by the set of payloads, not by the order in which they
    come: of several hellos of one side the one with the lowest sequence number counts, and so it is
    with requests.

    Parameters
    ----------
    agents : sequence of str
        Tokens of User-Agent to look for.
    """

    __slots__ = ("_events", "_origin", "_quic", "_sides")

    def __init__(self, agents: Sequence[str] = ()) -> None:
        self._sides = (_Side(agents), _Side(agents))
        self._origin: list[int | None] = [None, None]
        self._quic: quic.InitialReader | None = None
        self._events = False

    @property
    def held(self) -> int:
        """Payload bytes held."""
        return sum(side.held for side in self._sides) + (self._quic.held if self._quic else 0)

    @property
    def complete(self) -> bool:
        """Whether nothing can be added: both hellos are whole, or that of a QUIC client."""
        if self._quic:
            return self._quic.message is not None
        return all(side.hello for side in self._sides)

    def add(self, side: int, seq: int | None, payload: bytes) -> None:
        """Take a payload.

        Parameters
        ----------
        side : int
            0 or 1: direction; which of them is the client's is seen from what they say.
        seq : int or None
            TCP sequence number, modulo 2³²; None for a datagram.
        payload : bytes
            As captured.
        """
        if not payload:
            return
        if seq is None:
            if self._quic is None:
                self._quic = quic.InitialReader()
            self._quic.feed(side, payload)
            return
        origin = self._origin[side]
        if origin is None:
            origin = self._origin[side] = seq
        offset = (seq - origin + (1 << 31)) % (1 << 32) - (1 << 31)
        if payload.startswith(http1.RESPONSE):  # its head is one write, and not waited for
            self._events |= http1.streams_events(payload)
        else:
            self._sides[side].add(offset, payload)

    def close(self) -> None:
        """Let all payload go, and hold none any more."""
        for side in self._sides:
            side.close()
        if self._quic:
            self._quic.close()

    def names(self) -> Names:
        """What is known so far; from the fronts of hellos where their ends are missing."""
        if self._quic:
            return self._of_quic(self._quic)
        hellos, requests = zip(*(side.fronts() for side in self._sides), strict=True)
        client = next((x for x in hellos if isinstance(x, tls.ClientHello)), None)
        server = next((x for x in hellos if isinstance(x, tls.ServerHello)), None)
        request = next(filter(None, requests), http1.Request("", "", connect=False))
        return Names(
            **_of_client(client, is_quic=False),
            alpn_chosen=_text(server.alpn) if server else "",
            tls_version=tls.version_name(server.version) if server else "",
            host=request.host,
            agent=request.agent,
            event_stream=self._events,
        )

    def _of_quic(self, reader: quic.InitialReader) -> Names:
        client = None
        found = reader.front()
        if found and found.kind == tls.CLIENT_HELLO:
            with suppress(MalformedError):
                client = tls.client_hello(found.body, whole=found.whole)
        return Names(
            **_of_client(client, is_quic=True),
            tls_version="1.3" if client else "",
            quic_version=quic.version_name(reader.version) if reader.version else "",
        )


def _of_client(hello: tls.ClientHello | None, *, is_quic: bool) -> dict[str, Any]:
    if hello is None:
        return {}
    return {
        "sni": hello.sni,
        "alpn": tuple(map(_text, hello.alpn)),
        "ech": hello.ech is not None,
        "ja4": ja4(hello, quic=is_quic) if hello.whole else "",
    }


def names(packets: Iterable[tuple[int, int | None, bytes]], agents: Sequence[str] = ()) -> Names:
    """Names of a flow from some of its payloads.

    Parameters
    ----------
    packets : iterable of (side, seq, payload)
        As for :meth:`FlowNames.add`, in any order.
    agents : sequence of str
        Tokens of User-Agent to look for.
    """
    flow = FlowNames(agents)
    for side, seq, payload in packets:
        flow.add(side, seq, payload)
    return flow.names()
