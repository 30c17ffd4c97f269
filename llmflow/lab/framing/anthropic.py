"""Anthropic messages as server-sent events, also with a tool call.

Fields follow the types of the official Python library. An event of text has 115 bytes and its
text; the service pads some models' events with 0 to 15 spaces before the last brace (public
recordings), and sends ``ping`` events.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from llmflow.lab.framing import Message, dumps, sse
from llmflow.lab.framing.openai_chat import TOOLS, tool_schema
from llmflow.lab.text import identifier


class Messages:
    """One streamed message.

    Parameters
    ----------
    padded : bool
        Spaces before the last brace of each event.
    tool : str
        The message is a call of this tool, told in pieces of its input; empty: text.
    """

    content_type = "text/event-stream; charset=utf-8"

    def __init__(
        self,
        rng: Random,
        model: str = "claude-sonnet-4-5-20250929",
        *,
        padded: bool = False,
        tool: str = "",
    ) -> None:
        self._rng, self._model, self._padded, self._tool = rng, model, padded, tool
        self._tokens = 0

    def _event(self, kind: str, **members: object) -> bytes:
        frame = sse({"type": kind, **members}, kind)
        if self._padded:
            frame = frame[:-3] + b" " * self._rng.randrange(16) + frame[-3:]
        return frame

    def begin(self) -> list[bytes]:
        usage = {
            "input_tokens": 1200,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 1,
            "service_tier": "standard",
        }
        message: dict[str, object] = {
            "model": self._model,
            "id": f"msg_{identifier(self._rng, 24)}",
            "type": "message",
            "role": "assistant",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        block: dict[str, object] = {"type": "text", "text": ""}
        if self._tool:
            call = f"toolu_{identifier(self._rng, 24)}"
            block = {"type": "tool_use", "id": call, "name": self._tool, "input": {}}
        return [
            self._event("message_start", message=message),
            self._event("content_block_start", index=0, content_block=block) + self.idle(),
        ]

    def piece(self, tokens: Sequence[str]) -> bytes:
        self._tokens += len(tokens)
        text = "".join(tokens)
        delta = {"type": "text_delta", "text": text}
        if self._tool:
            delta = {"type": "input_json_delta", "partial_json": text}
        return self._event("content_block_delta", index=0, delta=delta)

    def end(self) -> list[bytes]:
        delta = {"stop_reason": "tool_use" if self._tool else "end_turn", "stop_sequence": None}
        return [
            self._event("content_block_stop", index=0),
            self._event("message_delta", delta=delta, usage={"output_tokens": self._tokens})
            + self._event("message_stop"),
        ]

    def idle(self) -> bytes:
        return sse({"type": "ping"}, "ping")


def ask(
    messages: Sequence[Message], model: str, *, tools: bool = False, stream: bool = True
) -> bytes:
    """The body of a request, as the official Python library sends it."""
    said = [
        {"role": "user" if m.role == "tool" else m.role, "content": m.text}
        for m in messages
        if m.role != "system"
    ]
    body: dict[str, object] = {"max_tokens": 8192, "messages": said, "model": model}
    if stream:
        body["stream"] = True
    system = "".join(m.text for m in messages if m.role == "system")
    if system:
        body["system"] = system
    if tools:
        schemas = [tool_schema(name) for name in TOOLS]
        body["tools"] = [
            {
                "name": schema["name"],
                "description": schema["description"],
                "input_schema": schema["parameters"],
            }
            for schema in schemas
        ]
    return dumps(body).encode()
