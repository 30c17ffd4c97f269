"""Names of one flow, from the payloads of its first packets.

TCP payloads are put in order by their sequence numbers; QUIC Initials need no order. Nothing is
kept but the fields of :class:`Names`: payloads are let go as soon as they have told theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from llmflow.metadata import http1, quic, tls
from llmflow.metadata.ja4 import ja4
from llmflow.metadata.wire import MalformedError, Pieces

# A hello of 64 KiB in records; more segments than that are no handshake.
MAX_SIDE = tls.MAX_HELLO + (1 << 12)
MAX_PIECES = 64
MAX_IDLE = 1 << 14  # bytes held where nothing begins like a hello
MAX_LATE = 16  # payloads behind a gap in a hello, after which nobody fills it any more
MAX_STARTS = 12  # payloads of one side that begin like a hello and are none, or not yet
_TLS = b"\x16\x03"
_BEGINNINGS = (_TLS, *http1.METHODS)
_FAR = 1 << 62  # beyond any offset


class Names(NamedTuple):
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


class _Hello(NamedTuple):
    """What remains of a hello: the names in it, and whose it is."""

    kind: int
    names: Names


_NO_NAMES = Names()
_NO_REQUEST = http1.Request("", "", connect=False)


def _text(protocol: bytes) -> str:
    """Write an ALPN id as text; GREASE and all else that cannot be shown is escaped."""
    text = protocol.decode("ascii", "backslashreplace")
    return "".join(x if x.isprintable() else f"\\x{ord(x):02x}" for x in text)


@lru_cache(maxsize=1024)
def _texts(protocols: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(map(_text, protocols))


class _Side:
    """One direction of a TCP connection: the lowest hello, and the lowest request.

    Attributes
    ----------
    hello : _Hello or None
        The whole one with the lowest sequence number, which is ``hello_at``; a front if given up.
    request : Request or None
        The same for requests.
    closed : bool
        Given up: too much came that is no hello, or too much behind a gap in one.
    """

    __slots__ = (
        "_agents", "_dead", "_late", "_pieces", "closed",
        "hello", "hello_at", "request", "request_at",
    )  # fmt: skip

    def __init__(self, agents: Sequence[str]) -> None:
        self._agents = agents
        self._pieces = Pieces(MAX_SIDE, MAX_PIECES)
        self._dead: frozenset[int] = frozenset()
        self._late = 0
        self.closed = False
        self.hello: _Hello | None = None
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
        if self.closed or offset >= self.hello_at:
            return
        if offset >= self.request_at and data.startswith(http1.METHODS):
            return
        starts = self._starts()
        behind = starts and offset > starts[0] + self._reach(starts[0])
        if behind and not data.startswith(_BEGINNINGS):
            self._late += 1
            if self._late > MAX_LATE:
                self.close()
            return
        fits = self._pieces.add(offset, data)
        for start in self._starts():
            self._try(start)
        starts = self._starts()
        idle = self._pieces.held > MAX_IDLE and not starts
        if not fits or idle or len(self._dead) + len(starts) > MAX_STARTS:
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
        found = None
        with suppress(MalformedError):  # pieces that contradict each other
            found = tls.record_message(run)
        return found.length + tls.MAX_OVERHEAD if found else MAX_SIDE

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

    def fronts(self) -> tuple[_Hello | None, http1.Request | None]:
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
        """Give up: what is there has to do, and nothing more is held."""
        self.hello, self.request = self.fronts()
        self.closed = True
        self._pieces.drop(-_FAR)


def _read(found: tls.Message, *, is_quic: bool = False) -> _Hello:
    if found.kind == tls.CLIENT_HELLO:
        client = tls.client_hello(found.body, whole=found.whole)
        names = Names(
            sni=client.sni,
            alpn=_texts(client.alpn),
            ech=client.ech is not None,
            ja4=ja4(client, quic=is_quic) if client.whole else "",
            tls_version="1.3" if is_quic else "",
        )
    else:
        server = tls.server_hello(found.body, whole=found.whole)
        names = Names(alpn_chosen=_text(server.alpn), tls_version=tls.version_name(server.version))
    return _Hello(found.kind, names)


def read_client(found: tls.Message) -> Names | None:
    """Names in a ClientHello, or in the front of one; None if it is none, or says nothing.

    Raises
    ------
    MalformedError
        Lengths that contradict each other.
    """
    if found.kind != tls.CLIENT_HELLO:
        return None
    names = _read(found).names
    return names if names != _NO_NAMES else None


def _read_quic(reader: quic.InitialReader) -> Names:
    said = Names()
    found = reader.front()
    if found and found.kind == tls.CLIENT_HELLO:
        with suppress(MalformedError):
            said = _read(found, is_quic=True).names
    return said._replace(quic_version=quic.version_name(reader.version))


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

    __slots__ = ("_events", "_of_quic", "_origin", "_quic", "_sides")

    def __init__(self, agents: Sequence[str] = ()) -> None:
        self._sides = (_Side(agents), _Side(agents))
        self._origin: list[int | None] = [None, None]
        self._quic: quic.InitialReader | None = None
        self._of_quic: Names | None = None
        self._events = False

    @property
    def held(self) -> int:
        """Payload bytes held."""
        one, other = self._sides
        return one.held + other.held + (self._quic.held if self._quic else 0)

    @property
    def complete(self) -> bool:
        """Whether nothing can be added: both hellos are whole, or that of a QUIC client."""
        if self._quic:
            return self._of_quic is not None
        return all(side.hello for side in self._sides)

    @property
    def client_complete(self) -> bool:
        """Whether the client's hello is whole; the server's may still tell what was chosen."""
        if self._quic:
            return self.complete
        return any(side.hello and side.hello.kind == tls.CLIENT_HELLO for side in self._sides)

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
            if self._quic.message and not self._of_quic:
                self._of_quic = _read_quic(self._quic)
                self._quic.message = None
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
            return self._of_quic or _read_quic(self._quic)
        fronts = [side.fronts() for side in self._sides]
        said = {hello.kind: hello.names for hello, _ in fronts if hello}
        server = said.get(tls.SERVER_HELLO, _NO_NAMES)
        request = next((found for _, found in fronts if found), _NO_REQUEST)
        return said.get(tls.CLIENT_HELLO, _NO_NAMES)._replace(
            alpn_chosen=server.alpn_chosen,
            tls_version=server.tls_version,
            host=request.host,
            agent=request.agent,
            event_stream=self._events,
        )


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
