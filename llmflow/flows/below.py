"""Segments below the highest sequence number: which of their bytes the tap had not seen yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import I64, Bool
from llmflow.flows.sequence import Line, first_cover


@dataclass(frozen=True, slots=True)
class Below:
    """Segments that begin below the highest sequence number of their run, in order.

    Parameters
    ----------
    item : ndarray of int64, shape (n,)
        Which segments.
    low, high : ndarray of int64, shape (n,)
        Their part below the highest sequence number, on the line.
    fill : ndarray of int64, shape (n,)
        Sequence numbers in it that no segment had brought before.
    cell : ndarray of int64
        Where the cells begin that the edges of holes and of these segments cut the line into.
    first, last : ndarray of int64, shape (n,)
        The cells of each segment are ``first`` to ``last - 1``.
    filler : ndarray of int64
        The first segment to fill each cell, as a place in ``item``; -1 for cells that never came
        or that were not missing.
    base : ndarray of int64, shape (n,)
        Where the run's first segment begins: what lies below may have passed before the capture.
    """

    item: I64
    low: I64
    high: I64
    fill: I64
    cell: I64
    first: I64
    last: I64
    filler: I64
    base: I64


def find_below(line: Line, item: I64, holes: I64) -> Below:
    """Look at some segments.

    Parameters
    ----------
    line : Line
    item : ndarray of int64
        Segments that begin below the highest sequence number.
    holes : ndarray of int64
        Segments that begin above it.
    """
    low, high = line.begin[item], np.minimum(line.end[item], line.before[item])
    fill = np.zeros(len(item), np.int64)
    if not len(item):
        return Below(
            item, low, high, fill, cell=item, first=item, last=item, filler=item, base=item
        )
    base = line.begin[line.starts[line.run[item]]]
    early = np.flatnonzero(low < base)
    missing_low = np.concatenate([line.before[holes], low[early]])
    missing_high = np.concatenate([line.begin[holes], base[early]])
    edge = np.unique(np.concatenate([low, high, missing_low, missing_high]))
    first, last, opens, closes = (
        np.searchsorted(edge, x) for x in (low, high, missing_low, missing_high)
    )
    depth = np.bincount(opens, minlength=len(edge)) - np.bincount(closes, minlength=len(edge))
    filler = first_cover(first, last, len(edge) - 1)
    filler[(np.cumsum(depth)[:-1] == 0) | (filler == len(item))] = -1
    cells = np.flatnonzero(filler >= 0)
    np.add.at(fill, filler[cells], np.diff(edge)[cells])
    return Below(item, low, high, fill, edge[:-1], first, last, filler, base)


def first_copies(below: Below, counted: Bool) -> I64:
    """Which segment brought each missing cell, if it is one of the ``counted``; else -1."""
    there = (below.filler >= 0) & np.append(counted, False)[below.filler]
    return np.where(there, below.filler, -1)


def last_copies(below: Below, counted: Bool) -> I64:
    """The last of the ``counted`` segments that covers each cell, missing or not; else -1."""
    backward = np.flatnonzero(counted)[::-1]
    cover = first_cover(below.first[backward], below.last[backward], len(below.cell))
    return np.append(backward, -1)[cover]


def waiting(line: Line, below: Below, copy: I64) -> tuple[I64, I64]:
    """Find the segments that could not be handed on in order when they came.

    Parameters
    ----------
    line : Line
    below : Below
    copy : ndarray of int64
        The segment that brought each cell to the receiver, as a place in ``item``; -1 for cells
        that nobody waited for.

    Returns
    -------
    item, last : ndarray of int64
        The segments that waited, and the last of those that brought what lies in front of their
        end.
    """
    cells = np.flatnonzero(copy >= 0)
    cells = cells[below.cell[cells] >= below.base[copy[cells]]]
    own = np.arange(len(line.begin) if len(cells) else 0)
    if not len(cells):
        return own, own
    cell, bringer = below.cell[cells], below.item[copy[cells]]
    # A segment that raises the highest sequence number waits for all cells so far.
    last = np.zeros_like(own)
    np.maximum.at(last, np.searchsorted(line.highest, cell, side="right"), bringer)
    last = np.maximum.accumulate(last)
    # Others wait for the cells in front of their end. Items ascend with the line over all runs.
    item = below.item[line.end[below.item] <= line.before[below.item]]
    brought = np.maximum.accumulate(np.append(-1, bringer))
    last[item] = brought[np.searchsorted(cell, line.end[item])]
    late = np.flatnonzero(last > own)
    late = late[line.end[late] > line.begin[late]]
    return late, last[late]
