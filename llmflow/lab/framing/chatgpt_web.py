"""ChatGPT's web page: server-sent events in delta encoding v1.

Events as browsers show them. Sizes on the wire are in steps of 8 bytes (development captures: 62 %
of packets have a payload that leaves 4 modulo 8; 268, 276, 284, 292 … bytes); how the service does
it is not known, here a member of made-up letters fills them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from llmflow.lab.framing import dumps, sse
from llmflow.lab.text import identifier

STEP, REST = 8, 5  # with 22 bytes of TLS 1.3 and 9 of HTTP/2 a payload leaves 4 modulo 8
LEAST = 237  # bytes of an event: 268 of payload
REFERENCES = 0.06  # share of the events with another one beside them
ROOM = 25  # characters of text in it; more text adds to it


class DeltaEncoding:
    """One streamed answer."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, rng: Random, *, quantised: bool = True) -> None:
        self._rng, self._quantised = rng, quantised
        self._message = identifier(rng, 36)
        self._said = 0

    def _padded(self, value: dict[str, object], text: str = "") -> bytes:
        frame = sse(value, "delta")
        if not self._quantised:
            return frame
        bare = len(frame) + len(',"pad":""')
        least = max(bare, LEAST + max(0, len(text.encode()) - ROOM))
        fill = least - bare + (REST - least) % STEP
        return sse({**value, "pad": identifier(self._rng, fill)}, "delta")

    def begin(self) -> list[bytes]:
        message = {
            "id": self._message,
            "author": {"role": "assistant", "name": None, "metadata": {}},
            "create_time": 1764000000.123456,
            "content": {"content_type": "text", "parts": [""]},
            "status": "in_progress",
            "end_turn": None,
            "weight": 1.0,
            "metadata": {
                "citations": [],
                "content_references": [],
                "message_type": "next",
                "model_slug": "gpt-5-1",
                "default_model_slug": "auto",
                "parent_id": identifier(self._rng, 36),
                "request_id": identifier(self._rng, 36),
                "timestamp_": "absolute",
            },
            "recipient": "all",
            "channel": "final",
        }
        conversation = identifier(self._rng, 36)
        token = {"type": "resume_conversation_token", "token": identifier(self._rng, 640)}
        added = {"p": "", "o": "add", "v": {"message": message, "conversation_id": conversation}}
        return [
            b'event: delta_encoding\ndata: "v1"\n\n' + sse(token),
            self._padded({**added, "c": 0}),
        ]

    def piece(self, tokens: Sequence[str]) -> bytes:
        text = "".join(tokens)
        frame = self._padded({"v": text}, text)
        if self._rng.random() < REFERENCES:
            found = {"type": "grouped_webpages", "start_idx": self._said, "alt": ""}
            found |= {"refs": identifier(self._rng, 120), "safe_urls": identifier(self._rng, 90)}
            patch = {"p": "/message/metadata/content_references", "o": "append", "v": [found]}
            frame += self._padded({"o": "patch", "v": [patch]})
        self._said += len(tokens)
        return frame

    def end(self) -> list[bytes]:
        patch = [
            {"p": "/message/status", "o": "replace", "v": "finished_successfully"},
            {"p": "/message/end_turn", "o": "replace", "v": True},
            {"p": "/message/metadata", "o": "append", "v": {"is_complete": True}},
        ]
        complete = {"type": "message_stream_complete", "conversation_id": self._message}
        return [
            self._padded({"o": "patch", "v": patch}) + sse(complete),
            b"data: [DONE]\n\n",
        ]

    def idle(self) -> bytes:
        return b": ping\n\n"


def ask(prompt: str, rng: Random) -> bytes:
    """The body of a request: the new message only; the server keeps the conversation."""
    message = {
        "id": identifier(rng, 36),
        "author": {"role": "user"},
        "create_time": 1764000000.123,
        "content": {"content_type": "text", "parts": [prompt]},
        "metadata": {"selected_github_repos": [], "serialization_metadata": {}},
    }
    return dumps(
        {
            "action": "next",
            "messages": [message],
            "conversation_id": identifier(rng, 36),
            "parent_message_id": identifier(rng, 36),
            "model": "auto",
            "timezone_offset_min": -60,
            "timezone": "Europe/Berlin",
            "conversation_mode": {"kind": "primary_assistant"},
            "enable_message_followups": True,
            "supports_buffering": True,
            "supported_encodings": ["v1"],
            "client_contextual_info": {"page_height": 1011, "page_width": 1920, "pixel_ratio": 2},
        }
    ).encode()
