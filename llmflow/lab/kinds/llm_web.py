"""The web pages of ChatGPT, Claude and Gemini: token streams among telemetry and files.

Sizes, gaps and transports as in the development captures (November and December 2025): ChatGPT
over TCP, Claude and Gemini over QUIC in home networks and over TCP on a campus.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from llmflow.lab import cadence
from llmflow.lab.cadence import Pace, chance, personal
from llmflow.lab.framing import Compressed, Framing, Message, dumps
from llmflow.lab.framing.anthropic import Messages
from llmflow.lab.framing.chatgpt_web import DeltaEncoding, ask
from llmflow.lab.framing.gemini_web import CumulativeBlobs
from llmflow.lab.kinds import _headers, _page
from llmflow.lab.kinds._talk import Service, Work, converse
from llmflow.lab.script import LLM_STREAM, Exchange, Kind
from llmflow.lab.text import identifier

# Most flush every 202 to 214 ms, give or take 50, a few in a fast mode at 16 to 27 ms.
CHATGPT = Pace(first=1.2, first_sigma=0.8, gap=0.0165, sigma=0.6, clock=0.208, jitter=0.22)
CHATGPT_FAST = Pace(first=1.0, first_sigma=0.6, gap=0.024, sigma=0.7)
# Gaps 13 / 58 / 141 ms (p10, p50, p90).
CLAUDE = Pace(
    first=2.9, first_sigma=0.8, gap=0.058, sigma=0.75, tokens=3.7, coupling=0.6, writes=1.12
)
# Gaps of two sorts: most about a clock of 110 to 160 ms, others about 35 ms.
GEMINI = Pace(
    first=1.6, first_sigma=0.7, gap=0.011, sigma=0.7, tokens=1.5, clock=0.135, jitter=0.19
)
GEMINI_FAST = Pace(first=1.3, first_sigma=0.7, gap=0.036, sigma=0.5, tokens=7.0, coupling=0.6)


def _length(median: float) -> Callable[[Random], int]:
    """Replies as long as the episodes of the captures, and some very short ones."""
    return lambda rng: (
        cadence.short_length(rng)
        if chance(rng, 0.15)
        else round(cadence.lognormal(rng, median, 0.9))
    )


def _beside(
    headers: _headers.Headers, telemetry: str, burst: float, posts: float, files: float
) -> Callable[[Random, float], Sequence[Exchange]]:
    """Uploads of about ``burst`` bytes a reply; mean numbers of small ones, and of files loaded."""

    def beside(rng: Random, seconds: float) -> list[Exchange]:
        sizes = [cadence.around(rng, 500, 3) for _ in range(_count(rng, posts))]
        made = [
            _page.telemetry(rng, headers, telemetry, size, rng.uniform(0, seconds))
            for size in sizes
        ]
        for _ in range(rng.randint(1, 3) if burst else 0):
            size = cadence.lognormal(rng, burst / 2, 0.4)
            moment = rng.uniform(0, min(1.5, seconds))
            made.append(_page.telemetry(rng, headers, telemetry, size, moment))
        for _ in range(_count(rng, files)):
            bytes_ = cadence.lognormal(rng, 20_000, 1.6)
            moment = rng.uniform(0, seconds)
            made.append(_page.load(rng, headers, "/files", bytes_, "image/webp", moment))
        return made

    return beside


def _count(rng: Random, mean: float) -> int:
    return cadence.geometric(rng, 1 + mean) - 1


def _page_of(
    headers: _headers.Headers, share: float, most: int
) -> Callable[[Random], Sequence[Exchange]]:
    """The page itself, in some sessions: the others began earlier."""
    return lambda rng: (
        _page.assets(rng, headers, rng.randint(2, most)) if chance(rng, share) else ()
    )


def chatgpt(rng: Random) -> Service:
    """Uploads of 61 / 118 / 164 kB a reply; a heartbeat every 15 s while the model thinks."""
    headers = _headers.browser(rng, "https://chatgpt.com", 2400, 1800, "text/event-stream")
    return Service(
        personal(rng, CHATGPT if chance(rng, 7 / 8) else CHATGPT_FAST, 1.3),
        lambda _tool: DeltaEncoding(rng),
        lambda messages: ask(messages[-1].text, rng),
        "/backend-api/f/conversation",
        headers,
        reasoning=0.25,
        period=15.0,
        beside=_beside(headers, "/ces/v1/t", 118_000, 2.5, 1.2),
        page=_page_of(headers, 0.3, 12),
    )


def claude(rng: Random) -> Service:
    """One small event at a time, compressed; little else on the connection."""
    headers = _headers.browser(rng, "https://claude.ai", 1600, 0, "text/event-stream")
    path = f"/api/organizations/{identifier(rng, 36)}/chat_conversations/{identifier(rng, 36)}"
    packed = chance(rng, 0.96)

    def reply(_tool: str) -> Framing:
        framing = Messages(rng)
        return Compressed(framing) if packed else framing

    return Service(
        personal(rng, CLAUDE, 1.3),
        reply,
        lambda messages: _ask(messages[-1], rng),
        f"{path}/completion",
        headers,
        reasoning=0.15,
        beside=_beside(headers, "/v1/b", 0, 0.7, 0.1),
        page=_page_of(headers, 0.2, 8),
    )


def gemini(rng: Random, *, large: bool = False) -> Service:
    """Each update repeats the answer so far, mostly compressed; large ones less so."""
    headers = _headers.browser(rng, "https://gemini.google.com", 2100)
    state = round(cadence.around(rng, 200 if large else 50, 2.5))
    often = (1, 3, 4, 4, 2) if large else (0.3, 1, 2, 3, 5)
    window = rng.choices((0, 12, 13, 14, 15), often)[0]  # 0: not compressed

    def reply(_tool: str) -> Framing:
        framing = CumulativeBlobs(rng, state)
        return Compressed(framing, window) if window else framing

    return Service(
        personal(rng, GEMINI if chance(rng, 0.8) else GEMINI_FAST, 1.3),
        reply,
        lambda messages: _ask(messages[-1], rng),
        "/_/BardChatUi/data/assistant.lamda.BardFrontendService/StreamGenerate?rt=c",
        headers,
        reasoning=0.2,
        beside=_beside(
            headers, "/_/BardChatUi/data/batchexecute", 2_000 * chance(rng, 0.25), 1, 0.3
        ),
        page=_page_of(headers, 0.2, 10),
    )


def _ask(message: Message, rng: Random) -> bytes:
    """What a page sends with a prompt: the text, and state of about 1 to 3 kB."""
    state = identifier(rng, rng.randint(800, 2800))
    return dumps({"prompt": message.text, "timezone": "Europe/Berlin", "state": state}).encode()


def _kind(
    name: str, transports: tuple[str, ...], meet: Callable[[Random], Service], tokens: float
) -> Kind:
    build = converse(meet, Work(reply=_length(tokens)))
    return Kind(name, LLM_STREAM, name.removesuffix("-large"), transports, build, ("chromium",))


KINDS = (
    _kind("chatgpt-web", ("h2",), chatgpt, 900),
    _kind("claude-web", ("h3", "h2"), claude, 650),
    _kind("gemini-web", ("h3", "h2"), gemini, 600),
    # Code and documents, as in the captures over TCP.
    _kind("gemini-web-large", ("h2", "h3"), partial(gemini, large=True), 1300),
)
