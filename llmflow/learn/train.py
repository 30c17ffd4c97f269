"""Training: fit a forest on segments, calibrate and set the threshold on held-out connections.

What decides is never set on what was fitted: calibration and threshold come from *out-of-fold*
scores, each connection scored by a forest that saw no capture of its group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import F64, I64, Bool
from llmflow.errors import LabelError
from llmflow.learn.augment import acknowledge_only, hide_request, hide_uplink, one_way
from llmflow.learn.dataset import DataSet
from llmflow.learn.drift import make_reference
from llmflow.learn.forest import Forest
from llmflow.learn.labels import REAL
from llmflow.learn.metrics import rate
from llmflow.learn.model import Calibration, Model

Progress = Callable[[str], None]
POINTS = (1e-2, 1e-3, 1e-4)  # false-positive rates that a model names a threshold for


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train.

    Parameters
    ----------
    trees, least_leaf, feature_share
        Number of extremely randomised trees (Geurts, Ernst, Wehenkel 2006), training rows in a
        leaf at least, share of the features tried at each split.
    folds : int
        Parts for the out-of-fold scores.
    target_fpr : float
        False-positive rate over decidable other connections at the threshold: over the real ones,
        if there are any.
    lab_fpr : float
        The same over the made ones, whose kinds the forest did not know: the threshold keeps to
        both. They are the nearest look-alikes, and rarer in real traffic than among themselves.
    most_segments : int
        Most segments of one connection and scale to train on, spread over its life.
    group_cap : float
        Most weight that the segments of one group may have together, as a number of connections.
    lab_weight : float
        Weight of the segments of a class that are not from real captures (lab, synth), as a
        multiple of the weight of those that are.
    one_way_weight, no_request_weight : float
        Weights of the copies of each segment in which the uplink is hidden, and what was asked
        (see :mod:`llmflow.learn.augment`).
    variants : tuple of str
        Conditions (:mod:`llmflow.learn.perturb`) under which training connections are shown too;
        the data set must hold them.
    variant_weight : float
        Weight of each such copy.
    seed : int
    """

    trees: int = 60
    least_leaf: int = 8
    feature_share: float = 0.2
    folds: int = 6
    target_fpr: float = 0.01
    lab_fpr: float = 0.05
    most_segments: int = 4
    group_cap: float = 30.0
    lab_weight: float = 1.0
    one_way_weight: float = 0.5
    no_request_weight: float = 0.5
    variants: tuple[str, ...] = ()
    variant_weight: float = 0.5
    seed: int = 1


def _weights(data: DataSet, rows: I64, options: TrainOptions) -> F64:
    """Weights of training segments: long connections and large groups must not drown the rest.

    Each scale of a connection with n segments weighs sqrt(n); a group at most ``group_cap``; what
    was made ``lab_weight`` times what is real, within a class; and both classes the same in all.
    """
    connection, scale = data.segment_connection[rows], data.segments.scale[rows]
    _, place, times = np.unique(connection * 256 + scale, return_inverse=True, return_counts=True)
    weight = 1.0 / np.sqrt(times[place])
    _, group = np.unique(data.connections.group[connection], return_inverse=True)
    total = np.bincount(group, weight)[group]
    weight *= np.minimum(1.0, options.group_cap / total)
    positive = data.connections.positive[connection]
    real = data.connections.source[connection] == REAL
    for of in (positive, ~positive):
        if (of & real).any() and (of & ~real).any():
            made, met = weight[of & ~real].sum(), weight[of & real].sum()
            weight[of & ~real] *= options.lab_weight * met / made
    share = np.where(positive, weight[positive].sum(), weight[~positive].sum())
    balanced: F64 = weight * weight.sum() / (2 * share)
    return balanced


def _thin(data: DataSet, rows: I64, most: int) -> I64:
    """At most so many segments of each connection and scale, evenly spread.

    More of a kind teach little, and cost most of the time.
    """
    key = data.segment_connection[rows] * 256 + data.segments.scale[rows]
    order = np.argsort(key, kind="stable")
    _, first, times = np.unique(key[order], return_index=True, return_counts=True)
    place, of = np.arange(len(rows)) - np.repeat(first, times), np.repeat(times, times)
    # Of n, those at which floor(place * most / n) rises.
    kept = (of <= most) | ((place * most) // of != ((place - 1) * most) // of)
    thinned: I64 = np.sort(rows[order[kept]])
    return thinned


def fit_forest(data: DataSet, connections: I64, options: TrainOptions) -> Any:  # noqa: ANN401
    """Fit a scikit-learn forest on the segments of some connections of a data set."""
    from sklearn.ensemble import ExtraTreesClassifier  # noqa: PLC0415 - heavy

    rows = _thin(data, data.rows(connections), options.most_segments)
    values = data.segments.values[rows]
    target = data.connections.positive[data.segment_connection[rows]]
    if len(np.unique(target)) < 2:  # noqa: PLR2004
        raise LabelError(
            "a part of the split leaves segments of one class only",
            hint="add labelled captures with long replies, or change --folds",
        )
    weight = _weights(data, rows, options)
    blind = np.flatnonzero(one_way(values))
    copies = [
        (values, target, weight),
        (hide_uplink(values), target, weight * options.one_way_weight),
        (hide_request(values), target, weight * options.no_request_weight),
        (acknowledge_only(values[blind], options.seed), target[blind], weight[blind]),
    ]
    for name in options.variants:
        seen = data.rows(connections, data.variant_number(name))
        seen = _thin(data, seen, options.most_segments)
        copies.append(
            (
                data.segments.values[seen],
                data.connections.positive[data.segment_connection[seen]],
                _weights(data, seen, options) * options.variant_weight,
            )
        )
    forest = ExtraTreesClassifier(
        options.trees,
        min_samples_leaf=options.least_leaf,
        max_features=options.feature_share,
        random_state=options.seed,
        n_jobs=2,
    )
    forest.fit(*(np.concatenate(column) for column in zip(*copies, strict=True)))
    return forest


def split_groups(
    data: DataSet, connections: I64, folds: int, seed: int
) -> Iterator[tuple[I64, I64]]:
    """Cut connections into parts that share no group, with streams spread over the parts.

    Yields
    ------
    train, test : ndarray of int64
        Rows of ``data.connections``.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415 - heavy

    positive = data.connections.positive[connections]
    groups = data.connections.group[connections]
    for side in (True, False):
        n = len(np.unique(groups[positive == side]))
        if n < folds:
            raise LabelError(
                f"{n} groups of captures hold {'LLM streams' if side else 'other traffic'}, "
                f"and {folds} folds need as many",
                hint="add labelled captures or lower --folds",
            )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for train, test in splitter.split(connections, positive, groups):
        yield connections[train], connections[test]


def score_connections(data: DataSet, forest: Forest, connections: I64, variant: int = 0) -> F64:
    """Raw scores of some connections, in their order, as they are or in a variant."""
    rows = data.rows(connections, variant)
    scores = data.connection_scores(forest.probability(data.segments.values[rows]), rows)
    return scores[connections]


def out_of_fold(data: DataSet, connections: I64, options: TrainOptions, progress: Progress) -> F64:
    """Raw score of each connection by a forest that saw nothing of its group."""
    scores = np.full(len(data.connections), np.nan)
    splits = split_groups(data, connections, options.folds, options.seed)
    for number, (train, test) in enumerate(splits, 1):
        progress(f"fold {number} of {options.folds}")
        forest = Forest.compile(fit_forest(data, train, options))
        scores[test] = score_connections(data, forest, test)
    return scores[connections]


def mixture_weights(positive: Bool, group: NDArray[np.str_]) -> F64:
    """Weights under which scores are calibrated, and calibration is measured.

    n connections of one class in one group weigh sqrt(n) together: they are not n witnesses.
    """
    _, place, times = np.unique(
        np.char.add(group, np.where(positive, "+", "-")), return_inverse=True, return_counts=True
    )
    weights: F64 = 1.0 / np.sqrt(times[place])
    return weights


def fit_calibration(raw: F64, data: DataSet, connections: I64) -> Calibration:
    """Platt's sigmoid on out-of-fold scores, with his targets (1999, section 2.2).

    A stream of a kind that only one group holds was scored by forests that knew no such kind: its
    score tells how the unknown is judged, not how the final forest will judge it. Such streams
    are left out here, unless there are no others. Other traffic of unknown kinds stays.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - heavy

    positive = data.connections.positive[connections]
    group = data.connections.group[connections]
    scored = ~np.isnan(raw)
    usable = scored & (~positive | _kind_in_other_groups(data, connections))
    if not (usable & positive).any():
        usable = scored
    positive, group, raw = positive[usable], group[usable], raw[usable]
    if len(np.unique(positive)) < 2:  # noqa: PLR2004
        raise LabelError(
            "too few connections hold enough evidence to calibrate the scores",
            hint="add labelled captures of streams and of other long-lived connections",
        )
    hits, misses = int(positive.sum()), int((~positive).sum())
    target = np.where(positive, (hits + 1) / (hits + 2), 1 / (misses + 2))
    weight = mixture_weights(positive, group)
    # A soft target is a stream with one weight and no stream with the rest.
    sigmoid = LogisticRegression(C=1e4, max_iter=1000).fit(
        np.concatenate([raw, raw])[:, None],
        np.repeat([True, False], len(raw)),
        np.concatenate([weight * target, weight * (1 - target)]),
    )
    return Calibration(float(sigmoid.coef_[0, 0]), float(sigmoid.intercept_[0]))


def _kind_in_other_groups(data: DataSet, connections: I64) -> Bool:
    """Whether a stream's category is also in another group."""
    picked = data.connections.take(connections)
    group = data.connections.group[connections]
    pairs = set(zip(picked.category[picked.positive], group[picked.positive], strict=True))
    groups_of = Counter(category for category, _ in pairs)
    return np.array([groups_of[category] > 1 for category in picked.category], np.bool_)


def choose_threshold(score: F64, positive: Bool, decidable: Bool, target_fpr: float) -> float:
    """The lowest threshold that keeps the false-positive rate over decidable negatives.

    It lies half-way between the highest score that must stay below and the next stream above.
    """
    known = np.nan_to_num(score, nan=0.0)
    negative = np.sort(known[decidable & ~positive])[::-1]
    allowed = int(target_fpr * len(negative))
    floor = float(negative[allowed]) if allowed < len(negative) else 0.0
    above = known[positive & (known > floor)]
    return (floor + (float(above.min()) if len(above) else 1.0)) / 2


def operating_points(
    score: F64, positive: Bool, decidable: Bool, source: NDArray[np.str_]
) -> list[dict[str, Any]]:
    """Thresholds for false-positive rates over all decidable others, and what each costs.

    Parameters
    ----------
    score : ndarray of float64
        Out of fold and calibrated; NaN where nothing could be judged.
    positive, decidable : ndarray of bool
    source : ndarray of str

    Returns
    -------
    list of dict
        ``false_positive_rate``, ``threshold``, and by source ``recall`` and ``false_positives``
        with Clopper-Pearson intervals: what was certified.
    """
    known, points = np.nan_to_num(score, nan=0.0), []
    for target in POINTS:
        threshold = choose_threshold(score, positive, decidable, target)
        passed = known >= threshold
        entry: dict[str, Any] = {"false_positive_rate": target, "threshold": threshold}
        for name, side in (("recall", positive), ("false_positives", decidable & ~positive)):
            entry[name] = {
                str(of): rate(int((passed & rows).sum()), int(rows.sum()))
                for of in np.unique(source)
                if (rows := side & (source == of)).any()
            }
        points.append(entry)
    return points


def fit_model(
    data: DataSet,
    connections: I64,
    options: TrainOptions,
    *,
    name: str = "llm-stream",
    progress: Progress = lambda _: None,
    remember: bool = False,
) -> tuple[Model, Any]:
    """Train on some connections of a data set: forest, calibration and threshold.

    With ``remember`` the model keeps how their features and scores lie
    (:mod:`llmflow.learn.drift`).

    Returns
    -------
    model : Model
    estimator : sklearn.ensemble.ExtraTreesClassifier
    """
    raw = out_of_fold(data, connections, options, progress)
    picked = data.connections.take(connections)
    calibration = fit_calibration(raw, data, connections)
    score = calibration.apply(raw)
    real = picked.source == REAL
    rates = {True: options.target_fpr, False: options.lab_fpr}
    if not (real & picked.decidable & ~picked.positive).any():
        real[:] = True
    threshold = max(
        choose_threshold(score[side], picked.positive[side], picked.decidable[side], rates[of])
        for of in (True, False)
        if (side := real == of).any()
    )
    points = operating_points(score, picked.positive, picked.decidable, picked.source)
    progress("final fit")
    estimator = fit_forest(data, connections, options)
    forest = Forest.compile(estimator)
    facts = {"options": asdict(options), "operating_points": points}
    strict = max(threshold, points[0]["threshold"])
    reference = None
    if remember:
        known = np.full(len(data.connections), np.nan)
        known[connections] = score
        reference = make_reference(data, known, threshold)
    model = Model(forest, calibration, threshold, name, facts, strict, reference)
    return model, estimator


def all_connections(data: DataSet) -> NDArray[np.int64]:
    """Rows of all connections of a data set."""
    return np.arange(len(data.connections))
