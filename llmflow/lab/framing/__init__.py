"""How providers write a streamed reply: pure builders of bytes, one file per provider.

A :class:`Framing` is made for one reply and remembers what it has written. Behind TLS only sizes
and times remain visible, so what counts is that each event is as long as the provider's.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Message(NamedTuple):
    """One message: its role (``system``, ``user``, ``assistant`` or ``tool``) and its text."""

    role: str
    text: str


class Framing(Protocol):
    """The bytes of one reply.

    ``begin`` comes before the first token, ``end`` behind the last one, each a write of its own;
    ``piece`` is what one write of tokens becomes; ``idle`` keeps the connection alive, empty where
    the provider sends nothing.
    """

    content_type: str

    def begin(self) -> list[bytes]:
        """Frames before the first token."""

    def piece(self, tokens: Sequence[str]) -> bytes:
        """The frame or frames of some tokens."""

    def end(self) -> list[bytes]:
        """Frames behind the last token."""

    def idle(self) -> bytes:
        """A keep-alive."""


def dumps(value: object) -> str:
    """Compact JSON, as servers write it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def sse(value: object, event: str = "") -> bytes:
    """A server-sent event."""
    return (f"event: {event}\n" if event else "").encode() + f"data: {dumps(value)}\n\n".encode()


class Compressed:
    """A framing behind gzip with a flush after each write, as web front ends send event streams.

    A repeated frame shrinks to its new words: Claude's web events of 115 bytes and more show as
    some 25 (45 to 75 of payload with TLS and HTTP/2).

    Parameters
    ----------
    inner : Framing
    window : int
        Logarithm of how many bytes back repetition is found, 9 to 15.
    """

    def __init__(self, inner: Framing, window: int = 15) -> None:
        self.content_type = inner.content_type
        self._inner = inner
        self._gzip = zlib.compressobj(wbits=16 + window)

    def _flushed(self, data: bytes) -> bytes:
        return self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH) if data else b""

    def begin(self) -> list[bytes]:
        return [self._flushed(frame) for frame in self._inner.begin()]

    def piece(self, tokens: Sequence[str]) -> bytes:
        return self._flushed(self._inner.piece(tokens))

    def end(self) -> list[bytes]:
        frames = [self._flushed(frame) for frame in self._inner.end()]
        return [*frames, self._gzip.flush()]

    def idle(self) -> bytes:
        return self._flushed(self._inner.idle())
