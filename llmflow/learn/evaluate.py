"""Evaluation: what a model, or the method, does on labelled connections it has not seen.

Cross-validation is nested: in each outer fold everything (forest, calibration, threshold) is made
from the other groups alone. Single protocols, which judge the method by what it never saw, are in
:mod:`llmflow.learn.protocols`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llmflow.arrays import F64, I64, Bool
from llmflow.learn.dataset import DataSet
from llmflow.learn.forest import Forest
from llmflow.learn.metrics import RATES, calibration, rate, recall_at
from llmflow.learn.model import Model
from llmflow.learn.protocols import PROTOCOLS, Method, Scorer
from llmflow.learn.train import (
    Progress,
    TrainOptions,
    all_connections,
    fit_forest,
    fit_model,
    mixture_weights,
    score_connections,
    split_groups,
)


@dataclass(frozen=True, slots=True)
class Scores:
    """Verdicts on the connections of a data set.

    ``score`` is calibrated, 0 where the model was not asked; ``called`` says *llm-stream*.
    """

    score: F64
    asked: Bool
    called: Bool


def forest_method(options: TrainOptions) -> Method:
    """The shipped method as the protocols need it: raw scores of forests."""

    def train(data: DataSet, connections: I64) -> Scorer:
        forest = Forest.compile(fit_forest(data, connections, options))
        return lambda data, test, variant: score_connections(data, forest, test, variant)

    return train


def run_protocols(
    data: DataSet, options: TrainOptions, names: Sequence[str], progress: Progress = lambda _: None
) -> dict[str, Any]:
    """The results of some of ``PROTOCOLS``, by name."""
    method, out = forest_method(options), {}
    for name in names:
        progress(name.replace("_", " "))
        out[name] = PROTOCOLS[name](data, method)
    return out


def score_with(model: Model, data: DataSet) -> Scores:
    """Score a data set with a ready model (its captures must not have trained it)."""
    raw = score_connections(data, model.forest, all_connections(data))
    return _scores(model, raw)


def _scores(model: Model, raw: F64) -> Scores:
    score = np.nan_to_num(model.calibration.apply(raw), nan=0.0)
    return Scores(score, ~np.isnan(raw), ~np.isnan(raw) & (score >= model.threshold))


def cross_validate(
    data: DataSet, options: TrainOptions, progress: Progress = lambda _: None
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


def _called(scores: Scores, rows: Bool) -> dict[str, float | int | None]:
    return rate(int(scores.called[rows].sum()), int(rows.sum()))


def _calibration(data: DataSet, scores: Scores) -> dict[str, float | int]:
    """Over the connections the model was asked about, weighted as for calibrating."""
    asked = scores.asked
    positive, group = data.connections.positive[asked], data.connections.group[asked]
    return calibration(scores.score[asked], positive, mixture_weights(positive, group))


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
    streams = scores.score[c.positive]
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
        "recall_at_rate": [recall_at(streams, scores.score[negative], r) for r in RATES],
        "recall_at_rate_decidable": [recall_at(streams, scores.score[decidable], r) for r in RATES],
        "average_precision": (
            float(average_precision_score(c.positive, scores.score)) if c.positive.any() else None
        ),
        "calibration": _calibration(data, scores),
        "by_category": categories,
    }
