"""Evaluation: what a model, or the method, does on labelled connections it has not seen.

Cross-validation is nested: in each outer fold everything (forest, calibration, threshold) is made
from the other groups alone. Rates come with Clopper-Pearson 95 % intervals (Biometrika 1934), and
false positives over all negative connections and over the *decidable* ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llmflow.arrays import F64, Bool
from llmflow.learn.dataset import DataSet
from llmflow.learn.model import Model
from llmflow.learn.train import (
    TrainOptions,
    all_connections,
    fit_model,
    mixture_weights,
    score_connections,
    split_groups,
)

RATES = (1e-2, 1e-3, 3e-4)  # false-positive rates at which recall is reported
_BINS = 10


@dataclass(frozen=True, slots=True)
class Scores:
    """Verdicts on the connections of a data set.

    ``score`` is calibrated, 0 where the model was not asked; ``called`` says *llm-stream*.
    """

    score: F64
    asked: Bool
    called: Bool


def score_with(model: Model, data: DataSet) -> Scores:
    """Score a data set with a ready model (its captures must not have trained it)."""
    raw = score_connections(data, model.forest, all_connections(data))
    return _scores(model, raw)


def _scores(model: Model, raw: F64) -> Scores:
    score = np.nan_to_num(model.calibration.apply(raw), nan=0.0)
    return Scores(score, ~np.isnan(raw), ~np.isnan(raw) & (score >= model.threshold))


def cross_validate(
    data: DataSet, options: TrainOptions, progress: Callable[[str], None] = lambda _: None
) -> Scores:
    """Score each connection with a model that saw nothing of its group.

    Thresholds and calibrations of the folds differ, so scores of different folds are comparable
    as calibrated probabilities only.
    """
    n = len(data.connections)
    score, asked, called = np.zeros(n), np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    outer = split_groups(data, all_connections(data), options.folds, options.seed)
    for number, (train, test) in enumerate(outer, 1):
        inner = replace(options, folds=max(2, options.folds - 1), seed=options.seed + number)
        progress(f"part {number} of {options.folds}")
        model, _ = fit_model(data, train, inner)
        part = _scores(model, score_connections(data, model.forest, test))
        score[test], asked[test], called[test] = part.score, part.asked, part.called
    return Scores(score, asked, called)


def rate(hits: int, total: int) -> dict[str, float | int | None]:
    """A proportion with its Clopper-Pearson 95 % interval.

    Examples
    --------
    >>> rate(0, 300)["high"] < 0.0123
    True
    """
    from scipy.stats import beta  # noqa: PLC0415 - heavy

    if total == 0:
        return {"hits": 0, "of": 0, "rate": None, "low": None, "high": None}
    low = float(beta.ppf(0.025, hits, total - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, total - hits)) if hits < total else 1.0
    return {"hits": hits, "of": total, "rate": hits / total, "low": low, "high": high}


def _called(scores: Scores, rows: Bool) -> dict[str, float | int | None]:
    return rate(int(scores.called[rows].sum()), int(rows.sum()))


def _recall_at(scores: Scores, positive: Bool, negative: Bool, target: float) -> dict[str, Any]:
    """Recall with the threshold that lets at most ``target`` of the negatives pass."""
    ordered = np.sort(scores.score[negative])[::-1]
    allowed = int(target * len(ordered))
    threshold = float(ordered[allowed]) if allowed < len(ordered) else 0.0
    found = rate(int((scores.score[positive] > threshold).sum()), int(positive.sum()))
    return {"false_positive_rate": target, "allowed": allowed, "threshold": threshold, **found}


def _calibration(data: DataSet, scores: Scores) -> dict[str, float | int]:
    """Brier score and expected calibration error over the connections the model was asked about.

    Weighted as in :func:`~llmflow.learn.train.mixture_weights`.
    """
    score = scores.score[scores.asked]
    positive = data.connections.positive[scores.asked]
    if len(score) == 0:
        return {"connections": 0}
    weight = mixture_weights(positive, data.connections.group[scores.asked])
    place = np.minimum((score * _BINS).astype(np.int64), _BINS - 1)
    gap = np.bincount(place, weight * (score - positive), minlength=_BINS)
    return {
        "connections": len(score),
        "brier": float(np.average((score - positive) ** 2, weights=weight)),
        "expected_calibration_error": float(np.abs(gap).sum() / weight.sum()),
    }


def summarise(data: DataSet, scores: Scores) -> dict[str, Any]:
    """Every number of an evaluation, ready for JSON.

    Returns
    -------
    dict
        Confusion, recall and false-positive rates with intervals, recall at fixed false-positive
        rates over all and over decidable negatives, calibration, and rates per category.
    """
    from sklearn.metrics import average_precision_score  # noqa: PLC0415 - heavy

    c = data.connections
    negative, decidable = ~c.positive, ~c.positive & c.decidable
    categories = {
        side: {
            str(name): _called(scores, rows & (c.category == name))
            for name in np.unique(c.category[rows])
        }
        for side, rows in (("llm-stream", c.positive), ("other", negative))
    }
    return {
        "captures": data.captures,
        "groups": len(np.unique(c.group)),
        "connections": len(c),
        "unusable": data.unusable,
        "confusion": {
            "true_positive": int((c.positive & scores.called).sum()),
            "false_negative": int((c.positive & ~scores.called).sum()),
            "false_positive": int((negative & scores.called).sum()),
            "true_negative": int((negative & ~scores.called).sum()),
        },
        "recall": _called(scores, c.positive),
        "false_positives": _called(scores, negative),
        "false_positives_decidable": _called(scores, decidable),
        "recall_at_rate": [_recall_at(scores, c.positive, negative, r) for r in RATES],
        "recall_at_rate_decidable": [
            _recall_at(scores, c.positive, decidable, r) for r in (0.025, 0.01)
        ],
        "average_precision": (
            float(average_precision_score(c.positive, scores.score)) if c.positive.any() else None
        ),
        "calibration": _calibration(data, scores),
        "by_category": categories,
    }
