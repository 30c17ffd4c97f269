"""Redis: commands, subscriptions, and its own ways to watch a server."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from llmflow.lab.programs import ClientPlace, Program, ServerPlace
from llmflow.lab.programs._place import Popen
from llmflow.lab.script import OTHER

PORT, TLS_PORT = 6379, 6380


def serve(place: ServerPlace) -> list[Popen]:
    """One server, bare on one port and over TLS on another."""
    argv = ["redis-server", "--bind", *place.addresses, "--port", str(PORT)]
    argv += ["--tls-port", str(TLS_PORT), "--tls-auth-clients", "no", "--save", "", "--dir"]
    argv += [str(place.scratch), "--tls-cert-file", str(place.certificate)]
    argv += ["--tls-key-file", str(place.key), "--tls-ca-cert-file", str(place.certificate)]
    return [place.start(*argv, "--protected-mode", "no")]


def visit(place: ClientPlace) -> None:
    """An application's commands, a subscriber beside a publisher, or an operator's watch."""
    rng = place.rng
    tls = ["-p", str(TLS_PORT), "--tls", "--insecure"]
    client = ["redis-cli", "-h", place.server, *rng.choice((["-p", str(PORT)], tls))]
    topic = f"news-{place.number}"
    style = rng.choice(("commands", "subscribe", "monitor", "latency", "stat"))
    if style in {"latency", "stat"}:
        argv = [*client, f"--{style}", "-i", str(rng.choice((0.01, 0.05, 0.2, 0.5)))]
        with place.popen(*argv):
            place.pause(place.left)
    elif style == "commands":
        _say(place, client, _commands(rng, place.number))
    else:
        listen = ["SUBSCRIBE", topic] if style == "subscribe" else ["MONITOR"]
        publish = _publish(rng, topic) if style == "subscribe" else _commands(rng, place.number)
        with place.popen(*client, *listen):
            _say(place, client, publish)


def _say(place: ClientPlace, client: list[str], lines: Iterator[str]) -> None:
    rate, steady = place.rng.choice((1, 4, 12, 40)), place.rng.random() < 0.4
    gap = (lambda: 1 / rate) if steady else (lambda: place.rng.expovariate(rate))
    place.feed(*client, lines=lines, gap=gap)


def _commands(rng: Random, number: int) -> Iterator[str]:
    size = rng.choice((10, 60, 300, 1200))
    yield f"RPUSH list-{number} " + " ".join(rng.randbytes(size).hex() for _ in range(20))
    while True:
        key = f"key-{number}-{rng.randint(1, 9)}"
        draw = rng.random()
        if draw < 0.3:
            yield f"SET {key} {rng.randbytes(rng.randint(1, size)).hex()}"
        elif draw < 0.7:
            yield f"GET {key}"
        elif draw < 0.85:
            yield f"INCR counter-{number}"
        else:
            yield f"LRANGE list-{number} 0 {rng.randint(0, 20)}"


def _publish(rng: Random, topic: str) -> Iterator[str]:
    size, spread = rng.choice((8, 30, 150, 700)), rng.uniform(0, 0.6)
    while True:
        news = rng.randbytes(max(1, int(rng.gauss(size, size * spread))))
        yield f"PUBLISH {topic} {news.hex()}"


PROGRAMS = (
    Program(
        name="redis",
        label=OTHER,
        category="database",
        needs=("redis-server", "redis-cli"),
        modules=(),
        ports=(("tcp", PORT), ("tcp", TLS_PORT)),
        serve=serve,
        visit=visit,
    ),
)
