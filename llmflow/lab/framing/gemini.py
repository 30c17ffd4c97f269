"""Gemini over its API (``alt=sse``): large events, many tokens each, usage in all of them.

Fields follow the types of the official Python library; events of 300 to 600 bytes and text are
from public recordings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random

from llmflow.lab.framing import Message, dumps
from llmflow.lab.framing.openai_chat import TOOLS, tool_schema
from llmflow.lab.text import identifier


class GenerateContent:
    """One streamed answer; with ``tool``, its last event is a call of this tool."""

    content_type = "text/event-stream"

    def __init__(self, rng: Random, model: str = "gemini-2.5-flash", *, tool: str = "") -> None:
        self._model, self._tool, self._tokens = model, tool, 0
        self._prompt = rng.randrange(20, 4000)
        self._response = identifier(rng, 22)

    def _event(self, parts: Sequence[object], finish: str = "") -> bytes:
        candidate: dict[str, object] = {"content": {"parts": parts, "role": "model"}}
        if finish:
            candidate["finishReason"] = finish
        usage = {
            "promptTokenCount": self._prompt,
            "candidatesTokenCount": self._tokens,
            "totalTokenCount": self._prompt + self._tokens,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": self._prompt}],
        }
        event = {
            "candidates": [{**candidate, "index": 0}],
            "usageMetadata": usage,
            "modelVersion": self._model,
            "responseId": self._response,
        }
        return f"data: {dumps(event)}\r\n\r\n".encode()

    def begin(self) -> list[bytes]:
        return []

    def piece(self, tokens: Sequence[str]) -> bytes:
        self._tokens += len(tokens)
        return self._event([{"text": "".join(tokens)}])

    def end(self) -> list[bytes]:
        if self._tool:
            call = {"name": self._tool, "args": {"path": "src/module.py"}}
            return [self._event([{"functionCall": call}], "STOP")]
        return [self._event([{"text": ""}], "STOP")]

    def idle(self) -> bytes:
        return b""


def ask(messages: Sequence[Message], *, tools: bool = False) -> bytes:
    """The body of a request, as the official Python library sends it."""
    roles = {"assistant": "model"}
    contents = [{"parts": [{"text": m.text}], "role": roles.get(m.role, "user")} for m in messages]
    body: dict[str, object] = {"contents": contents}
    if tools:
        declared = dumps([tool_schema(name) for name in TOOLS])
        for kind in ("object", "string"):
            declared = declared.replace(f'"{kind}"', f'"{kind.upper()}"')
        body["tools"] = [{"functionDeclarations": json.loads(declared)}]
        body["generationConfig"] = {}
    return json.dumps(body).encode()
