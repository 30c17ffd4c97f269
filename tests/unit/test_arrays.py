"""The ragged-array helpers, against loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.arrays import (
    order_in_rows,
    ragged_index,
    row_quantiles,
    row_sums,
    run_counts,
    run_end_mask,
    run_mask,
    run_starts,
    sort_in_rows,
)

NOTHING = np.empty(0, np.int64)
placed_values = st.lists(
    st.tuples(st.integers(0, 6), st.floats(-1e9, 1e9, allow_nan=False)), max_size=60
)
keys = st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=40)


def whole(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


@given(keys)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_runs_are_those_of_groupby(pairs: list[tuple[int, bool]]) -> None:
    """A run ends where any of its keys changes."""
    columns = [np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1)]
    lengths = [len(list(group)) for _, group in itertools.groupby(pairs)]
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    ends = [start + length - 1 for start, length in zip(starts, lengths, strict=True)]
    assert run_starts(*columns).tolist() == starts
    assert np.flatnonzero(run_mask(*columns)).tolist() == starts
    assert np.flatnonzero(run_end_mask(*columns)).tolist() == ends
    assert run_counts(run_starts(*columns), len(pairs)).tolist() == lengths


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=12))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_ragged_index_lists_run_after_run(runs: list[tuple[int, int]]) -> None:
    """Runs may overlap, repeat, go back and be empty."""
    expected = [i for start, count in runs for i in range(start, start + count)]
    starts, counts = whole([start for start, _ in runs]), whole([count for _, count in runs])
    assert ragged_index(starts, counts).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-(2**40), 2**40)), max_size=60))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_row_sums_are_exact_on_integers(pairs: list[tuple[int, int]]) -> None:
    """Sums of integers are exact in any order, and rows without a value sum to 0."""
    expected = [sum(value for row, value in pairs if row == place) for place in range(7)]
    rows, values = whole([row for row, _ in pairs]), whole([value for _, value in pairs])
    assert row_sums(values, rows, 7).tolist() == expected
    assert row_sums(values[::-1], rows[::-1], 7).tolist() == expected


def test_row_sums_count_what_a_mask_marks() -> None:
    """A mask is summed as 0 and 1."""
    assert row_sums(np.array([True, False, True]), whole([1, 1, 1]), 3).tolist() == [0, 2, 0]


@given(placed_values, st.lists(st.floats(0, 1), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_row_quantiles_are_numpys(pairs: list[tuple[int, float]], quantiles: list[float]) -> None:
    """Each row's quantiles are those of ``numpy.quantile``; rows without a value are null."""
    rows, values = whole([row for row, _ in pairs]), np.array([value for _, value in pairs])
    ordered, counts = values[np.lexsort((values, rows))], np.bincount(rows, minlength=8)
    found = row_quantiles(ordered.astype(np.float64), counts, tuple(quantiles))
    assert found.shape == (8, len(quantiles))
    for place in range(8):
        mine = values[rows == place]
        if len(mine):
            expected = np.quantile(mine, quantiles)
            np.testing.assert_allclose(found[place], expected, rtol=1e-12, atol=1e-6)
        else:
            assert np.isnan(found[place]).all()


@given(placed_values, st.sampled_from([1, 1 << 30, 1 << 56, 1 << 61]))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_sorting_in_rows(pairs: list[tuple[int, float]], factor: int) -> None:
    """Sorted by row, value, place: also where the numbers are too large to be packed."""
    rows = whole([row for row, _ in pairs])
    values = whole([int(abs(value)) % 4 for _, value in pairs]) * factor
    order = np.lexsort((values, rows))
    assert order_in_rows(values, rows).tolist() == order.tolist()
    assert sort_in_rows(values, rows).tolist() == values[order].tolist()


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0], [1.0, 5.0, 9.0]])
def test_the_outermost_quantiles_are_least_and_largest(values: list[float]) -> None:
    """No rounding moves the ends: 0 and 1 give the values themselves."""
    found = row_quantiles(np.array(values), whole([len(values)]), (0.0, 0.5, 1.0))
    assert found.tolist() == [[min(values), 5.0, max(values)]]


def test_nothing_gives_nothing() -> None:
    """Empty input is no special case, and keeps its type."""
    assert run_starts(NOTHING).tolist() == []
    assert run_starts(NOTHING, NOTHING).dtype == np.int64
    assert run_mask(NOTHING).dtype == np.bool_
    assert run_end_mask(NOTHING).tolist() == []
    assert run_counts(NOTHING, 0).tolist() == []
    assert run_counts(NOTHING, 0).dtype == np.int64
    assert ragged_index(NOTHING, NOTHING).tolist() == []
    assert row_sums(NOTHING, NOTHING, 0).tolist() == []
    assert row_sums(NOTHING, NOTHING, 2).tolist() == [0, 0]
    assert sort_in_rows(NOTHING, NOTHING).tolist() == []
    assert order_in_rows(NOTHING, NOTHING).tolist() == []
    empty = np.empty(0)
    assert row_quantiles(empty, NOTHING, (0.5,)).shape == (0, 1)
    assert np.isnan(row_quantiles(empty, whole([0, 0]), (0.5,))).all()
