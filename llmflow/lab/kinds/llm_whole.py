"""LLM services whose replies come whole: calls without streaming, embeddings, moderation.

dev (four services, 4,001 connections): silence of 1.0 to 3.5 s before a reply of 1.8 to 2.2 kB,
one call a connection; 6.6 to 7.6 kB together.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from llmflow.lab import cadence, text
from llmflow.lab.framing import Message, anthropic, openai_chat, whole
from llmflow.lab.kinds import _headers
from llmflow.lab.kinds._page import PIECE
from llmflow.lab.kinds._talk import LEAST_LEFT, UNHURRIED
from llmflow.lab.script import LLM_NONSTREAM, Exchange, Kind, Write

# One call: wait in seconds, reply, request.
Call = Callable[[Random], tuple[float, bytes, bytes]]


def _calls(
    call: Call, path: str, headers: Callable[[Random], _headers.Headers], mean: float
) -> Callable[[Random, float], tuple[Exchange, ...]]:
    """One after another on a connection, ``mean`` of them on average."""

    def build(rng: Random, seconds: float) -> tuple[Exchange, ...]:
        sent, made, now, think = headers(rng), list[Exchange](), 0.0, 0.0
        for _ in range(cadence.geometric(rng, mean)):
            wait, reply, body = call(rng)
            wait = min(wait, seconds - now - think)
            pieces = [reply[at : at + PIECE] for at in range(0, len(reply), PIECE)]
            down = tuple(Write(wait, piece) for piece in pieces)
            kind = "application/json"
            made.append(
                Exchange(down, body, think=think, path=path, headers=sent, content_type=kind)
            )
            now += think + wait
            think = cadence.lognormal(rng, 2, 1.3) * min(1, seconds / UNHURRIED)
            if now + think + LEAST_LEFT > seconds:
                break
        return tuple(made)

    return build


def _asked(rng: Random) -> tuple[list[Message], str, int, float]:
    """A prompt, a reply, its tokens and the wait for it: as long as it takes to make them."""
    style, tokens = text.style(rng), cadence.reply_length(rng)
    prompt = Message("user", text.text(rng, cadence.prompt_length(rng), style))
    said = "".join(text.tokens(rng, tokens, style))
    wait = cadence.lognormal(rng, 0.5, 0.4) + tokens / cadence.around(rng, 110, 2.5)
    return [prompt], said, tokens, wait


def _openai(rng: Random) -> tuple[float, bytes, bytes]:
    model = openai_chat.OPENAI.model
    messages, said, tokens, wait = _asked(rng)
    reply = whole.chat_completion(rng, said, tokens, model)
    return wait, reply, openai_chat.ask(messages, model, stream=False)


def _anthropic(rng: Random) -> tuple[float, bytes, bytes]:
    model = "claude-sonnet-4-5-20250929"
    messages, said, tokens, wait = _asked(rng)
    reply = whole.message(rng, said, tokens, model)
    return wait, reply, anthropic.ask(messages, model, stream=False)


def _embeddings(rng: Random) -> tuple[float, bytes, bytes]:
    count = cadence.geometric(rng, 8)
    passages = [text.text(rng, rng.randint(5, 400)) for _ in range(count)]
    reply = whole.embeddings(rng, count, rng.choice((512, 1024, 1536)))
    return cadence.lognormal(rng, 0.25, 0.5), reply, whole.ask_embeddings(passages)


def _moderation(rng: Random) -> tuple[float, bytes, bytes]:
    asked = whole.ask_moderation(text.text(rng, cadence.prompt_length(rng)))
    return cadence.lognormal(rng, 0.2, 0.5), whole.moderation(rng), asked


def _key(name: str) -> Callable[[Random], _headers.Headers]:
    return lambda rng: _headers.sdk(name, text.identifier(rng, 160))


def _kind(name: str, call: Call, path: str, client: str, mean: float) -> Kind:
    sdk = _key({"openai": "OpenAI", "anthropic": "Anthropic"}[client])
    build = _calls(call, path, sdk, mean)
    return Kind(name, LLM_NONSTREAM, "llm-whole", ("h1", "h2"), build, (client,))


KINDS = (
    _kind("openai-nonstream", _openai, "/v1/chat/completions", "openai", 1.5),
    _kind("anthropic-nonstream", _anthropic, "/v1/messages", "anthropic", 1.5),
    _kind("embeddings", _embeddings, "/v1/embeddings", "openai", 6),
    _kind("moderation", _moderation, "/v1/moderations", "openai", 4),
)
