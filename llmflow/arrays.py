"""Names for the array types, and the few ragged-array moves every room needs.

A *ragged* array is a flat array whose rows of unequal length lie one behind the other: row ``i``
is ``values[starts[i]:starts[i] + counts[i]]``. All moves here work on whole arrays at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]
U16 = NDArray[np.uint16]
U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

_WIDTH = 63  # bits of a whole number from 0 on


def run_starts(*keys: NDArray[Any]) -> I64:
    """Where a new run of equal keys begins, in arrays sorted so that equal keys are neighbours.

    Parameters
    ----------
    *keys : ndarray, shape (n,)
        One or several key columns; a run ends where any of them changes.

    Returns
    -------
    ndarray of int64, shape (runs,)

    Examples
    --------
    >>> run_starts(np.array([3, 3, 5, 5, 5, 3]))
    array([0, 2, 5])
    """
    return np.flatnonzero(run_mask(*keys)).astype(np.int64, copy=False)


def run_mask(*keys: NDArray[Any]) -> Bool:
    """Mark the first item of each run of equal keys (see :func:`run_starts`).

    Examples
    --------
    >>> run_mask(np.array([3, 3, 5]))
    array([ True, False,  True])
    """
    new = np.ones(len(keys[0]), np.bool_)
    if len(new):
        new[1:] = False
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return new


def run_end_mask(*keys: NDArray[Any]) -> Bool:
    """Mark the last item of each run of equal keys.

    Examples
    --------
    >>> run_end_mask(np.array([3, 3, 5]))
    array([False,  True,  True])
    """
    begins = run_mask(*keys)
    ends = np.ones_like(begins)
    ends[:-1] = begins[1:]
    return ends


def run_counts(starts: I64, total: int) -> I64:
    """Lengths of the runs that begin at ``starts`` and together fill ``total`` items.

    Examples
    --------
    >>> run_counts(np.array([0, 2, 5]), 6)
    array([2, 3, 1])
    """
    return np.diff(starts, append=total).astype(np.int64, copy=False)


def ragged_index(starts: I64, counts: I64) -> I64:
    """Indices of the items of the given runs, run by run.

    Examples
    --------
    >>> ragged_index(np.array([4, 0]), np.array([2, 3]))
    array([4, 5, 0, 1, 2])
    """
    before = np.cumsum(counts) - counts
    index: I64 = np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
    return index


def row_sums(values: NDArray[Any], rows: I64, count: int) -> F64:
    """Sum of the values that belong to each row (``rows[i]`` is the row of ``values[i]``).

    Sums of integers below 2**53 are exact, so they do not depend on order.

    Examples
    --------
    >>> row_sums(np.array([1, 2, 4]), np.array([0, 2, 2]), 3)
    array([1., 0., 6.])
    """
    return np.bincount(rows, weights=values, minlength=count).astype(np.float64, copy=False)


def order_in_rows(values: I64, rows: I64) -> I64:
    """The order by row, then value, then place, of whole numbers from 0 on.

    Row, value and place are sorted as one number each, where they fit: several times faster.

    Examples
    --------
    >>> order_in_rows(np.array([5, 3, 9, 1]), np.array([0, 0, 1, 1]))
    array([1, 0, 3, 2])
    """
    if not len(values):
        return np.empty(0, np.int64)
    value, place = int(values.max()).bit_length(), len(values).bit_length()
    if int(rows.max()).bit_length() + value + place > _WIDTH:
        return np.lexsort((values, rows))
    packed = (rows << (value + place)) | (values << place) | np.arange(len(values))
    packed.sort()
    return packed & ((1 << place) - 1)


def sort_in_rows(values: I64, rows: I64) -> I64:
    """Whole numbers from 0 on, sorted inside their rows, row by row.

    Examples
    --------
    >>> sort_in_rows(np.array([5, 3, 9, 1]), np.array([0, 0, 1, 1]))
    array([3, 5, 1, 9])
    """
    if not len(values):
        return values
    value = int(values.max()).bit_length()
    if int(rows.max()).bit_length() + value > _WIDTH:
        return values[np.lexsort((values, rows))]
    packed = (rows << value) | values
    packed.sort()
    return packed & ((1 << value) - 1)


def row_quantiles(ordered: NDArray[Any], counts: I64, quantiles: tuple[float, ...]) -> F64:
    """Quantiles of each row with linear interpolation (numpy's default method).

    Parameters
    ----------
    ordered : ndarray, shape (n,)
        Row by row, sorted inside each.
    counts : ndarray of int64, shape (rows,)
        How many values each row has.
    quantiles : tuple of float
        Each in [0, 1].

    Returns
    -------
    ndarray of float64, shape (rows, len(quantiles))
        NaN for rows without a value.

    Examples
    --------
    >>> row_quantiles(np.array([1, 3, 9]), np.array([0, 3]), (0.5, 1.0))
    array([[nan, nan],
           [ 3.,  9.]])
    """
    out = np.full((len(counts), len(quantiles)), np.nan)
    filled = np.flatnonzero(counts)
    first, sizes = (np.cumsum(counts) - counts)[filled], counts[filled]
    for column, quantile in enumerate(quantiles):
        at = quantile * (sizes - 1)
        low = np.floor(at).astype(np.int64)
        high = np.minimum(low + 1, sizes - 1)
        below, above = ordered[first + low].astype(np.float64), ordered[first + high]
        out[filled, column] = below + (above - below) * (at - low)
    return out
