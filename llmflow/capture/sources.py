"""Where bytes of captures come from: files and standard input, compressed or not.

Compression is told by content, not by name: gzip, bzip2, xz, Zstandard, LZ4. Streams are unpacked
piece by piece, so a small file that unpacks to a huge one costs time but no memory.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from llmflow.errors import CaptureError

STDIN = "-"
HEAD = 1 << 16  # bytes looked at to know a format
_STEP = 1 << 14  # bytes unpacked at once
_XZ_MEMORY = 1 << 28  # `xz -9` takes 65 MiB; a header may ask for 4 GiB

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}


# What unpackers raise where a stream is damaged or cut; bz2 and Arrow an OSError without a number.
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, ValueError, OSError)


class BrokenSourceError(Exception):
    """A compressed stream that cannot be unpacked further; its text says why."""


class _Counted(io.RawIOBase):
    """An input from its first byte, after its head was looked at, with what was taken of it."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream, self.taken = head, stream, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Some bytes; none at the end."""
        size = -1 if size is None else size
        if self._head:
            cut = len(self._head) if size < 0 else size
            data, self._head = self._head[:cut], self._head[cut:]
        else:
            data = self._stream.read(size)
        self.taken += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """As the buffered readers of the standard library ask for it."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Xz:
    """The streams of an xz file, with the limit on memory that ``lzma.LZMAFile`` does not have."""

    def __init__(self, raw: _Counted) -> None:
        self._raw = raw
        self._unpacker = self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int) -> bytes:
        """Some unpacked bytes; none at the end."""
        data = b""
        while not data:
            if self._unpacker.eof:  # zeros may stand between streams
                rest = self._unpacker.unused_data.lstrip(b"\0")
                while not rest and (piece := self._raw.read(_STEP)):
                    rest = piece.lstrip(b"\0")
                if not rest:
                    return b""
                self._unpacker = self._new()
            else:
                rest = self._raw.read(_STEP) if self._unpacker.needs_input else b""
                if self._unpacker.needs_input and not rest:
                    raise EOFError("Compressed file ended before the end-of-stream marker")
            data = self._unpacker.decompress(rest, size)
        return data


class _Steps:
    """A compressed stream, always unpacked in steps of one size.

    So a damaged place costs the same few bytes in front of it, however much is asked for at once.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._ahead = stream, bytearray()
        self._error: Exception | None = None

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        while len(self._ahead) < size and self._error is None:
            try:
                piece = self._stream.read(_STEP)
            except _DAMAGE as error:
                self._error = error
            else:
                if not piece:
                    break
                self._ahead += piece
        if self._error and not self._ahead:
            raise self._error
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        return data


@dataclass(slots=True)
class Source:
    """One opened input.

    Parameters
    ----------
    name : str
        For messages.
    """

    name: str
    _raw: _Counted
    _stream: BinaryIO
    _told: int = 0

    def read(self, size: int) -> bytes:
        """Up to ``size`` unpacked bytes; none at the end.

        Raises
        ------
        BrokenSourceError
            The compressed stream is damaged or cut here.
        CaptureError
            The input cannot be read on.
        """
        try:
            return self._stream.read(size)
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                message = f"cannot be read on ({error.strerror})"
                raise CaptureError(message, where=self.name) from None
            raise BrokenSourceError(str(error).partition("\n")[0].rstrip(".")) from None

    def progress(self) -> int:
        """Bytes of the input, as it lies there, taken since the last call."""
        news, self._told = self._raw.taken - self._told, self._raw.taken
        return news


def _unpacked(kind: str, raw: _Counted) -> BinaryIO:
    if kind == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=io.BufferedReader(raw)))
    if kind == "bz2":
        return cast(BinaryIO, bz2.BZ2File(io.BufferedReader(raw)))
    if kind == "xz":
        return cast(BinaryIO, _Xz(raw))
    import pyarrow as pa  # noqa: PLC0415 - only these formats need it

    return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(raw, "r"), kind))


def is_pipe(path: str | Path) -> bool:
    """Whether an input can be read only once."""
    try:
        return str(path) == STDIN or Path(path).is_fifo()
    except OSError:
        return False  # opening it says why


def open_source(path: str | Path, stack: contextlib.ExitStack) -> Source:
    """Open a capture.

    Parameters
    ----------
    path : str or Path
        ``-`` is standard input.
    stack : ExitStack
        Closes what is opened.

    Raises
    ------
    CaptureError
        It cannot be opened.
    """
    name = str(path)
    try:
        if name == STDIN:
            if sys.stdin is None:
                raise CaptureError("is closed", where="standard input", hint="pipe a capture")
            name, stream = "standard input", cast(BinaryIO, sys.stdin.buffer)
        else:
            stream = stack.enter_context(Path(path).open("rb"))  # noqa: SIM115 - the stack closes it
        head = stream.read(HEAD)
    except FileNotFoundError:
        raise CaptureError("no such file", where=name, hint="check the path") from None
    except IsADirectoryError:
        raise CaptureError("is a folder", where=name, hint="name the captures in it") from None
    except OSError as error:
        raise CaptureError(f"cannot be read ({error.strerror})", where=name) from None
    raw = _Counted(head, stream)
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return Source(name, raw, cast(BinaryIO, _Steps(_unpacked(kind, raw))))
    return Source(name, raw, cast(BinaryIO, raw))
