"""Clocks of pcapng interfaces: exact for one time stamp and for many."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from llmflow.capture.interfaces import Interface, Table
from llmflow.capture.records import NO_TIME

RESOLUTIONS = [10**power for power in range(20)] + [2**power for power in range(64)]
STAMPS = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 63).map(lambda power: 1 << power),
    st.integers(0, 63).map(lambda power: (1 << power) - 1),
)
SECONDS = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(-5_000_000_000, 5_000_000_000),
    st.just(0),
)


def obvious(ticks: int, per_second: int, offset: int) -> int:
    """The time as an exact fraction, rounded down; up to 2**62 ns."""
    time = floor((offset + Fraction(ticks, per_second)) * 10**9)
    return time if 0 <= time < 1 << 62 else NO_TIME


@given(
    st.lists(
        st.builds(
            lambda ticks, offset: Interface(1, 0, ticks=ticks, offset=offset),
            st.sampled_from(RESOLUTIONS),
            SECONDS,
        ),
        min_size=1,
        max_size=3,
    ),
    st.lists(st.tuples(st.integers(0, 2), STAMPS), max_size=20),
)
@example([Interface(1, 0, ticks=1, offset=-(1 << 63))], [(0, (1 << 63) + 5), (0, 5)])
@example([Interface(1, 0, ticks=1, offset=1 << 62)], [(0, 0), (0, (1 << 64) - (1 << 62))])
@example([Interface(1, 0, ticks=2**63)], [(0, (1 << 64) - 1), (0, (1 << 63) - 1)])
@example([Interface(1, 0, ticks=10**9)], [(0, (1 << 62) - 1), (0, 1 << 62)])
def test_times_are_exact(ports: list[Interface], stamps: list[tuple[int, int]]) -> None:
    """Any resolution and offset: no overflow, no rounding up, and what cannot be is marked."""
    stamps = [(number % len(ports), ticks) for number, ticks in stamps]
    expected = [obvious(ticks, ports[n].ticks, ports[n].offset) for n, ticks in stamps]
    assert [ports[number].time(ticks) for number, ticks in stamps] == expected
    numbers = np.array([number for number, _ in stamps], np.int64)
    many = Table.of(ports).times(numbers, np.array([ticks for _, ticks in stamps], np.uint64))
    assert many.dtype == np.int64
    assert many.tolist() == expected


def test_the_last_row_is_for_numbers_that_name_no_interface() -> None:
    """Missing and damaged interfaces are not known."""
    assert Table.of([Interface(1, 0), None, Interface(101, 0)]).known.tolist() == [
        True,
        False,
        True,
        False,
    ]
    assert Table.of([]).known.tolist() == [False]
