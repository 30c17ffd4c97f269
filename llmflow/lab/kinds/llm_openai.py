"""OpenAI over the API: chat completions, Responses, Responses over a WebSocket, Azure's filter."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from random import Random

from llmflow.lab import cadence
from llmflow.lab.cadence import Pace, personal
from llmflow.lab.framing import openai_responses
from llmflow.lab.framing.openai_chat import OPENAI, ChatCompletions, Dialect, ask
from llmflow.lab.framing.openai_responses import Responses
from llmflow.lab.kinds import _headers
from llmflow.lab.kinds._talk import Service, converse
from llmflow.lab.script import LLM_STREAM, Kind
from llmflow.lab.text import identifier

# dev: first byte p50 0.417 s; flushes lognormal(-3.67, 0.753) over all streams, of two events
# mostly, of four at times; one in five leaves as 27 and 599 bytes.
GPT_4O = Pace(
    first=0.42,
    first_sigma=0.35,
    gap=0.0255,
    sigma=0.68,
    tokens=2.4,
    unit=2,
    coupling=0.4,
    writes=1.35,
)
# cheenu.dev (March 2026): 13 ms between chunks, 4.5 characters each.
GPT_MINI = Pace(first=0.5, first_sigma=0.4, gap=0.013, sigma=0.7, writes=1.3)
# whisper: Azure's frames of 1,750 bytes at 0.046 s (sd 0.151): filtered a passage at a time.
AZURE = Pace(first=1.1, gap=0.4, sigma=0.6, tokens=1.3, writes=14.0, spread=0.001)

_PLAIN = replace(OPENAI, padding="")
_AZURE = replace(OPENAI, extra=(*OPENAI.extra, ("prompt_filter_results", [])))


def chat(
    rng: Random, *, dialect: Dialect = OPENAI, pace: Pace = GPT_4O, tools: bool = False
) -> Service:
    """Chat completions as one session meets them."""
    key = f"sk-proj-{identifier(rng, 156)}"
    return Service(
        personal(rng, pace),
        lambda tool: ChatCompletions(rng, dialect, tool=tool),
        partial(ask, model=dialect.model, tools=tools),
        "/v1/chat/completions",
        _headers.sdk("OpenAI", key),
        split=cadence.around(rng, 0.12, 2.5),
        split_at=27 if cadence.chance(rng, 0.5) else rng.randint(8, 120),
    )


def responses(
    rng: Random, *, socket: bool = False, tools: bool = False, reasoning: float = 0.3
) -> Service:
    """Responses as one session meets them."""
    key, model = f"sk-proj-{identifier(rng, 156)}", "gpt-5.1-2025-11-13"
    return Service(
        personal(rng, rng.choice((GPT_4O, GPT_MINI))),
        lambda tool: Responses(rng, model, socket=socket, tool=tool),
        partial(openai_responses.ask, model=model, tools=tools, socket=socket),
        "/v1/responses",
        _headers.sdk("OpenAI", key),
        reasoning=reasoning,
        keeps_history=socket,
    )


_HTTP = ("h1", "h2", "h3")
KINDS = (
    Kind("openai-chat", LLM_STREAM, "openai-chat", _HTTP, converse(chat), ("openai",)),
    Kind(
        "openai-chat-unpadded",
        LLM_STREAM,
        "openai-chat",
        _HTTP,
        converse(partial(chat, dialect=_PLAIN, pace=GPT_MINI)),
        ("openai",),
    ),
    Kind(
        "azure-filter",
        LLM_STREAM,
        "azure-filter",
        ("h1", "h2"),
        converse(partial(chat, dialect=_AZURE, pace=AZURE)),
        ("openai",),
    ),
    Kind(
        "openai-responses",
        LLM_STREAM,
        "openai-responses",
        _HTTP,
        converse(responses),
        ("openai",),
    ),
    Kind(
        "responses-ws",
        LLM_STREAM,
        "responses-ws",
        ("ws",),
        converse(partial(responses, socket=True)),
    ),
)
