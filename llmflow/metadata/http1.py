"""HTTP/1 in clear: the host asked for, and whether events are streamed back (RFC 9112, RFC 9110).

Of the head of a message nothing else is kept: no path, no cookie, and of User-Agent only which of
the given tokens is in it. Bodies are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from llmflow.metadata.wire import MalformedError, host_name

METHODS = (
    b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ",
)  # fmt: skip
RESPONSE = b"HTTP/1."
MAX_HEAD = 1 << 14
_MAX_FIELDS = 256


class Request(NamedTuple):
    """Host of a request (RFC 9110, section 7.2), without port; the token its sender is known by."""

    host: str
    agent: str
    connect: bool


def head_length(data: bytes) -> int:
    """Length of a head without the empty line that ends it; -1 if that is not there.

    Lines may end in LF alone (RFC 9112, section 2.2).
    """
    ends = [at for blank in (b"\r\n\r\n", b"\n\n") if (at := data.find(blank)) >= 0]
    return min(ends, default=-1)


def _fields(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and value of field lines; those that are not whole, and the body, are left out."""
    end = head_length(head)
    for line in head[: end if end >= 0 else max(head.rfind(b"\n"), 0)].split(b"\n")[
        1 : _MAX_FIELDS + 1
    ]:
        name, colon, value = line.partition(b":")
        if colon:
            yield name.lower(), value.strip()


def request(data: bytes, agents: Sequence[str] = ()) -> Request:
    """Read the head of a request.

    Parameters
    ----------
    data : bytes
        Payload that begins with a method.
    agents : sequence of str
        Tokens looked for in User-Agent, whatever their case; the first that is there is given.

    Raises
    ------
    MalformedError
        No request of HTTP/1.
    """
    data = data[:MAX_HEAD]
    line = data.partition(b"\n")[0].rstrip(b"\r")
    if not data.startswith(METHODS) or not line.rpartition(b" ")[2].startswith(b"HTTP/1."):
        raise MalformedError("no HTTP/1 request")
    host = agent = ""
    for name, value in _fields(data):
        if name == b"host" and not host:
            host = _host(value)
        elif name == b"user-agent" and not agent:
            text = value.decode("latin-1").lower()
            agent = next((token for token in agents if token.lower() in text), "")
        if host and (agent or not agents):
            break
    return Request(host, agent, data.startswith(b"CONNECT "))


def _host(value: bytes) -> str:
    text = value.decode("latin-1")
    if text.startswith("["):  # an IPv6 literal is no name
        return ""
    return host_name(text.partition(":")[0])


def streams_events(data: bytes) -> bool:
    """Whether the head of a response announces server-sent events (WHATWG HTML, section 9.2).

    Raises
    ------
    MalformedError
        No response of HTTP/1.
    """
    if not data.startswith(RESPONSE):
        raise MalformedError("no HTTP/1 response")
    kinds = (value for name, value in _fields(data[:MAX_HEAD]) if name == b"content-type")
    return any(kind.partition(b";")[0].strip().lower() == b"text/event-stream" for kind in kinds)
