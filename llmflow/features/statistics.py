"""Statistics over the rows of ragged arrays, as several features need them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import F64, I64, order_in_rows, row_sums, run_counts, run_mask, run_starts

LEAST_RELATED = 3  # values that a correlation needs


def null_below(values: F64, number: F64, least: int) -> F64:
    """The values, null where their number is too small."""
    return np.where(number >= least, values, np.nan)


def spread(values: NDArray[Any], rows: I64, count: int) -> tuple[F64, F64, F64]:
    """(number, mean, standard deviation) of each row."""
    number = np.bincount(rows, minlength=count).astype(np.float64)
    mean = row_sums(values, rows, count) / number
    variance = row_sums((values - mean[rows]) ** 2, rows, count) / number
    return number, mean, np.sqrt(variance)


def correlation(one: F64, other: F64, rows: I64, count: int) -> F64:
    """Pearson's correlation in each row; null below 3 pairs, or where one side is constant."""
    number, mean, deviation = spread(one, rows, count)
    _, middle, width = spread(other, rows, count)
    products = row_sums((one - mean[rows]) * (other - middle[rows]), rows, count)
    varied = (number >= LEAST_RELATED) & (deviation > 0) & (width > 0)
    return np.where(varied, products / (number * deviation * width), np.nan)


def row_max(values: NDArray[Any], rows: I64, count: int) -> F64:
    """Largest of the values of each row; 0 for rows without."""
    most = np.zeros(count)
    np.maximum.at(most, rows, values)
    return most


@dataclass(frozen=True)
class Tally:
    """How often each value occurs in its row: by row, then value."""

    count: int
    of: I64
    value: I64
    times: I64

    @classmethod
    def of_sorted(cls, values: I64, rows: I64, count: int) -> Tally:
        """Count values that are sorted in their rows."""
        first = run_starts(rows, values)
        return cls(count, rows[first], values[first], run_counts(first, len(rows)))

    @cached_property
    def most(self) -> F64:
        """How often the most frequent value of each row occurs."""
        return row_max(self.times, self.of, self.count)

    @cached_property
    def leaders(self) -> tuple[I64, I64, I64]:
        """Rows with two values or more, and the places of their two most frequent ones.

        Of equally frequent values the smaller goes first.
        """
        order = order_in_rows(self.times.max(initial=0) - self.times, self.of)
        opens = run_mask(self.of)
        second = np.flatnonzero(opens[:-1] & ~opens[1:]) + 1
        return self.of[second], order[second - 1], order[second]

    @cached_property
    def pairs(self) -> F64:
        """Ordered pairs of equal values in each row."""
        return row_sums(self.times * (self.times - 1), self.of, self.count)

    @cached_property
    def distinct(self) -> F64:
        """Distinct values in each row."""
        return np.bincount(self.of, minlength=self.count).astype(np.float64)
