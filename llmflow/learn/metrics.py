"""Numbers about scores: recall at false-positive rates, precision at base rates, calibration.

False-positive rates are over all negatives and over the *decidable* ones, proportions come with
Clopper-Pearson 95 % intervals (Biometrika 1934).
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import F64, Bool
from llmflow.learn.dataset import DataSet

RATES = (1e-2, 1e-3, 2e-4, 1e-4)  # false-positive rates at which recall is reported
# Share of LLM streams among an operator's flows: 0.06 % of the bytes (Ericsson Mobility Report,
# June 2025), and less.
BASE_RATES = (6e-4, 1e-4)
LENGTHS = (2.0, 5.0, 15.0)  # seconds: reply lengths are reported below, between and above
_BINS = 10
_WORST = 5
NEVER = -1.0  # score of what the model was not asked about


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


def threshold_at(negative: F64, target: float) -> tuple[float, int]:
    """The score above which at most ``target`` of the negatives lie, and how many these may be.

    Examples
    --------
    >>> threshold_at(np.array([0.1, 0.9, 0.3, 0.2]), 0.25)
    (0.3, 1)
    """
    ordered = np.sort(negative)[::-1]
    allowed = int(target * len(ordered))
    return (float(ordered[allowed]) if allowed < len(ordered) else NEVER), allowed


def precision(recall: float, false_positive_rate: float, base_rate: float) -> float:
    """Share of the alarms that are right where ``base_rate`` of all flows are streams.

    Examples
    --------
    >>> round(precision(0.9, 1e-3, 6e-4), 3)
    0.351
    """
    right, wrong = base_rate * recall, (1 - base_rate) * false_positive_rate
    return right / (right + wrong) if right + wrong else float("nan")


def recall_at(positive: F64, negative: F64, target: float) -> dict[str, Any]:
    """Recall at the operating point of a false-positive rate, and what was certified there.

    Returns
    -------
    dict
        The recall with its interval; ``false_positives``: rate and interval of those really there;
        ``precision``: at ``BASE_RATES``, if the false-positive rate were the upper end of its
        interval.
    """
    threshold, _ = threshold_at(negative, target)
    found = rate(int((positive > threshold).sum()), len(positive))
    passed = rate(int((negative > threshold).sum()), len(negative))
    certified = {
        f"{base:g}": precision(found["rate"] or 0.0, passed["high"] or 0.0, base)
        for base in BASE_RATES
    }
    return {
        "false_positive_rate": target,
        "threshold": threshold,
        **found,
        "false_positives": passed,
        "precision_at_least": certified,
    }


def ranking(positive: F64, negative: F64) -> dict[str, Any]:
    """Area under the ROC curve, and average precision re-weighted to base rates."""
    from sklearn.metrics import average_precision_score, roc_auc_score  # noqa: PLC0415 - heavy

    if not (len(positive) and len(negative)):
        return {"auc": None, "average_precision": {}}
    score = np.concatenate([positive, negative])
    truth = np.repeat([True, False], [len(positive), len(negative)])
    weights = {
        f"{base:g}": np.where(truth, base / len(positive), (1 - base) / len(negative))
        for base in BASE_RATES
    }
    return {
        "auc": float(roc_auc_score(truth, score)),
        "average_precision": {
            base: float(average_precision_score(truth, score, sample_weight=weight))
            for base, weight in weights.items()
        },
    }


def calibration(score: F64, positive: Bool, weight: F64) -> dict[str, float | int]:
    """Brier score and expected calibration error of probabilities."""
    if len(score) == 0:
        return {"connections": 0}
    place = np.minimum((score * _BINS).astype(np.int64), _BINS - 1)
    gap = np.bincount(place, weight * (score - positive), minlength=_BINS)
    return {
        "connections": len(score),
        "brier": float(np.average((score - positive) ** 2, weights=weight)),
        "expected_calibration_error": float(np.abs(gap).sum() / weight.sum()),
    }


def reply_lengths(data: DataSet) -> NDArray[np.str_]:
    """The length class of each connection's longest reply; ``unjudged`` where none was measured."""
    longest = np.full(len(data.connections), np.nan)
    rows = np.flatnonzero((data.segments.scale == 0) & (data.variant == 0))
    seconds = data.segments.values[rows, data.features.index("duration")]
    np.fmax.at(longest, data.segment_connection[rows], seconds)
    edges = [f"{edge:g}" for edge in LENGTHS]
    names = [f"< {edges[0]} s", *(f"{a}-{b} s" for a, b in itertools.pairwise(edges)),
             f">= {edges[-1]} s", "unjudged"]  # fmt: skip
    place = np.searchsorted(LENGTHS, longest, "right")
    return np.array(names)[np.where(np.isnan(longest), len(names) - 1, place)]


def summary(data: DataSet, raw: F64, positive: Bool, negative: Bool) -> dict[str, Any]:
    """What raw scores achieve on some positives and some negatives.

    Parameters
    ----------
    data : DataSet
    raw : ndarray of float64
        Score of each connection; NaN where the model was not asked.
    positive, negative : ndarray of bool
        Which connections count.

    Returns
    -------
    dict
        Recall at ``RATES`` of all and of the decidable negatives, ranking, recall by category,
        transport and reply length, and the worst negatives.
    """
    c = data.connections
    score = np.where(np.isnan(raw), NEVER, raw)
    decidable = negative & c.decidable
    sides = {"all": negative, "decidable": decidable}
    out: dict[str, Any] = {"positives": int(positive.sum())}
    for name, side in sides.items():
        out[name] = {
            "negatives": int(side.sum()),
            "recall_at": [recall_at(score[positive], score[side], target) for target in RATES],
            **ranking(score[positive], score[side]),
        }
    # The operating points that can be told from zero on a thousand decidable negatives or fewer.
    point = threshold_at(score[decidable], RATES[0])[0]
    out["at"] = {"threshold": point, "of": f"{RATES[0]:g} of the decidable"}
    lengths = reply_lengths(data)
    for name, values in (
        ("category", c.category), ("transport", c.transport), ("reply", lengths),
    ):  # fmt: skip
        out[f"by_{name}"] = {
            str(value): rate(int((score[rows] > point).sum()), int(rows.sum()))
            for value in np.unique(values[positive])
            if (rows := positive & (values == value)).any()
        }
    out["worst_kinds"] = _worst_kinds(data, score > point, decidable)
    return out


def _worst_kinds(data: DataSet, passed: Bool, negative: Bool) -> list[dict[str, Any]]:
    """The kinds of negatives that most false positives come from."""
    kind = data.connections.kind
    names, counts = np.unique(kind[negative & passed], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_WORST]
    return [
        {
            "kind": str(names[at]),
            **rate(int(counts[at]), int((negative & (kind == names[at])).sum())),
        }
        for at in order
    ]
