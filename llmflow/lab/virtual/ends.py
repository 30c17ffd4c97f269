"""A client and a server of HTTP/3 that play a script to each other on a clock.

They do what those of :mod:`llmflow.lab.clients` and :mod:`llmflow.lab.servers` do in real time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.utils import formatdate
from functools import partial

from aioquic.h3.connection import ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    ProtocolNegotiated,
    QuicEvent,
    StopSendingReceived,
    StreamReset,
)

from llmflow.lab.clients.desk import Connection, Desk, Seen
from llmflow.lab.net.impairment import SECOND
from llmflow.lab.script import Exchange, Write
from llmflow.lab.servers.book import Played
from llmflow.lab.virtual.clock import Clock

_PEER = ("peer", 443)  # aioquic only compares it
_PING = 15  # seconds, while a reply is under way: as browsers do


class End:
    """One end: a QUIC connection on the clock, with HTTP/3 above it.

    Attributes
    ----------
    send : callable
        Puts a datagram on the wire; set it before the first one.
    """

    send: Callable[[bytes], None]

    def __init__(self, clock: Clock, quic: QuicConnection) -> None:
        self.clock, self.quic = clock, quic
        self.h3: H3Connection | None = None
        self._alarm: int | None = None  # the earliest that has been asked for

    def receive(self, data: bytes) -> None:
        """Take a datagram from the wire."""
        self.quic.receive_datagram(data, _PEER, self.clock.elapsed)
        self._heed()

    def transmit(self) -> None:
        """Send what is pending, and set the alarm."""
        for data, _ in self.quic.datagrams_to_send(self.clock.elapsed):
            self.send(data)
        timer = self.quic.get_timer()
        if timer is None:
            return
        # No rounding may make it ring too soon: aioquic would do nothing, for ever.
        when = self.clock.start + int(timer * SECOND) + 1
        if self._alarm is None or when < self._alarm:
            self._alarm = when
            self.clock.at(when, partial(self._ring, when))

    def _ring(self, when: int) -> None:
        if when != self._alarm:  # an earlier one took its place
            return
        self._alarm = None
        timer = self.quic.get_timer()
        if timer is not None and timer <= self.clock.elapsed:
            self.quic.handle_timer(self.clock.elapsed)
        self._heed()

    def _heed(self) -> None:
        while (event := self.quic.next_event()) is not None:
            self.on_quic(event)
            if self.h3 is not None:
                for heard in self.h3.handle_event(event):
                    if isinstance(heard, HeadersReceived | DataReceived):
                        self.on_http(heard)
        self.transmit()

    def on_quic(self, event: QuicEvent) -> None:
        """Heed what QUIC says; for sub-classes."""

    def on_http(self, event: HeadersReceived | DataReceived) -> None:
        """Heed a piece of a request or reply; for sub-classes."""


class _Reply:
    """What the server does about one exchange."""

    def __init__(self, played: Played, stream: int) -> None:
        self.played, self.stream = played, stream
        self.asked = False  # the request is whole
        self.stopped = False
        self.left = len(played.exchange.down)  # writes


class Server(End):
    """Answers as the script says.

    Parameters
    ----------
    clock, quic
        As of :class:`End`.
    script : sequence of Exchange
    number : int
        Of the session.
    peer : (str, int)
        Address of the client, for the records.

    Attributes
    ----------
    played : dict
        What was played, by exchange.
    """

    def __init__(
        self,
        clock: Clock,
        quic: QuicConnection,
        script: Sequence[Exchange],
        number: int,
        peer: tuple[str, int],
    ) -> None:
        super().__init__(clock, quic)
        self.played: dict[int, Played] = {}
        self._replies: dict[int, _Reply] = {}
        self._script, self._number, self._peer = script, number, peer

    def on_quic(self, event: QuicEvent) -> None:
        """Stop replies that nobody wants any more."""
        if isinstance(event, ProtocolNegotiated):
            self.h3 = H3Connection(self.quic)
        elif isinstance(event, StopSendingReceived | StreamReset):
            if event.stream_id in self._replies:
                self._replies[event.stream_id].stopped = True
        elif isinstance(event, ConnectionTerminated):
            for reply in self._replies.values():
                reply.stopped = True

    def on_http(self, event: HeadersReceived | DataReceived) -> None:
        """Take a piece of a request."""
        stream = event.stream_id
        if isinstance(event, HeadersReceived):
            index = int(dict(event.headers)[b"x-lab"].partition(b"-")[2])
            exchange = self._script[index]
            played = self.played[index] = Played(self._number, index, self._peer, exchange)
            self._replies[stream] = _Reply(played, stream)
            if exchange.up:
                self._answer(self._replies[stream])
        reply = self._replies[stream]
        if event.stream_ended:
            reply.asked = True
            if reply.played.exchange.up:
                self._end(reply)
            else:
                self._answer(reply)

    def _answer(self, reply: _Reply) -> None:
        exchange = reply.played.exchange
        reply.played.start = self.clock.unix
        first = exchange.down[0].due if exchange.down else 0.0
        head = first if exchange.head is None else exchange.head
        self.clock.after(head, partial(self._begin, reply))
        for write in exchange.down:
            self.clock.after(max(write.due, head), partial(self._write, reply, write))

    def _begin(self, reply: _Reply) -> None:
        if reply.stopped or self.h3 is None:
            return
        exchange = reply.played.exchange
        headers = [
            (b":status", b"200"),
            (b"content-type", exchange.content_type.encode("latin-1")),
            (b"date", formatdate(self.clock.unix, usegmt=True).encode()),
        ]
        if len(exchange.down) < 2:  # noqa: PLR2004 - of more than one write nobody knows the length
            size = sum(len(write.data) for write in exchange.down)
            headers.append((b"content-length", b"%d" % size))
        self.h3.send_headers(reply.stream, headers)
        self.transmit()
        self._end(reply)

    def _write(self, reply: _Reply, write: Write) -> None:
        if reply.stopped or self.h3 is None:
            return
        reply.played.sent.append(self.clock.unix)
        reply.left -= 1
        self.h3.send_data(reply.stream, write.data, end_stream=False)
        self.transmit()
        self._end(reply)

    def _end(self, reply: _Reply) -> None:
        """End a reply when it is whole; not while the request goes on."""
        if self.h3 is not None and reply.asked and not reply.left and not reply.stopped:
            reply.stopped = True
            self.h3.send_data(reply.stream, b"", end_stream=True)
            self.transmit()


class Client(End):
    """Asks as the script says, and closes the connection when all is answered.

    Parameters
    ----------
    clock, quic
        As of :class:`End`.
    script : sequence of Exchange
    desk : Desk
        Keeps the records.
    connection : Connection
        The client's own.
    """

    def __init__(
        self,
        clock: Clock,
        quic: QuicConnection,
        script: Sequence[Exchange],
        desk: Desk,
        connection: Connection,
    ) -> None:
        super().__init__(clock, quic)
        self._script, self._desk, self._connection = script, desk, connection
        self._waiting: dict[int, Seen] = {}  # by stream
        self._mains = [at for at, exchange in enumerate(script) if not exchange.beside]
        self._left = len(script) if self._mains else 0

    def connect(self) -> None:
        """Begin the handshake."""
        self._connection.start = self.clock.unix
        self.quic.connect(_PEER, self.clock.elapsed)
        self.transmit()

    def on_quic(self, event: QuicEvent) -> None:
        """Begin when the connection is there, and end with it."""
        if isinstance(event, HandshakeCompleted):
            self.h3 = H3Connection(self.quic)
            self._go_on()
            self.clock.after(_PING, self._ping)
        elif isinstance(event, StreamReset):
            self._finish(event.stream_id, "the server reset the stream")
        elif isinstance(event, ConnectionTerminated) and self._connection.end is None:
            self._connection.end = self.clock.unix
            self._connection.error = f"the connection ended: {event.reason_phrase or 'idle'}"
            for stream in list(self._waiting):
                self._finish(stream, self._connection.error)

    def on_http(self, event: HeadersReceived | DataReceived) -> None:
        """Take a piece of a reply."""
        seen = self._waiting.get(event.stream_id)
        if seen is None:  # stopped
            return
        if isinstance(event, DataReceived) and event.data:
            seen.first = self.clock.unix if seen.first is None else seen.first
            seen.took(event.data)
        if event.stream_ended:
            self._finish(event.stream_id, None)

    def _go_on(self) -> None:
        """Plan the next exchange and what goes on beside it, or leave if there is none."""
        if not self._left:
            self._connection.end = self._connection.end or self.clock.unix
            self.quic.close(ErrorCode.H3_NO_ERROR)
        elif self._mains:
            index = self._mains.pop(0)
            think = self._script[index].think
            self.clock.after(think, partial(self._request, index))
            for other in self._beside(index):
                due = think + self._script[other].think
                self.clock.after(due, partial(self._request, other))

    def _beside(self, index: int) -> list[int]:
        """What goes on beside an exchange, or in front of the first."""
        end = self._mains[0] if self._mains else len(self._script)
        first = all(exchange.beside for exchange in self._script[:index])
        return [*range(index if first else 0), *range(index + 1, end)]

    def _request(self, index: int) -> None:
        if self._connection.end is not None or self.h3 is None:
            return
        exchange, stream = self._script[index], self.quic.get_next_available_stream_id()
        pieces = (Write(0.0, exchange.body), *exchange.up)
        size = sum(len(piece.data) for piece in pieces)
        seen = Seen(index, exchange, self.clock.unix, connection=self._connection, request=size)
        self._desk.note(seen)
        self._waiting[stream] = seen
        name = f"{self._desk.endpoint.name}:{self._desk.port()}"
        headers = [
            (b":method", exchange.method.encode()),
            (b":scheme", b"https"),
            (b":authority", name.encode()),
            (b":path", exchange.path.encode()),
            *((name.lower().encode(), value.encode()) for name, value in exchange.headers),
            (b"x-lab", self._desk.name(index).encode()),
        ]
        self.h3.send_headers(stream, headers)
        self._send(stream, pieces[0].data, end=len(pieces) == 1)
        for place, piece in enumerate(exchange.up, 1):
            end = place == len(exchange.up)
            self.clock.after(piece.due, partial(self._send, stream, piece.data, end=end))
        if exchange.abort is not None:
            self.clock.after(exchange.abort, partial(self._leave, stream))

    def _send(self, stream: int, data: bytes, *, end: bool) -> None:
        if stream in self._waiting and self.h3 is not None:
            self.h3.send_data(stream, data, end)
            self.transmit()

    def _leave(self, stream: int) -> None:
        """Take no more of a reply."""
        if stream in self._waiting:
            self.quic.reset_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
            self.quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
            self._finish(stream, None)
            self.transmit()

    def _finish(self, stream: int, error: str | None) -> None:
        seen = self._waiting.pop(stream, None)
        if seen is None:
            return
        seen.end, seen.error = self.clock.unix, error
        self._left -= 1
        if not (seen.exchange.beside and self._left):
            self._go_on()

    def _ping(self) -> None:
        if self._connection.end is None:
            if self._waiting:
                self.quic.send_ping(0)
                self.transmit()
            self.clock.after(_PING, self._ping)
