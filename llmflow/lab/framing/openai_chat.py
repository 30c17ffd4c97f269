"""OpenAI chat completions as server-sent events, and the many services that imitate them.

Fields and their order follow the types of the official Python library and recorded streams. With
obfuscation on (the default of the service) a delta and its padding are equally long together, so
each event of GPT-4o has 313 bytes: measured in 180 captures of March 2026, where frames have
66 + 22 + 7 + 313 n bytes. The first event has 345 bytes there, the last one 311.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from llmflow.lab.framing import Message, dumps, sse
from llmflow.lab.text import identifier

# Characters of a delta and its obfuscation together: what makes the events as long as measured.
PADDED, ROLE_PADDED, LAST_PADDED = 13, 11, 21
CREATED = 1_774_800_000


@dataclass(frozen=True, slots=True)
class Dialect:
    """What sets a service apart.

    Parameters
    ----------
    model : str
    id_prefix, id_length : str, int
        Of the reply's identifier.
    padding : str
        ``obfuscation`` (OpenAI), ``p`` (Mistral, Cloudflare), or none.
    extra : dict
        Further members of each event, before the choices.
    role_event : bool
        Whether a first event names the role.
    usage : str
        Where the usage stands: in an event of its own (``own``), in the last event (``last``), or
        nowhere (``none``).
    comment : str
        A comment that keeps the connection alive; empty: none.
    """

    model: str
    id_prefix: str = "chatcmpl-"
    id_length: int = 29
    padding: str = ""
    extra: tuple[tuple[str, object], ...] = ()
    role_event: bool = True
    usage: str = "none"
    comment: str = ""


OPENAI = Dialect(
    "gpt-4o-2024-08-06",
    padding="obfuscation",
    extra=(("service_tier", "default"), ("system_fingerprint", "fp_7d0f2c5a1b")),
)


class ChatCompletions:
    """One streamed chat completion.

    Parameters
    ----------
    tool : str
        It is a call of this tool, told in pieces of its arguments; empty: text.
    thinks : int
        So many tokens in front of the answer are visible reasoning.
    """

    content_type = "text/event-stream; charset=utf-8"

    def __init__(
        self, rng: Random, dialect: Dialect = OPENAI, *, tool: str = "", thinks: int = 0
    ) -> None:
        self._rng, self._dialect, self._tool, self._thinks = rng, dialect, tool, thinks
        self._id = dialect.id_prefix + identifier(rng, dialect.id_length)
        self._tokens = 0

    def _event(
        self, delta: dict[str, object], padding: int, finish: str | None = None, **more: object
    ) -> bytes:
        choice: dict[str, object] = {"index": 0, "delta": delta}
        choice |= {"logprobs": None, "finish_reason": finish}
        return self._chunk([choice], padding, **more)

    def _chunk(self, choices: list[dict[str, object]], padding: int, **more: object) -> bytes:
        dialect = self._dialect
        event: dict[str, object] = {"id": self._id, "object": "chat.completion.chunk"}
        event |= {"created": CREATED, "model": dialect.model, **dict(dialect.extra)}
        event |= {"choices": choices, **more}
        if dialect.padding == "obfuscation":
            event["obfuscation"] = identifier(self._rng, max(0, padding))
        elif dialect.padding:
            event[dialect.padding] = identifier(self._rng, self._rng.choice((5, 17)))
        return sse(event)

    def _call(self, call: Mapping[str, object]) -> dict[str, object]:
        return {"tool_calls": [{"index": 0, **call}]}

    def begin(self) -> list[bytes]:
        if self._tool:
            call = {
                "id": f"call_{identifier(self._rng, 24)}",
                "type": "function",
                "function": {"name": self._tool, "arguments": ""},
            }
            delta = {"role": "assistant", "content": None, **self._call(call)}
            return [self._event(delta, ROLE_PADDED)]
        if not self._dialect.role_event:
            return []
        return [self._event({"role": "assistant", "content": "", "refusal": None}, ROLE_PADDED)]

    def piece(self, tokens: Sequence[str]) -> bytes:
        events = []
        for token in tokens:
            events.append(self._event(self._delta(token), PADDED - len(token)))
            self._tokens += 1
        return b"".join(events)

    def _delta(self, token: str) -> dict[str, object]:
        if self._tool:
            return self._call({"function": {"arguments": token}})
        if self._tokens < self._thinks:
            return {"content": None, "reasoning_content": token}
        return {"content": token}

    def end(self) -> list[bytes]:
        usage = {
            "prompt_tokens": 1200,
            "completion_tokens": self._tokens,
            "total_tokens": 1200 + self._tokens,
        }
        finish = "tool_calls" if self._tool else "stop"
        last = {"usage": usage} if self._dialect.usage == "last" else {}
        frames = [self._event({}, LAST_PADDED, finish, **last)]
        if self._dialect.usage == "own":
            frames.append(self._chunk([], PADDED, usage=usage))
        return [*frames, b"data: [DONE]\n\n"]

    def idle(self) -> bytes:
        return f": {self._dialect.comment}\n\n".encode() if self._dialect.comment else b""


TOOLS = ("read_file", "run_command", "search", "edit_file", "list_directory", "fetch")


def tool_schema(name: str) -> dict[str, object]:
    """The declaration of a tool."""
    parameters = {
        "type": "object",
        "properties": {"path": {"type": "string", "description": "What to work on"}},
        "required": ["path"],
    }
    text = f"The tool {name}: give a path, get what stands there."
    return {"name": name, "description": text, "parameters": parameters}


def ask(
    messages: Sequence[Message], model: str, *, tools: bool = False, stream: bool = True
) -> bytes:
    """The body of a request, as the official Python library sends it."""
    body: dict[str, object] = {"model": model}
    if stream:
        body["stream"] = True
    if tools:
        body["tools"] = [{"type": "function", "function": tool_schema(name)} for name in TOOLS]
    # A tool's result is shown as the user's message: the same bytes without identifiers to match.
    body["messages"] = [
        {"role": "user" if m.role == "tool" else m.role, "content": m.text} for m in messages
    ]
    return dumps(body).encode()
