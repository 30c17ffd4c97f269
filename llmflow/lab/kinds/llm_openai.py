"""OpenAI chat completions over the API: with and without padding."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from random import Random

from llmflow.lab.cadence import Pace, personal
from llmflow.lab.framing.openai_chat import OPENAI, ChatCompletions, Dialect, ask
from llmflow.lab.kinds import _headers
from llmflow.lab.kinds._talk import Service, converse
from llmflow.lab.script import LLM_STREAM, Kind
from llmflow.lab.text import identifier

# dev: first byte p50 0.417 s; flushes lognormal(-3.67, 0.753), of two events mostly.
GPT_4O = Pace(first=0.42, first_sigma=0.35, gap=0.0255, sigma=0.753, tokens=2.0, writes=1.6)


def _chat(rng: Random, dialect: Dialect) -> Service:
    key = f"sk-proj-{identifier(rng, 156)}"
    return Service(
        personal(rng, GPT_4O),
        lambda tool: ChatCompletions(rng, dialect, tool=tool),
        partial(ask, model=dialect.model),
        "/v1/chat/completions",
        _headers.sdk("OpenAI", key),
        split=0.2 * rng.random(),
    )


_PLAIN = replace(OPENAI, padding="")
KINDS = (
    Kind("openai-chat", LLM_STREAM, "openai-chat", ("h1", "h2"),
         converse(partial(_chat, dialect=OPENAI)), ("openai",)),
    Kind("openai-chat-unpadded", LLM_STREAM, "openai-chat", ("h1", "h2"),
         converse(partial(_chat, dialect=_PLAIN)), ("openai",)),
)  # fmt: skip
