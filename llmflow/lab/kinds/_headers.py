"""Request headers as SDKs, browsers and other clients send them; sizes count, values do not.

Host, length and connection headers are the transport's.
"""

from __future__ import annotations

from random import Random

from llmflow.lab.text import identifier

Headers = tuple[tuple[str, str], ...]

_BLINK = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15"
BROWSERS = (
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_BLINK}",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT}",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
)


def sdk(name: str, key: str, *more: tuple[str, str]) -> Headers:
    """What the official Python libraries of OpenAI and Anthropic send."""
    return (
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate"),
        ("content-type", "application/json"),
        ("user-agent", f"{name}/Python 2.13.0"),
        ("x-stainless-lang", "python"),
        ("x-stainless-package-version", "2.13.0"),
        ("x-stainless-os", "Linux"),
        ("x-stainless-arch", "x64"),
        ("x-stainless-runtime", "CPython"),
        ("x-stainless-runtime-version", "3.12.8"),
        ("x-stainless-async", "false"),
        ("x-stainless-retry-count", "0"),
        ("x-stainless-read-timeout", "600"),
        ("authorization", f"Bearer {key}"),
        *more,
    )


def plain(rng: Random, key_length: int = 48) -> Headers:
    """What programs without a library of the provider send."""
    agent = rng.choice(
        ("python-requests/2.32.5", "Go-http-client/2.0", "axios/1.12.2", "okhttp/5.1.0")
    )
    return (
        ("accept", "*/*"),
        ("content-type", "application/json"),
        ("user-agent", agent),
        ("authorization", f"Bearer {identifier(rng, key_length)}"),
    )


def browser(
    rng: Random, origin: str, cookie: int = 0, token: int = 0, accept: str = "*/*"
) -> Headers:
    """What a page's fetch sends; ``cookie`` and ``token`` are lengths, 0 for none."""
    found = [
        ("accept", accept),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        (
            "accept-language",
            rng.choice(("en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.8", "ja,en;q=0.7")),
        ),
        ("content-type", "application/json"),
        ("origin", origin),
        ("referer", f"{origin}/c/{identifier(rng, 36)}"),
        ("sec-fetch-dest", "empty"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-site", "same-origin"),
        ("user-agent", rng.choice(BROWSERS)),
    ]
    if token:
        found.append(("authorization", f"Bearer {identifier(rng, token)}"))
    if cookie:
        found.append(("cookie", f"session={identifier(rng, cookie)}"))
    return tuple(found)
