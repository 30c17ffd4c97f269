"""What is said on a connection and when, before anybody knows over which stack it goes.

A *kind* of traffic builds scripts; servers and clients of any transport play them. Both sides build
the same script from the same seed, so nothing but the number of a session and of an exchange has to
travel between them.

How a transport plays an :class:`Exchange`

===========  ===================================================================================
h1, h2, h3   ``method path`` with ``headers`` and ``body``; the reply has ``content_type``, its
             head goes out ``head`` seconds after the request is complete, and each
             :class:`Write` is one write of the body, flushed. ``up`` are later pieces of the
             request's body: the reply then begins with the request's head.
ws, grpc     ``body`` is the client's message, each ``down`` and ``up`` one message; ``method``,
             ``path`` and ``headers`` are those of the first exchange.
tls, tcp     the same with writes into a stream of bytes.
udp          the same with datagrams, and exactly one exchange.
===========  ===================================================================================

Times are seconds, and deadlines: a writer that is late does not shift what follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

LLM_STREAM, LLM_NONSTREAM, OTHER = "llm-stream", "llm-service-no-stream", "other"
TRANSPORTS = ("h1", "h2", "h3", "ws", "grpc", "tls", "tcp", "udp")


@dataclass(frozen=True, slots=True)
class Write:
    """One write of an application.

    Parameters
    ----------
    due : float
        Seconds after the request is complete at the server (down) or after the client began the
        exchange (up); never decreasing within an exchange.
    data : bytes
        What is written; at least one byte.
    tokens : int, optional
        Tokens of a model in it: ground truth for estimates.
    """

    due: float
    data: bytes
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its reply.

    Parameters
    ----------
    down, up : tuple of Write
        What the server writes, and what the client writes behind the request.
    body : bytes
        The request.
    think : float
        Seconds from the end of the last exchange that was not ``beside`` to the request; for one
        that is, from that exchange's start.
    beside : bool
        Goes on beside the exchange before: telemetry, assets of a page. Over h1 on a connection of
        its own, over ws, grpc, tls, tcp and udp not allowed.
    streams : bool
        Whether the reply is a model's token stream.
    head : float or None
        When the head of the reply is due; None: with its first byte.
    abort : float or None
        The client goes away so many seconds after its request (a user's stop button).
    """

    down: tuple[Write, ...]
    body: bytes = b""
    up: tuple[Write, ...] = ()
    think: float = 0.0
    beside: bool = False
    streams: bool = False
    method: str = "POST"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "text/event-stream"
    head: float | None = None
    abort: float | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of traffic.

    Parameters
    ----------
    name : str
        Unique; words joined by hyphens.
    label : str
        ``LLM_STREAM``, ``LLM_NONSTREAM`` or ``OTHER``: what a connection of this kind is.
    category : str
        Family it is reported under: the provider framing of LLM traffic, the sort of a look-alike.
    transports : tuple of str
        Which of ``TRANSPORTS`` it goes over in real life, the most usual first.
    build : callable
        ``build(rng, seconds)`` makes the exchanges of one connection, at most about ``seconds``
        long. All randomness comes from ``rng``.
    clients : tuple of str, optional
        Clients that may play it beside the transport's own: ``openai``, ``anthropic``,
        ``google-genai`` (the official SDKs, over h1), ``chromium`` (h2, h3).
    """

    name: str
    label: str
    category: str
    transports: tuple[str, ...]
    build: Callable[[Random, float], tuple[Exchange, ...]]
    clients: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """One planned connection: a kind, and how, where and when it is played.

    Parameters
    ----------
    number : int
        Its place in the plan.
    kind : str
        Name of a kind, or of a program (``programs``).
    transport, front, client : str
        Stack: transport, server software (``uvicorn``, ``hypercorn``, ``nginx``, ``caddy``,
        ``grpcio``, ``websockets``, ``asyncio``), client software (``httpx``, ``aioquic``,
        ``websockets``, ``grpcio``, ``asyncio`` or one of ``Kind.clients``).
    path : str
        Name of the access path.
    start, seconds : float
        When it begins, seconds from the start of the run, and about how long it may last.
    seed : int
        Makes the script, together with kind and seconds.
    """

    number: int
    kind: str
    transport: str
    front: str
    client: str
    path: str
    start: float
    seconds: float
    seed: int
