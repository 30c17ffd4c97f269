"""Ollama's chat: one JSON object a line and token, 150 bytes and text.

Fields as its public documentation of the API shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from llmflow.lab.framing import Message, dumps


class ChatLines:
    """One streamed answer."""

    content_type = "application/x-ndjson"

    def __init__(self, rng: Random, model: str = "llama3.2") -> None:
        self._rng, self._model, self._tokens = rng, model, 0

    def _line(self, text: str, **members: object) -> bytes:
        # Nanoseconds without trailing zeros: sizes vary by a byte or two.
        fraction = str(self._rng.randrange(10**9)).rstrip("0") or "0"
        line = {
            "model": self._model,
            "created_at": f"2026-03-29T14:05:{self._tokens % 60:02}.{fraction}Z",
            "message": {"role": "assistant", "content": text},
            "done": False,
        }
        return (dumps({**line, **members}) + "\n").encode()

    def begin(self) -> list[bytes]:
        return []

    def piece(self, tokens: Sequence[str]) -> bytes:
        self._tokens += len(tokens)
        return b"".join(map(self._line, tokens))

    def end(self) -> list[bytes]:
        times = {
            "done": True,
            "done_reason": "stop",
            "total_duration": 4_883_583_458,
            "load_duration": 1_334_875,
            "prompt_eval_count": 26,
            "prompt_eval_duration": 342_546_000,
            "eval_count": self._tokens,
            "eval_duration": 4_535_599_000,
        }
        return [self._line("", **times)]

    def idle(self) -> bytes:
        return b""


def ask(messages: Sequence[Message], model: str = "llama3.2") -> bytes:
    """The body of a request."""
    said = [{"role": m.role, "content": m.text} for m in messages]
    return dumps({"model": model, "messages": said, "stream": True}).encode()
