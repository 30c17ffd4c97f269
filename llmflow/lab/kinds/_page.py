"""What a chat's web page does beside the replies: telemetry, scripts, images."""

from __future__ import annotations

from random import Random

from llmflow.lab.cadence import around, lognormal
from llmflow.lab.kinds._headers import Headers
from llmflow.lab.script import Exchange, Write
from llmflow.lab.text import identifier

PIECE = 16_384  # bytes of a write of bulk: a TLS record


def bulk(rng: Random, size: int, due: float = 0.03) -> tuple[Write, ...]:
    """Writes of a file that is ready: as fast as the connection takes them."""
    block = rng.randbytes(PIECE)
    sizes = [PIECE] * (size // PIECE) + [size % PIECE or 1]
    return tuple(Write(due + 0.0002 * i, block[:part]) for i, part in enumerate(sizes))


def load(
    rng: Random, headers: Headers, path: str, size: float, content_type: str, think: float
) -> Exchange:
    """A file of about ``size`` bytes, fetched beside the exchange before."""
    return Exchange(
        bulk(rng, round(size), due=rng.uniform(0.01, 0.12)),
        think=think,
        beside=True,
        method="GET",
        path=f"{path}/{identifier(rng, 20)}",
        headers=headers,
        content_type=content_type,
    )


def assets(rng: Random, headers: Headers, count: int) -> list[Exchange]:
    """The page, and scripts and styles beside it."""
    page = Exchange(
        bulk(rng, round(around(rng, 60_000, 3)), due=0.15),
        method="GET",
        headers=headers,
        content_type="text/html; charset=utf-8",
    )
    sizes = [lognormal(rng, 25_000, 1.3) for _ in range(count)]
    return [page] + [
        load(rng, headers, "/assets", size, "text/javascript", rng.uniform(0.1, 0.6))
        for size in sizes
    ]


def telemetry(rng: Random, headers: Headers, path: str, size: float, think: float) -> Exchange:
    """An upload of about ``size`` bytes, beside the exchange before."""
    return Exchange(
        (Write(rng.uniform(0.01, 0.05), b'{"success":true}'),),
        identifier(rng, round(size)).encode(),
        think=think,
        beside=True,
        path=path,
        headers=headers,
        content_type="application/json",
    )
