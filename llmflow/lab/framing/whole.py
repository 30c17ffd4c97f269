"""Replies of LLM services that come whole: no stream. And what asks for embeddings.

Fields follow the types of the official Python library of OpenAI.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from random import Random

from llmflow.lab.framing import dumps
from llmflow.lab.framing.openai_chat import CREATED
from llmflow.lab.text import identifier


def chat_completion(rng: Random, text: str, tokens: int, model: str) -> bytes:
    """A whole chat completion."""
    said: dict[str, object] = {"role": "assistant", "content": text, "refusal": None}
    choice = {
        "index": 0,
        "message": {**said, "annotations": []},
        "logprobs": None,
        "finish_reason": "stop",
    }
    details = {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0}
    usage = {
        "prompt_tokens": 1200,
        "completion_tokens": tokens,
        "total_tokens": 1200 + tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {**details, "rejected_prediction_tokens": 0},
    }
    return dumps(
        {
            "id": f"chatcmpl-{identifier(rng, 29)}",
            "object": "chat.completion",
            "created": CREATED,
            "model": model,
            "choices": [choice],
            "usage": usage,
            "service_tier": "default",
            "system_fingerprint": "fp_7d0f2c5a1b",
        }
    ).encode()


def message(rng: Random, text: str, tokens: int, model: str) -> bytes:
    """A whole message of Anthropic."""
    return dumps(
        {
            "model": model,
            "id": f"msg_{identifier(rng, 24)}",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1200, "output_tokens": tokens, "service_tier": "standard"},
        }
    ).encode()


def embeddings(rng: Random, count: int, dimensions: int) -> bytes:
    """Embeddings as base64, as the official library asks for them."""
    noise = struct.pack(f"<{dimensions}f", *(rng.gauss(0, 0.03) for _ in range(dimensions)))
    data = []
    for index in range(count):
        turn = 4 * rng.randrange(dimensions)
        vector = base64.b64encode(noise[turn:] + noise[:turn]).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": 200 * count, "total_tokens": 200 * count}
    model = "text-embedding-3-small"
    return dumps({"object": "list", "data": data, "model": model, "usage": usage}).encode()


def ask_embeddings(texts: Sequence[str]) -> bytes:
    """The body of a request for embeddings."""
    model = "text-embedding-3-small"
    return dumps({"model": model, "input": list(texts), "encoding_format": "base64"}).encode()


CATEGORIES = (
    "harassment", "harassment/threatening", "sexual", "hate", "hate/threatening", "illicit",
    "illicit/violent", "self-harm/intent", "self-harm/instructions", "self-harm", "sexual/minors",
    "violence", "violence/graphic",
)  # fmt: skip


def moderation(rng: Random) -> bytes:
    """A verdict of the moderation endpoint."""
    result = {
        "flagged": False,
        "categories": dict.fromkeys(CATEGORIES, False),
        "category_scores": {name: rng.random() ** 8 for name in CATEGORIES},
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }
    model = "omni-moderation-latest"
    found = {"id": f"modr-{identifier(rng, 29)}", "model": model, "results": [result]}
    return dumps(found).encode()


def ask_moderation(text: str) -> bytes:
    """The body of a request for moderation."""
    return dumps({"input": text, "model": "omni-moderation-latest"}).encode()
