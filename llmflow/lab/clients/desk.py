"""What every client has at hand: where servers are, TLS, and the log of what it saw."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from llmflow.lab.clients.config import ClientConfig, Endpoint
from llmflow.lab.kinds import kinds
from llmflow.lab.records import append_records
from llmflow.lab.script import LLM_NONSTREAM, LLM_STREAM, OTHER, Exchange, Session

Address = tuple[str, int]
UNKNOWN: Address = ("", 0)


@dataclass(slots=True)
class Connection:
    """A connection as its client knows it."""

    local: Address
    server: Address
    start: float
    protocol: str = "tcp"
    end: float | None = None
    error: str | None = None


@dataclass(slots=True)
class Seen:
    """An exchange as its client sees it; moments are unix seconds."""

    index: int
    exchange: Exchange
    start: float
    late: float = 0.0
    first: float | None = None
    end: float = 0.0
    events: int = 0
    size: int = 0
    crc: int | None = 0  # of the reply, CRC-32; None where nobody saw the bytes
    request: int = 0
    error: str | None = None
    connection: Connection | None = None

    def took(self, data: bytes) -> None:
        """Note a piece of the reply."""
        if self.first is None:
            self.first = time.time()
        self.events += 1
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc or 0)


class Desk:
    """Everything one session's client needs, and where it leaves its records.

    Parameters
    ----------
    config : ClientConfig
    session : Session
    """

    def __init__(self, config: ClientConfig, session: Session) -> None:
        self.config, self.session = config, session
        self.endpoint: Endpoint = config.servers[session.front]
        self.connections: list[Connection] = []
        self._seen: list[Seen] = []
        hosts = config.hosts
        self.host = hosts[session.number % len(hosts)] if hosts else None

    def port(self) -> int:
        """Port of the server for the session's transport."""
        point = self.endpoint
        return {"tcp": point.tcp_port, "udp": point.udp_port}.get(
            self.session.transport, point.port
        )

    def url(self, path: str) -> str:
        """Address of something on the server."""
        return f"https://{self.endpoint.name}:{self.port()}{path}"

    def name(self, index: int) -> str:
        """Give the value of ``x-lab``."""
        return f"{self.session.number}-{index}"

    def source(self) -> str:
        """Address that the session's sockets are bound to."""
        if self.host is not None:
            return self.host
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # sends nothing
            probe.connect((self.endpoint.address, self.port()))
            return str(probe.getsockname()[0])

    def tls(self, *alpn: str) -> ssl.SSLContext:
        """TLS as the session's kind has it."""
        oldest = self.session.kind in self.config.tls12
        return _context(self.config.ca, self.config.keys, alpn, oldest)

    def connected(self, local: Address, protocol: str = "tcp") -> Connection:
        """Note that a connection is open."""
        server = self.endpoint.address, self.port()
        connection = Connection(local, server, time.time(), protocol)
        self.connections.append(connection)
        return connection

    def note(self, seen: Seen) -> None:
        """Keep an exchange for the log; it may go on changing."""
        self._seen.append(seen)

    @contextlib.contextmanager
    def exchange(
        self, index: int, exchange: Exchange, due: float, connection: Connection | None = None
    ) -> Iterator[Seen]:
        """Note an exchange while it is played, and how it ended; ``due``: when it was to begin."""
        now = time.time()
        size = len(exchange.body) + sum(len(item.data) for item in exchange.up)
        seen = Seen(index, exchange, now, max(0.0, now - due), connection=connection, request=size)
        self.note(seen)
        try:
            yield seen
        except BaseException as error:
            seen.error = said(error)
            raise
        finally:
            seen.end = time.time()

    def write(self, error: str | None) -> None:
        """Append the session's records to the log; ``error``: why it did not end well."""
        append_records(
            Path(self.config.log), [*self._connection_records(error), *self._exchange_records()]
        )

    def _connection_records(self, error: str | None) -> list[dict[str, object]]:
        session, kind = self.session, kinds()[self.session.kind]
        # A session that never got anywhere leaves a record too.
        found = self.connections or [self.connected(UNKNOWN)]
        said = {
            "record": "connection",
            "number": session.number,
            "kind": session.kind,
            "category": kind.category,
            "transport": session.transport,
            "front": session.front,
            "client": session.client,
            "path": session.path,
        }
        return [
            {
                **said,
                "label": _label(
                    kind.label, [seen for seen in self._seen if seen.connection is item]
                ),
                **_ends(item),
                "protocol": item.protocol,
                "start": round(item.start, 6),
                "end": round(item.end or time.time(), 6),
                "error": item.error or (error if item is found[0] else None),
            }
            for item in found
        ]

    def _exchange_records(self) -> list[dict[str, object]]:
        return [
            {
                "record": "exchange",
                "number": self.session.number,
                "exchange": seen.index,
                **_ends(seen.connection),
                "request_bytes": seen.request,
                "streams": seen.exchange.streams,
                "start": round(seen.start, 6),
                "first": None if seen.first is None else round(seen.first, 6),
                "end": round(seen.end, 6),
                "late": round(seen.late, 6),
                "writes": len(seen.exchange.down),
                "tokens": sum(write.tokens for write in seen.exchange.down),
                "events": seen.events,
                "received_bytes": seen.size,
                "crc32": seen.crc,
                "error": seen.error,
            }
            for seen in self._seen
        ]


def said(error: BaseException) -> str:
    """Give an error as one line."""
    return f"{type(error).__name__}: {error}".strip(": ")[:300]


def _label(label: str, played: list[Seen]) -> str:
    """What a connection is that carried some exchanges of a kind."""
    if all(seen.exchange.beside and not seen.exchange.streams for seen in played):
        return OTHER
    if label == LLM_STREAM and not any(seen.exchange.streams and seen.events for seen in played):
        return LLM_NONSTREAM
    return label


def _ends(connection: Connection | None) -> dict[str, object]:
    local, server = (connection.local, connection.server) if connection else (UNKNOWN, UNKNOWN)
    return {
        "client_ip": local[0],
        "client_port": local[1],
        "server_ip": server[0],
        "server_port": server[1],
    }


@lru_cache(maxsize=16)
def _context(ca: str, keys: str, alpn: tuple[str, ...], oldest: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.keylog_filename = keys
    if oldest:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
