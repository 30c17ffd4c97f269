"""Drift: whether new captures still look like those a model was trained on.

Two distances between histograms over the training set's own quantiles: the population stability
index, sum((p - q) ln(p / q)) (N. Siddiqi, *Credit Risk Scorecards*, 2006; as a divergence: H.
Jeffreys, 1946), and the largest difference of the distribution functions at the bins' edges
(Kolmogorov-Smirnov). Connections of one capture are alike, so no textbook level holds: how far
apart *unchanged* traffic lies is measured on random splits of the training set by group, at several
numbers of groups. A level is exceeded by 1 % of such splits, by the worst feature of each.

Distances are kept apart for connections that the model calls streams and for others, so that a
change of their mixture is no drift. Scores of the training set are out of fold.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import F64, I64, Bool
from llmflow.errors import ModelError
from llmflow.features.extract import MODEL_FEATURES
from llmflow.learn.dataset import DataSet

SIDES = ("llm-stream", "other")
STATISTICS = ("psi", "ks")
BINS = 10
_DRAWS, _QUANTILE, _SEED = 400, 0.99, 1
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # groups in the smaller part
_MOST_BYTES = 1 << 24
_WHOLE_REPLY = 0  # place in SCALES


@dataclass(frozen=True, slots=True)
class Reference:
    """How the training set lies.

    Parameters
    ----------
    edges : ndarray of float64, shape (columns, 9)
        Deciles of each model feature over whole replies, then of the calibrated score.
    counts : ndarray of float64, shape (2, columns, 11)
        Weights of `SIDES`, in each bin; nulls in the last.
    sizes : ndarray of int64, shape (sizes,)
        Numbers of groups at which splits were drawn.
    levels : ndarray of float64, shape (sizes, 2, 2, 2)
        By size, side, statistic: the level of the worst feature, and of the score.
    """

    edges: F64
    counts: F64
    sizes: I64
    levels: F64

    def to_bytes(self) -> bytes:
        """As an npz file."""
        out = io.BytesIO()
        np.savez_compressed(out, **{f.name: getattr(self, f.name) for f in fields(self)})
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """Read and check the arrays.

        Raises
        ------
        ModelError
            They are damaged.
        """
        from llmflow.learn.forest import unpack  # noqa: PLC0415

        try:
            found = cls(*unpack(data, [f.name for f in fields(cls)]))
            n, sizes = len(MODEL_FEATURES) + 1, len(found.sizes)
            shapes = (n, BINS - 1), (2, n, BINS + 1), (sizes,), (sizes, 2, 2, 2)
            whole = all(getattr(found, f.name).shape == shape
                        for f, shape in zip(fields(cls), shapes, strict=True))  # fmt: skip
        except (KeyError, OSError, ValueError, EOFError, AttributeError, BadZipFile) as error:
            raise ModelError(f"reference.npz is damaged ({error})", where=where) from None
        if not (whole and sizes and np.isfinite(found.counts).all() and (found.counts >= 0).all()):
            raise ModelError("reference.npz is damaged", where=where, hint="train it again")
        return found


def histograms(edges: F64, values: F64) -> F64:
    """Counts of each column's values between its edges; nulls in the last bin.

    Returns
    -------
    ndarray of float64, shape (columns, bins + 1)
    """
    columns = []
    for edge, column in zip(edges, values.T, strict=True):
        null = np.isnan(column)
        place = np.where(null, BINS, np.searchsorted(edge, column))
        columns.append(np.bincount(place, minlength=BINS + 1))
    return np.array(columns, np.float64)


def distances(first: F64, second: F64) -> F64:
    """PSI and KS between histograms, over the last axis; half a count is added to each bin.

    Returns
    -------
    ndarray of float64, shape (2, ...)
    """
    p, q = ((x + 0.5) / (x + 0.5).sum(axis=-1, keepdims=True) for x in (first, second))
    psi = ((p - q) * np.log(p / q)).sum(axis=-1)
    ks = np.abs(np.cumsum(p - q, axis=-1)).max(axis=-1)
    return np.array([psi, ks])


def _tables(data: DataSet, edges: F64, score: F64, called: Bool) -> F64:
    """Histograms by group with a judged connection, and side; last axes columns and bins."""
    _, group = np.unique(data.connections.group, return_inverse=True)
    rows = _whole_replies(data)
    of = data.segment_connection[rows]
    judged = ~np.isnan(score)
    out = np.zeros((group.max() + 1, len(SIDES), len(edges), BINS + 1))
    for number in range(len(out)):
        for side, wanted in enumerate((called, ~called)):
            mine = (group == number) & wanted & judged
            values = data.segments.values[rows[mine[of]]]
            out[number, side, :-1] = histograms(edges[:-1], values)
            out[number, side, -1:] = histograms(edges[-1:], score[mine, None])
    # n connections of one capture are not n witnesses: they weigh sqrt(n) together.
    out /= np.sqrt(np.maximum(out.sum(axis=-1, keepdims=True), 1.0))
    return out[out.any(axis=(1, 2, 3))]


def _whole_replies(data: DataSet) -> I64:
    return np.flatnonzero((data.segments.scale == _WHOLE_REPLY) & (data.variant == 0))


def make_reference(data: DataSet, score: F64, threshold: float) -> Reference:
    """Remember a training set.

    Parameters
    ----------
    data : DataSet
    score : ndarray of float64
        Calibrated out-of-fold score of each connection; NaN where it was not judged.
    threshold : float
    """
    quantiles = np.arange(1, BINS) / BINS
    columns = [*data.segments.values[_whole_replies(data)].T, score]
    known = [column[~np.isnan(column)] for column in columns]
    edges = np.array([np.quantile(x, quantiles) if len(x) else quantiles for x in known])
    tables = _tables(data, edges, score, np.nan_to_num(score) >= threshold)
    total, groups = tables.sum(axis=0), len(tables)
    sizes = [size for size in _SIZES if 2 * size <= groups] or [1]
    rng = np.random.default_rng(_SEED)
    levels = []
    for size in sizes:
        drawn = np.array([rng.permutation(groups)[:size] for _ in range(_DRAWS)])
        part = np.array([tables[rows].sum(axis=0) for rows in drawn])
        apart = distances(part, total - part)  # statistic, draw, side, column
        worst = np.stack([apart[..., :-1].max(axis=-1), apart[..., -1]], axis=-1)
        levels.append(_levels(worst, part))
    return Reference(edges, total, np.array(sizes), np.array(levels))


def _levels(worst: F64, part: F64) -> NDArray[Any]:
    """Levels by side and statistic, over the draws that hold something of the side."""
    held = part[..., -1, :].sum(axis=-1) > 0  # draw, side
    return np.array([
        [np.quantile(one[held[:, side], side], _QUANTILE, axis=0) if held[:, side].any()
         else np.full(2, np.inf) for one in worst]
        for side in range(len(SIDES))
    ])  # fmt: skip


def compare(reference: Reference, data: DataSet, score: F64, threshold: float) -> dict[str, Any]:
    """How far new connections lie from the training set.

    Parameters
    ----------
    reference : Reference
    data : DataSet
    score : ndarray of float64
        Calibrated score of each connection; NaN where it was not judged.
    threshold : float
        The model's, by which both sets were cut into `SIDES`.

    Returns
    -------
    dict
        ``groups`` compared and at which number of them levels were taken; by side the numbers of
        connections, distances of the score and of each feature, levels, and what is beyond them;
        ``advice``: ``retrain``, ``look``, ``none`` or ``too little``.
    """
    called = np.nan_to_num(score) >= threshold
    tables = _tables(data, reference.edges, score, called)
    new = tables.sum(axis=0)
    fits = np.flatnonzero(reference.sizes <= len(tables))
    place = int(fits[-1]) if len(fits) else 0
    names = [*MODEL_FEATURES, "score"]
    sides, beyond = {}, {"features": False, "score": False}
    for side, name in enumerate(SIDES):
        if not (new[side, -1].any() and reference.counts[side, -1].any()):
            continue
        apart = distances(new[side], reference.counts[side])
        of_features, of_score = reference.levels[place, side].T
        level = np.append(np.repeat(of_features[:, None], len(names) - 1, 1), of_score[:, None], 1)
        over = (apart > level).any(axis=0)
        beyond["features"] |= bool(over[:-1].any())
        beyond["score"] |= bool(over[-1])
        sides[name] = {
            "connections": int((~np.isnan(score) & (called == (side == 0))).sum()),
            "levels": {"features": _named(of_features), "score": _named(of_score)},
            "distances": {n: _named(apart[:, i]) for i, n in enumerate(names)},
            "beyond": [n for n, x in zip(names, over.tolist(), strict=True) if x],
        }
    advice = "retrain" if beyond["score"] else "look" if beyond["features"] else "none"
    return {
        "groups": len(tables),
        "groups_of_levels": int(reference.sizes[place]),
        "sides": sides,
        "advice": advice if sides else "too little",
    }


def _named(values: F64) -> dict[str, float | None]:
    return {
        n: float(x) if np.isfinite(x) else None
        for n, x in zip(STATISTICS, values.tolist(), strict=True)
    }


def load_reference(directory: Path) -> Reference:
    """The reference of a model folder.

    Raises
    ------
    ModelError
        There is none, or it is damaged.
    """
    from llmflow.learn.folder import checked_file  # noqa: PLC0415

    return Reference.from_bytes(checked_file(directory, "reference.npz"), str(directory))
