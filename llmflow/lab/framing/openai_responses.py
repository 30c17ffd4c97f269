"""OpenAI Responses: typed events, as server-sent events or as WebSocket messages.

Fields follow the types of the official Python library. The prologue repeats the settings twice
(about 1.9 kB), the epilogue repeats the whole text four times: a strong end mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from llmflow.lab.framing import Message, dumps, sse
from llmflow.lab.framing.openai_chat import CREATED, TOOLS, tool_schema
from llmflow.lab.text import identifier

PADDED = 16  # characters of a delta and its obfuscation together


class Responses:
    """One streamed response.

    Parameters
    ----------
    socket : bool
        Each event is a WebSocket message of its own, without ``event:`` and ``data:``.
    tool : str
        The response is a call of this tool.
    """

    content_type = "text/event-stream; charset=utf-8"

    def __init__(
        self,
        rng: Random,
        model: str = "gpt-5.1-2025-11-13",
        *,
        padded: bool = True,
        socket: bool = False,
        tool: str = "",
    ) -> None:
        self._rng, self._model, self._padded = rng, model, padded
        self._socket, self._tool = socket, tool
        self._sequence, self._said = 0, list[str]()
        self._response = f"resp_{identifier(rng, 50, '0123456789abcdef')}"
        self._item = f"{'fc' if tool else 'msg'}_{identifier(rng, 50, '0123456789abcdef')}"
        self._call = f"call_{identifier(rng, 24)}"

    def _event(self, kind: str, **members: object) -> bytes:
        event = {"type": kind, "sequence_number": self._sequence, **members}
        self._sequence += 1
        return dumps(event).encode() if self._socket else sse(event, kind)

    def _about(self, status: str, output: Sequence[object]) -> dict[str, object]:
        """The response object: what was asked, and what has come of it."""
        usage = {
            "input_tokens": 1200,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": len(self._said),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 1200 + len(self._said),
        }
        return {
            "id": self._response,
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": None,
            "max_tool_calls": None,
            "model": self._model,
            "output": output,
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "prompt_cache_key": None,
            "prompt_cache_retention": None,
            "reasoning": {"effort": "none", "summary": None},
            "safety_identifier": None,
            "service_tier": "auto" if status == "in_progress" else "default",
            "store": True,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}, "verbosity": "medium"},
            "tool_choice": "auto",
            "tools": [],
            "top_logprobs": 0,
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": usage if status == "completed" else None,
            "user": None,
            "metadata": {},
        }

    def _text(self) -> dict[str, object]:
        text = "".join(self._said)
        return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}

    def _output(self, status: str, content: Sequence[Mapping[str, object]]) -> dict[str, object]:
        if self._tool:
            item = {"type": "function_call", "call_id": self._call, "name": self._tool}
            return {"id": self._item, **item, "status": status, "arguments": "".join(self._said)}
        message = {"id": self._item, "type": "message", "status": status}
        return {**message, "content": content, "role": "assistant"}

    def begin(self) -> list[bytes]:
        frames = [
            self._event("response.created", response=self._about("in_progress", [])),
            self._event("response.in_progress", response=self._about("in_progress", [])),
            self._event(
                "response.output_item.added", output_index=0, item=self._output("in_progress", [])
            ),
        ]
        if not self._tool:
            place = {"item_id": self._item, "output_index": 0, "content_index": 0}
            frames.append(self._event("response.content_part.added", **place, part=self._text()))
        return frames if self._socket else [b"".join(frames[:2]), b"".join(frames[2:])]

    def piece(self, tokens: Sequence[str]) -> bytes:
        self._said += tokens
        # A WebSocket message is one event.
        deltas = ["".join(tokens)] if self._socket else tokens
        return b"".join(map(self._delta, deltas))

    def _delta(self, token: str) -> bytes:
        padding = {}
        if self._padded:
            padding = {"obfuscation": identifier(self._rng, max(0, PADDED - len(token)))}
        place: dict[str, object] = {"item_id": self._item, "output_index": 0}
        if self._tool:
            kind = "response.function_call_arguments.delta"
            return self._event(kind, **place, delta=token, **padding)
        place |= {"content_index": 0, "delta": token, "logprobs": []}
        return self._event("response.output_text.delta", **place, **padding)

    def end(self) -> list[bytes]:
        text = "".join(self._said)
        place: dict[str, object] = {"item_id": self._item, "output_index": 0}
        if self._tool:
            kind = "response.function_call_arguments.done"
            frames = [self._event(kind, **place, name=self._tool, arguments=text)]
        else:
            place["content_index"] = 0
            frames = [
                self._event("response.output_text.done", **place, text=text, logprobs=[]),
                self._event("response.content_part.done", **place, part=self._text()),
            ]
        item = self._output("completed", [self._text()])
        frames += [
            self._event("response.output_item.done", output_index=0, item=item),
            self._event("response.completed", response=self._about("completed", [item])),
        ]
        return frames if self._socket else [b"".join(frames[:-1]), frames[-1]]

    def idle(self) -> bytes:
        return b""


def ask(
    messages: Sequence[Message],
    model: str,
    *,
    tools: bool = False,
    stream: bool = True,
    socket: bool = False,
) -> bytes:
    """The body of a request; over a WebSocket the message that asks for a response."""
    body: dict[str, object] = {"type": "response.create"} if socket else {}
    body["model"] = model
    if stream and not socket:
        body["stream"] = True
    if tools:
        body["tools"] = [{"type": "function", **tool_schema(name)} for name in TOOLS]
    if socket:
        body |= {"store": False, "previous_response_id": "resp_" + "0" * 50}
    body["input"] = [
        {"role": "user" if m.role == "tool" else m.role, "content": m.text} for m in messages
    ]
    return dumps(body).encode()
