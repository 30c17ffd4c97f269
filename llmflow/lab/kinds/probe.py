"""Tiny kinds that say nothing about life: they show that a stack plays what it is told."""

from __future__ import annotations

from random import Random

from llmflow.lab.script import LLM_STREAM, OTHER, TRANSPORTS, Exchange, Kind, Write


def _drip(rng: Random, seconds: float) -> tuple[Exchange, ...]:
    """Two replies that drip, with a moment to think between them."""
    step = min(0.02, seconds / 40)
    replies = []
    for _ in range(2):
        times = [0.02 + step * turn for turn in range(12)]
        down = tuple(Write(at, rng.randbytes(rng.randrange(20, 200)), 1) for at in times)
        replies.append(Exchange(down, b'{"stream": true}', think=0.05, streams=True))
    return tuple(replies)


def _echo(rng: Random, seconds: float) -> tuple[Exchange, ...]:
    """Both sides write at once; over UDP too, as it is one exchange."""
    step = min(0.01, seconds / 40)
    up, down = (
        tuple(Write(step * turn, rng.randbytes(120)) for turn in range(1, 9)) for _ in range(2)
    )
    return (
        Exchange(down, b"hello", up, content_type="application/octet-stream", path="/lab/Echo"),
    )


def _page(rng: Random, seconds: float) -> tuple[Exchange, ...]:
    """A page with something beside it, left early, and then another."""
    step = min(0.05, seconds / 40)
    long = tuple(Write(step * turn, rng.randbytes(500), 1) for turn in range(1, 41))
    short = (Write(0.01, rng.randbytes(3000)),)
    return (
        Exchange(long, b"ask", streams=True, abort=0.3, head=0.01),
        Exchange(short, b"tell", think=0.05, beside=True, content_type="text/plain"),
        Exchange(short, think=0.1, method="GET", path="/next", content_type="text/html"),
        Exchange((), b"count", think=0.05, path="/count"),
    )


def _stop(rng: Random, seconds: float) -> tuple[Exchange, ...]:
    """A stream that its user stops, and another question."""
    step = min(0.05, seconds / 40)
    long = tuple(Write(step * turn, rng.randbytes(60), 1) for turn in range(1, 81))
    again = Exchange(long[:3], b"again", think=0.05, streams=True)
    return (Exchange(long, b"ask", streams=True, abort=0.3, path="/lab/Stop"), again)


KINDS = (
    Kind("probe-drip", LLM_STREAM, "probe", tuple(t for t in TRANSPORTS if t != "udp"), _drip),
    Kind("probe-echo", OTHER, "probe", TRANSPORTS, _echo),
    Kind("probe-page", LLM_STREAM, "probe", ("h1", "h2", "h3"), _page),
    Kind("probe-stop", LLM_STREAM, "probe", ("ws", "grpc", "tls", "tcp"), _stop),
)
