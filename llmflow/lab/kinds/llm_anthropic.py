"""Anthropic messages over the API."""

from __future__ import annotations

from functools import partial
from random import Random

from llmflow.lab.cadence import Pace, chance, personal
from llmflow.lab.framing.anthropic import Messages, ask
from llmflow.lab.kinds import _headers
from llmflow.lab.kinds._talk import Service, converse
from llmflow.lab.script import LLM_STREAM, Kind
from llmflow.lab.text import identifier

# whisper: gaps 0.116 s on average for Haiku, 62 frames in the longest replies; recordings: newer
# models write 8 to 60 characters an event.
PACES = (
    Pace(first=0.9, gap=0.085, sigma=0.7, tokens=4.5, writes=1.2),
    Pace(first=1.4, gap=0.022, sigma=0.6, tokens=1.2),
    Pace(first=1.1, gap=0.2, sigma=0.5, tokens=11.0),
)


def anthropic(rng: Random, *, tools: bool = False) -> Service:
    """The API as one session meets it."""
    key, padded = f"sk-ant-api03-{identifier(rng, 95)}", chance(rng, 0.5)
    model = "claude-sonnet-4-5-20250929"
    return Service(
        personal(rng, rng.choice(PACES)),
        lambda tool: Messages(rng, model, padded=padded, tool=tool),
        partial(ask, model=model, tools=tools),
        "/v1/messages",
        _headers.sdk("Anthropic", key, ("anthropic-version", "2023-06-01")),
    )


KINDS = (
    Kind("anthropic", LLM_STREAM, "anthropic", ("h1", "h2"), converse(anthropic), ("anthropic",)),
)  # fmt: skip
