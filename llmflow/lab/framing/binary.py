"""Token streams in binary frames: AWS event streams, protobuf messages of gRPC services.

The event stream's layout (prelude, headers, payload, two CRC-32) is Amazon's; its ``p`` member of
17 to 50 letters is padding (public recordings). The protobuf message has the fields of common
inference services: a text, a token's number, a logarithm of probability.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from random import Random

from llmflow.lab.framing import Message, dumps

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def event_frame(kind: str, payload: bytes) -> bytes:
    """A frame of an AWS event stream."""
    headers = b""
    for name, value in (
        (":event-type", kind),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ):
        headers += struct.pack(">B", len(name)) + name.encode()
        headers += struct.pack(">BH", 7, len(value)) + value.encode()
    total = 16 + len(headers) + len(payload)
    prelude = struct.pack(">II", total, len(headers))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    frame = prelude + headers + payload
    return frame + struct.pack(">I", zlib.crc32(frame))


class ConverseStream:
    """One streamed answer of Bedrock; with ``tool``, a call of this tool."""

    content_type = "application/vnd.amazon.eventstream"

    def __init__(self, rng: Random, *, tool: str = "") -> None:
        self._rng, self._tool, self._tokens = rng, tool, 0

    def _frame(self, kind: str, **members: object) -> bytes:
        padding = LETTERS[: self._rng.randint(17, 50)]
        return event_frame(kind, dumps({**members, "p": padding}).encode())

    def begin(self) -> list[bytes]:
        frames = [self._frame("messageStart", role="assistant")]
        if self._tool:
            start = {"toolUse": {"name": self._tool, "toolUseId": "tooluse_" + LETTERS[:22]}}
            frames.append(self._frame("contentBlockStart", contentBlockIndex=0, start=start))
        return frames

    def piece(self, tokens: Sequence[str]) -> bytes:
        self._tokens += len(tokens)
        text = "".join(tokens)
        delta = {"toolUse": {"input": text}} if self._tool else {"text": text}
        return self._frame("contentBlockDelta", contentBlockIndex=0, delta=delta)

    def end(self) -> list[bytes]:
        reason = "tool_use" if self._tool else "end_turn"
        usage = {"inputTokens": 1200, "outputTokens": self._tokens}
        usage["totalTokens"] = sum(usage.values())
        return [
            self._frame("contentBlockStop", contentBlockIndex=0),
            self._frame("messageStop", stopReason=reason)
            + self._frame("metadata", metrics={"latencyMs": 4321}, usage=usage),
        ]

    def idle(self) -> bytes:
        return b""


def ask_converse(messages: Sequence[Message]) -> bytes:
    """The body of a request to Bedrock."""
    said = [
        {"role": m.role if m.role == "assistant" else "user", "content": [{"text": m.text}]}
        for m in messages
    ]
    return dumps({"messages": said, "inferenceConfig": {"maxTokens": 4096}}).encode()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | float) -> bytes:
    """A protobuf field: bytes, a non-negative integer or a float."""
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 5) + struct.pack("<f", value)


class TokenMessages:
    """One streamed answer of a gRPC inference service, a message per write.

    Parameters
    ----------
    rich : bool
        Also the token's number and the logarithm of its probability.
    """

    content_type = "application/grpc"

    def __init__(self, rng: Random, *, rich: bool = True) -> None:
        self._rng, self._rich, self._tokens = rng, rich, 0

    def begin(self) -> list[bytes]:
        return []

    def piece(self, tokens: Sequence[str]) -> bytes:
        self._tokens += len(tokens)
        message = field(1, "".join(tokens).encode())
        if self._rich:
            message += field(2, self._rng.randrange(128_000)) + field(3, -self._rng.random())
            message += field(4, self._tokens)
        return message

    def end(self) -> list[bytes]:
        usage = field(1, 1200) + field(2, self._tokens)
        return [field(5, b"stop") + field(6, usage)]

    def idle(self) -> bytes:
        return b""


def ask_grpc(messages: Sequence[Message]) -> bytes:
    """The request message."""
    said = b"".join(
        field(2, field(1, m.role.encode()) + field(2, m.text.encode())) for m in messages
    )
    return field(1, b"llama-3.1-70b-instruct") + said + field(3, 1024) + field(4, 0.7)
