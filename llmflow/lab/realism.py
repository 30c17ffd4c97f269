"""How near the lab's replies come to real ones: their gaps, sizes and lengths, and what tells them.

Both sides go through the same line: captures, flows, turns, segments. Two samples are compared by
the Kolmogorov-Smirnov distance (0: alike, 1: apart) and the ratio of their medians; a classifier on
the features that models read says whether the two can be told apart at all (AUC 0.5: they cannot).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import IO, Any

import numpy as np

from llmflow.arrays import F64, I64
from llmflow.features.extract import LEAST_CHUNKS, MODEL_FEATURES, extract
from llmflow.features.segments import cut_segments
from llmflow.flows.episodes import EPISODE_SILENCE
from llmflow.flows.stream import Assembled, FlowStream
from llmflow.learn.extraction import connection_keys
from llmflow.learn.labels import ConnectionKey, LabelledCapture

# Categories of real captures, and of the lab's connections that are to be like them.
PAIRS = {
    "gpt4o-api": "openai-chat",
    "chatgpt": "chatgpt-web",
    "claude": "claude-web",
    "gemini": "gemini-web",
}
MEASURES = {"gap": "ms", "size": "bytes", "duration": "s"}
FOLDS, TELLING = 5, 5
MILLISECOND = 1_000_000  # ns

Telling = list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Replies:
    """What replies of one category measured.

    Parameters
    ----------
    gap : ndarray of float64
        Milliseconds between neighbouring chunks, silences of more than 2 s left out.
    size : ndarray of float64
        Bytes of the chunks.
    duration : ndarray of float64
        Seconds from first chunk to last, one for each reply of at least ``LEAST_CHUNKS`` chunks.
    features : ndarray of float64, shape (segments, features)
        What models read, of the segments of all scales.
    connection : ndarray of int64
        Connection of each of these segments.
    """

    gap: F64
    size: F64
    duration: F64
    features: F64
    connection: I64


_COLUMNS = [field.name for field in fields(Replies)]


@dataclass(frozen=True, slots=True)
class Likeness:
    """A real category and the lab's beside each other.

    ``auc`` is None, and ``telling`` empty, where there are too few connections to learn from.
    """

    real_category: str
    lab_category: str
    real: Replies
    lab: Replies
    auc: float | None
    telling: Telling

    def as_dict(self) -> dict[str, Any]:
        """Numbers for JSON."""
        measures = {
            name: two_samples(getattr(self.real, name), getattr(self.lab, name))
            for name in MEASURES
        }
        return {
            "real": self.real_category,
            "lab": self.lab_category,
            "measures": measures,
            "auc": self.auc,
            "telling_features": [{"name": name, "auc": auc} for name, auc in self.telling],
        }


def two_samples(real: F64, lab: F64) -> dict[str, float | int | None]:
    """Kolmogorov-Smirnov distance and medians of two samples; None for empty ones.

    Examples
    --------
    >>> two_samples(np.array([1.0, 2, 3]), np.array([2.0, 4, 6]))["ratio"]
    2.0
    """
    counts: dict[str, float | int | None] = {"real": len(real), "lab": len(lab)}
    if not len(real) or not len(lab):
        return counts | {"ks": None, "ratio": None, "median_real": None, "median_lab": None}
    values = np.sort(np.concatenate([real, lab]))
    below = [np.searchsorted(np.sort(x), values, side="right") / len(x) for x in (real, lab)]
    medians = float(np.median(real)), float(np.median(lab))
    return counts | {
        "ks": float(np.abs(below[0] - below[1]).max()),
        "ratio": medians[1] / medians[0] if medians[0] else None,
        "median_real": medians[0],
        "median_lab": medians[1],
    }


def compare(
    real: Sequence[LabelledCapture],
    lab: Sequence[LabelledCapture],
    pairs: Mapping[str, str] = PAIRS,
    seed: int = 0,
) -> list[Likeness]:
    """Compare the streams of real and lab captures, category by category.

    Parameters
    ----------
    real, lab : sequence of LabelledCapture
    pairs : mapping of str to str
        Categories of the real connections to those of the lab. Pairs that one side lacks are left
        out.
    seed : int
        Of the classifier and its folds.

    Raises
    ------
    CaptureError
        A capture cannot be read.
    """
    found = []
    for real_category, lab_category in pairs.items():
        one, other = measure(real, real_category), measure(lab, lab_category)
        if len(one.duration) and len(other.duration):
            auc, telling = _tell_apart(one, other, seed)
            found.append(Likeness(real_category, lab_category, one, other, auc, telling))
    return found


def measure(captures: Sequence[LabelledCapture], category: str) -> Replies:
    """Measure the streams of a category.

    Raises
    ------
    CaptureError
        A capture cannot be read.
    """
    width = len(MODEL_FEATURES)
    empty = np.empty(0)
    parts = [Replies(empty, empty, empty, np.empty((0, width)), np.empty(0, np.int64))]
    numbers: dict[tuple[int, ConnectionKey], int] = {}
    for place, capture in enumerate(captures):
        names = [*capture.flows.values(), capture.default]
        if not any(name and name.positive and name.category == category for name in names):
            continue
        for step in FlowStream([str(capture.path)]).assemble():
            connection = np.full(len(step.batch.flows), -1)
            for flow, key in enumerate(connection_keys(step.batch)):
                label = capture.label(key)
                if label and label.positive and label.category == category:
                    connection[flow] = numbers.setdefault((place, key), len(numbers))
            parts.append(_measured(step, connection))
    return Replies(*(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS))


def _measured(step: Assembled, connection: I64) -> Replies:
    replies = cut_segments(step.batch, step.data, step.turns, "turn")
    of = connection[step.turns.flow[replies.turn]]
    replies = replies.keep((of >= 0) & (replies.down.chunks >= LEAST_CHUNKS))
    down, segments = replies.down, extract(replies)
    return Replies(
        down.gap[down.gap <= EPISODE_SILENCE] / MILLISECOND,
        down.chunk_size,
        down.duration,
        segments.values,
        connection[step.turns.flow[segments.turn]],
    )


def _tell_apart(real: Replies, lab: Replies, seed: int) -> tuple[float | None, Telling]:
    """AUC of a forest that tells lab from real, and the features that do it best alone.

    No connection is on both sides of a split.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    if min(len(np.unique(side.connection)) for side in (real, lab)) < FOLDS:
        return None, []
    # A feature that one side lacks (the uplink, of one-way captures) would give it away.
    seen = [~np.isnan(side.features) for side in (real, lab)]
    shared = np.logical_and(*(np.any(some, axis=0) for some in seen))
    names = [name for name, both in zip(MODEL_FEATURES, shared, strict=True) if both]
    values = np.concatenate([real.features, lab.features])[:, shared]
    is_lab = np.repeat([False, True], [len(real.features), len(lab.features)])
    group = np.concatenate([real.connection, lab.connection + real.connection.max() + 1])
    # Each side weighs the same, whatever its number of segments.
    forest = RandomForestClassifier(
        200, min_samples_leaf=3, class_weight="balanced", random_state=seed
    )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    guess = cross_val_predict(
        forest, values, is_lab, groups=group, cv=folds, method="predict_proba"
    )[:, 1]
    alone = {}
    for name, column in zip(names, values.T, strict=True):
        some = ~np.isnan(column)
        if len(np.unique(is_lab[some])) > 1:
            area = float(roc_auc_score(is_lab[some], column[some]))
            alone[name] = max(area, 1 - area)
    best = sorted(alone.items(), key=lambda item: (-item[1], item[0]))[:TELLING]
    return float(roc_auc_score(is_lab, guess)), best


def draw(found: Sequence[Likeness], sink: IO[bytes], form: str) -> None:
    """Draw how gaps, sizes and durations are distributed: real and lab side by side.

    Parameters
    ----------
    found : sequence of Likeness
    sink : binary file
    form : {"svg", "png"}
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "llmflow"  # same input, same bytes
    figure = Figure(figsize=(10, 2.6 * len(found)), layout="constrained")
    rows = figure.subplots(len(found), len(MEASURES), squeeze=False)
    for axes, one in zip(rows, found, strict=True):
        for axis, (name, unit) in zip(axes, MEASURES.items(), strict=True):
            for side, label, style in (
                (one.real, f"real: {one.real_category}", {"color": "#7a7a7a", "lw": 2.2}),
                (one.lab, f"lab: {one.lab_category}", {"color": "#1f5fa8", "lw": 1.2}),
            ):
                values = getattr(side, name)
                axis.ecdf(values[values > 0], label=label, **style)
            ks = two_samples(getattr(one.real, name), getattr(one.lab, name))["ks"]
            axis.set_xscale("log")
            axis.xaxis.set_minor_formatter("")  # labels of the decades are enough
            axis.set(xlabel=f"{name}, {unit}", title=f"KS {ks:.2f}")
        axes[0].legend(fontsize="small")
        auc = "too few connections" if one.auc is None else f"AUC lab from real {one.auc:.2f}"
        axes[0].set_ylabel(auc)
    figure.savefig(sink, format=form, metadata={"Date": None} if form == "svg" else None)
