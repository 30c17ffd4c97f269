"""HTTP/1 in clear: the host asked for, and whether events are streamed back (RFC 9112, RFC 9110).

Of the head of a message nothing else is kept: no path, no cookie, and of User-Agent only which of
the given tokens is in it. Bodies are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from llmflow.metadata.wire import MalformedError, host_name

METHODS = (
    b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ",
)  # fmt: skip
RESPONSE = b"HTTP/1."
MAX_HEAD = 1 << 14


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


def _head(data: bytes) -> bytes:
    """The lines of a head that are whole, each with its end, in lower case."""
    end = head_length(data)
    return (data[:end] + b"\n" if end >= 0 else data[: data.rfind(b"\n") + 1]).lower()


def _field(head: bytes, name: bytes) -> bytes:
    """Value of the first field of that name, in lower case; empty if there is none."""
    begin = head.find(b"\n" + name + b":")
    end = head.find(b"\n", begin + 1)
    return head[begin + len(name) + 2 : end].strip() if begin >= 0 else b""


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
    end = data.find(b"\n")
    line = data[:end] if end >= 0 else data
    if not data.startswith(METHODS) or not line.rpartition(b" ")[2].startswith(RESPONSE):
        raise MalformedError("no HTTP/1 request")
    head = _head(data)
    agent = _agent(_field(head, b"user-agent"), tuple(agents)) if agents else ""
    return Request(_host(_field(head, b"host")), agent, data.startswith(b"CONNECT "))


@lru_cache(maxsize=1024)
def _agent(sender: bytes, agents: tuple[str, ...]) -> str:
    text = sender.decode("latin-1").lower()
    return next((token for token in agents if token.lower() in text), "")


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
    kind = _field(_head(data[:MAX_HEAD]), b"content-type")
    return kind.partition(b";")[0].strip() == b"text/event-stream"
