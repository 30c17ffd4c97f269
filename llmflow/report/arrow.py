"""Arrow columns straight from numpy's memory: no Python object per value.

``pyarrow.array`` would also import pandas wherever it is installed, for nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llmflow.arrays import I64, U8, U64, Bool, ragged_index
from llmflow.flows.keys import is_ipv4

_WIDTHS = {
    pa.int64(): np.int64,
    pa.uint16(): np.uint16,
    pa.float64(): np.float64,
    pa.timestamp("ns", tz="UTC"): np.int64,
}


def _buffer(values: NDArray[Any]) -> pa.Buffer:
    return pa.py_buffer(np.ascontiguousarray(values))


def _validity(null: Bool | None) -> pa.Buffer | None:
    if null is None or not null.any():
        return None
    return _buffer(np.packbits(~null, bitorder="little"))


def numbers(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """A column of numbers; NaN becomes null, where the values are floats.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Of any number type that holds what ``kind`` does; whole nanoseconds for times.
    kind : pyarrow.DataType
        ``int64``, ``uint16``, ``float64``, or ``timestamp("ns", "UTC")``.

    Returns
    -------
    pyarrow.Array

    Examples
    --------
    >>> numbers(np.array([1.0, np.nan]), pa.int64()).to_pylist()
    [1, None]
    """
    null = np.isnan(values) if values.dtype.kind == "f" else None
    if null is not None and null.any():
        values = np.where(null, 0, values)
    buffers = [_validity(null), _buffer(values.astype(_WIDTHS[kind], copy=False))]
    return pa.Array.from_buffers(kind, len(values), buffers)


def _strings(offsets: I64, letters: U8, null: Bool | None = None) -> pa.Array:
    buffers = [_validity(null), _buffer(offsets.astype(np.int32)), _buffer(letters)]
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)


def codes(letters: U8, null: Bool | None = None) -> pa.Array:
    """A column of texts of one length, given as ASCII, shape (n, length).

    Examples
    --------
    >>> codes(np.array([[97, 98], [99, 100]], np.uint8)).to_pylist()
    ['ab', 'cd']
    """
    count, width = letters.shape
    return _strings(np.arange(count + 1) * width, letters.ravel(), null)


class _Pool:
    """Texts, and columns of some of them."""

    def __init__(self, texts: Sequence[str]) -> None:
        raw = [text.encode() for text in texts]
        self.sizes = np.array([len(text) for text in raw], np.int64)
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.letters = np.frombuffer(b"".join(raw), np.uint8)

    def column(self, pieces: I64, sizes: I64, null: Bool | None = None) -> pa.Array:
        """Texts put together from pieces, shape (n, pieces), cut to ``sizes``."""
        offsets = np.concatenate([[0], np.cumsum(sizes.sum(axis=1))])
        at = ragged_index(self.starts[pieces].ravel(), sizes.ravel())
        return _strings(offsets, self.letters[at], null)


def names(
    numbers: NDArray[np.integer[Any]], texts: Sequence[str], null: Bool | None = None
) -> pa.Array:
    """A column of names, given by their numbers; null where a mask says so.

    Examples
    --------
    >>> names(np.array([1, 0]), ("tcp", "udp")).to_pylist()
    ['udp', 'tcp']
    """
    pool, pieces = _Pool(texts), numbers.astype(np.int64).reshape(-1, 1)
    return pool.column(pieces, pool.sizes[pieces], null)


def addresses(high: U64, low: U64) -> pa.Array:
    """A column of addresses as text; RFC 5952 for IPv6, each distinct one formatted once.

    Examples
    --------
    >>> addresses(np.zeros(1, np.uint64), np.array([0xFFFF_0A00_0001], np.uint64)).to_pylist()
    ['10.0.0.1']
    """
    four = is_ipv4(high, low)
    six = np.flatnonzero(~four)
    pairs = np.stack([high[six], low[six]], axis=1).astype(">u8")
    distinct, place = np.unique(pairs.view("V16").ravel(), return_inverse=True)
    long = [socket.inet_ntop(socket.AF_INET6, raw) for raw in distinct.tolist()]
    pool = _Pool([*(f"{octet}." for octet in range(256)), *long])
    shifts = np.array([24, 16, 8, 0], np.uint64)
    pieces = (low[:, None] >> shifts & np.uint64(255)).astype(np.int64)
    sizes = pool.sizes[pieces]
    sizes[:, 3] -= 1  # no dot behind the last octet
    pieces[six, 0], sizes[six] = 256 + place, 0
    sizes[six, 0] = pool.sizes[pieces[six, 0]]
    return pool.column(pieces, sizes)
