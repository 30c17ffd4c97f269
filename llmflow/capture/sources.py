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

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}


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
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, ValueError) as error:
            raise BrokenSourceError(str(error).rstrip(".")) from None
        except OSError as error:
            if error.errno is None:  # bz2 and Arrow speak of damage so
                raise BrokenSourceError(str(error).splitlines()[0]) from None
            raise CaptureError(f"cannot be read on ({error.strerror})", where=self.name) from None

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
        return cast(BinaryIO, lzma.LZMAFile(io.BufferedReader(raw)))
    import pyarrow as pa  # noqa: PLC0415 - only these formats need it

    return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(raw, "r"), kind))


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
            return Source(name, raw, _unpacked(kind, raw))
    return Source(name, raw, cast(BinaryIO, raw))
