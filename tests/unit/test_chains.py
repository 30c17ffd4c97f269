"""Record chains: lockstep gives what a plain walk gives, whatever is guessed."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.arrays import I64
from llmflow.capture.chains import Chain

CHAIN = Chain("<", 8, 16, 16, 1 << 18)


def block_of(sizes: list[int], filler: int) -> bytes:
    """Records of the given sizes whose payload looks like more records."""
    body = struct.pack("<IIII", 1_700_000_000, 5, filler, filler) * 200
    return b"".join(
        struct.pack("<IIII", 1_700_000_000 + i, 7, size, size) + body[:size]
        for i, size in enumerate(sizes)
    )


def walk(block: bytes, at: int) -> tuple[list[int], int]:
    """The plain walk."""
    found = []
    while at + 16 <= len(block):
        size = 16 + int.from_bytes(block[at + 8 : at + 12], "little")
        if size > CHAIN.limit or at + size > len(block):
            break
        found.append(at)
        at += size
    return found, at


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 3000), min_size=50, max_size=150),
    st.integers(0, 3000),
    st.lists(st.integers(0, 200_000), max_size=40),
    st.integers(0, 60),
)
def test_any_guess_gives_the_plain_walk(
    sizes: list[int], filler: int, guesses: list[int], cut: int
) -> None:
    """Wrong guesses, also such that look like records, cost time and never change the result."""
    block = block_of(sizes, filler)
    block = block[: len(block) - cut]

    def guess(first: int, stride: int, window: int) -> I64:
        del stride, window
        inside = sorted({g for g in guesses if first <= g < len(block) - 16})
        return np.array(inside, np.int64)

    offsets, stop = CHAIN.follow(block, 0, guess)
    assert (offsets.tolist(), stop) == walk(block, 0)


def test_an_empty_block_has_no_records() -> None:
    """Nothing in, nothing out."""
    offsets, stop = CHAIN.follow(b"", 0, lambda *_: np.empty(0, np.int64))
    assert len(offsets) == stop == 0


@given(st.lists(st.integers(0, 1 << 16), max_size=60), st.sampled_from([0, 4, 8]))
def test_a_length_below_the_header_is_no_record(guesses: list[int], length: int) -> None:
    """Where the length counts the whole record, it could lead back to itself: no chain does."""
    chain = Chain("<", 4, 0, 12, 1 << 18)
    head = struct.pack("<III", 6, 12, 12) * 7
    block = head + struct.pack("<I", length) * (1 << 15)
    starts = np.array(sorted({0, *guesses}), np.int64)[1:]
    offsets, stop = chain.follow(block, 0, lambda *_: starts)
    assert (offsets.tolist(), stop) == ([12 * number for number in range(7)], len(head))
