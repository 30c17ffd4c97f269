"""Protocols: which connections train, which are scored, so that the score tells something.

Each scores a connection with a model that knows nothing of it in the protocol's sense: nothing of
its group of captures, of its provider, transport or source, or (*unseen kinds*) of its kind. A
protocol is a function from a data set and a method to plain numbers, deterministic given its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import F64, I64, Bool
from llmflow.learn.dataset import DataSet
from llmflow.learn.labels import REAL
from llmflow.learn.metrics import NEVER, rate, summary, threshold_at

# From a data set and the connections to train on to what scores others, in a variant (0: as they
# are): raw, NaN if not asked.
Scorer = Callable[[DataSet, I64, int], F64]
Method = Callable[[DataSet, I64], Scorer]
Text = NDArray[np.str_]

ROBUST_AT = 1e-2  # of the decidable others pass where variants are compared


def folds_of(names: Text, weight: I64, folds: int, seed: int) -> I64:
    """Deal names to folds so that the folds weigh about the same; one name, one fold.

    Heavy names first, each to the lightest fold; names of one weight in random order.
    """
    unique, place = np.unique(names, return_inverse=True)
    total = np.bincount(place, weight)
    shuffled = np.random.default_rng(seed).permutation(len(unique))
    load, fold = np.zeros(folds), np.zeros(len(unique), np.int64)
    for name in shuffled[np.argsort(-total[shuffled], kind="stable")]:
        fold[name] = np.argmin(load)
        load[fold[name]] += total[name] + 1e-3  # names without weight are dealt out too
    dealt: I64 = fold[place]
    return dealt


def cross_scores(
    data: DataSet, method: Method, fold: I64, train: Bool, variants: Sequence[int] = (0,)
) -> F64:
    """Score the connections of each fold (-1: of none) with a model of ``train`` less the fold.

    Returns
    -------
    ndarray of float64, shape (variants, connections)
    """
    raw = np.full((len(variants), len(data.connections)), np.nan)
    for number in np.unique(fold[fold >= 0]):
        inside = fold == number
        scorer = method(data, np.flatnonzero(train & ~inside))
        test = np.flatnonzero(inside)
        for place, variant in enumerate(variants):
            raw[place, test] = scorer(data, test, variant)
    return raw


def _judged(data: DataSet) -> I64:
    """Segments of each connection: what folds weigh."""
    counts: I64 = np.bincount(data.segment_connection, minlength=len(data.connections))
    return counts


def _group_folds(data: DataSet, folds: int, seed: int) -> I64:
    """Folds by group, streams and other traffic dealt apart."""
    c, judged = data.connections, _judged(data)
    streams = np.unique(c.group[c.positive])
    with_streams = np.isin(c.group, streams)
    fold = np.empty(len(c), np.int64)
    for side in (with_streams, ~with_streams):
        if side.any():
            fold[side] = folds_of(c.group[side], judged[side], folds, seed)
    return fold


def _by_source(data: DataSet, raw: F64, positive: Bool, negative: Bool) -> dict[str, Any]:
    """A summary; if there are several sources of traffic, one of all and one of each."""
    source = data.connections.source
    names = np.unique(source[positive])
    if len(names) < 2:  # noqa: PLR2004
        return summary(data, raw, positive, negative)
    return {
        "all sources": summary(data, raw, positive, negative),
        **{
            str(name): summary(data, raw, positive & (source == name), negative & (source == name))
            for name in names
        },
    }


def grouped(data: DataSet, method: Method, folds: int = 6, seed: int = 1) -> dict[str, Any]:
    """Cross-validation: no group of captures on both sides."""
    c = data.connections
    everything = np.ones(len(c), np.bool_)
    (raw,) = cross_scores(data, method, _group_folds(data, folds, seed), everything)
    return _by_source(data, raw, c.positive, ~c.positive)


def without(
    data: DataSet, method: Method, held: Bool, folds: int = 2, seed: int = 1
) -> dict[str, Any]:
    """Leave connections out of all training, and score them beside unseen other traffic.

    Parameters
    ----------
    held : ndarray of bool
        What to leave out; its streams are what recall is about. Negatives of the same sources,
        held or not, are scored by models that saw nothing of their group.
    """
    c = data.connections
    fold = _group_folds(data, folds, seed)
    fold[held & c.positive] = np.arange(int((held & c.positive).sum())) % folds
    fold[c.positive & ~held] = -1
    alike = np.isin(c.source, np.unique(c.source[held & c.positive]))
    fold[~alike] = -1
    (raw,) = cross_scores(data, method, fold, ~held)
    return summary(data, raw, held & c.positive, ~c.positive & alike)


def _met(data: DataSet) -> Bool:
    """Streams of real captures; all streams, where none is real."""
    c = data.connections
    real = c.positive & (c.source == REAL)
    return real if real.any() else c.positive


def _each(values: Text, of: Bool) -> Iterator[tuple[str, Bool]]:
    for value in np.unique(values[of]):
        yield str(value), values == value


def leave_one_provider_out(
    data: DataSet, method: Method, folds: int = 2, seed: int = 1
) -> dict[str, Any]:
    """Leave out each service met in real captures, and each family of several services.

    What the lab plays stays in training: it is nobody's traffic.
    """
    c, met = data.connections, _met(data)
    sources = np.isin(c.source, np.unique(c.source[met]))
    out = {
        name: without(data, method, held & sources, folds, seed)
        for name, held in _each(c.category, met)
    }
    for name, held in _each(c.provider, met):
        if len(np.unique(c.category[held & met])) > 1:
            out[f"family {name}"] = without(data, method, held & sources, folds, seed)
    return out


def leave_one_transport_out(
    data: DataSet, method: Method, folds: int = 2, seed: int = 1
) -> dict[str, Any]:
    """Leave out all streams over TCP, or UDP, and score the real ones; other traffic stays."""
    c, met = data.connections, _met(data)
    protocol = np.array([flow.partition(" ")[0] for flow in c.flow])
    everything = np.ones(len(c), np.bool_)
    out = {}
    for name, held in _each(protocol, met):
        fold = _group_folds(data, folds, seed)
        fold[c.positive] = np.where(held & met, np.arange(len(c)) % folds, -1)[c.positive]
        fold[~np.isin(c.source, np.unique(c.source[met]))] = -1
        (raw,) = cross_scores(data, method, fold, everything & ~(held & c.positive))
        out[name] = summary(data, raw, held & met, ~c.positive & (fold >= 0))
    return out


def leave_one_source_out(data: DataSet, method: Method) -> dict[str, Any]:
    """Train on one source (real, lab, synth), test on the other, both ways."""
    c, out = data.connections, {}
    for name, held in _each(c.source, c.positive):
        if held.all():
            continue
        test = np.flatnonzero(held)
        raw = np.full(len(c), np.nan)
        raw[test] = method(data, np.flatnonzero(~held))(data, test, 0)
        out[f"to {name}"] = summary(data, raw, held & c.positive, held & ~c.positive)
    return out


def unseen_kinds(data: DataSet, method: Method, folds: int = 12, seed: int = 1) -> dict[str, Any]:
    """Score other traffic with models that know none of its kind; streams by group.

    In each fold some kinds are left out together with some groups of streams. The lab's streams
    are grouped by kind: nobody has met their kind either.
    """
    c = data.connections
    return _unseen(data, method, _group_folds(data, folds, seed)[c.positive], folds, seed)


def unseen_lookalikes(
    data: DataSet, method: Method, folds: int = 12, seed: int = 1
) -> dict[str, Any]:
    """As :func:`unseen_kinds`, but of the lab's streams other sessions of their kind are known."""
    c = data.connections
    fold = _group_folds(data, folds, seed)
    made = np.flatnonzero(c.positive & (c.source != REAL))
    fold[made] = np.random.default_rng(seed).permutation(len(made)) % folds
    return _unseen(data, method, fold[c.positive], folds, seed)


def _unseen(data: DataSet, method: Method, streams: I64, folds: int, seed: int) -> dict[str, Any]:
    """Streams by given folds, other traffic by kind."""
    c = data.connections
    other, fold = ~c.positive, np.empty(len(c), np.int64)
    fold[c.positive] = streams
    fold[other] = folds_of(c.kind[other], _judged(data)[other], folds, seed)
    (raw,) = cross_scores(data, method, fold, np.ones(len(c), np.bool_))
    return _by_source(data, raw, c.positive, other)


def unseen_fronts(data: DataSet, method: Method, seed: int = 1) -> dict[str, Any]:
    """Score traffic with models that know its kind, but not the software that served it.

    Each known front is left out in turn; what only one front serves is not scored. Connections
    without a front are other traffic of real captures, scored by models that saw nothing of their
    group.
    """
    c = data.connections
    fronts = np.unique(c.front[c.front != ""])
    pairs = np.unique(np.stack([c.kind, c.front])[:, c.front != ""], axis=1)
    kinds, served_by = np.unique(pairs[0], return_counts=True)
    scored = (c.front != "") & np.isin(c.kind, kinds[served_by > 1])
    place = np.searchsorted(fronts, c.front)
    real = (c.source == REAL) & (c.front == "")
    fold = np.where(c.front != "", place, -1)
    if len(fronts) > 1 and real.any():
        fold[real] = _group_folds(data, len(fronts), seed)[real]
    (raw,) = cross_scores(data, method, fold, np.ones(len(c), np.bool_))
    other = ~c.positive & (scored | (real & (fold >= 0)))
    return summary(data, raw, c.positive & scored, other)


def permuted(data: DataSet, method: Method, folds: int = 4, seed: int = 1) -> dict[str, Any]:
    """Control: with labels dealt out anew, nothing must be found beyond chance.

    Labels are permuted among the connections that have a segment.
    """
    c = data.connections
    judged = np.flatnonzero(_judged(data))
    positive = c.positive.copy()
    positive[judged] = np.random.default_rng(seed).permutation(positive[judged])
    shuffled = replace(data, connections=replace(c, positive=positive))
    (raw,) = cross_scores(
        shuffled, method, _group_folds(data, folds, seed), np.ones(len(c), np.bool_)
    )
    asked = ~np.isnan(raw)
    return summary(shuffled, raw, positive & asked, ~positive & asked)


def robustness(data: DataSet, method: Method, folds: int = 6, seed: int = 1) -> dict[str, Any]:
    """What each variant of a data set costs, at the operating points of the traffic as it is.

    Of variants that servers cause, recall counts; of those that taps cause, false positives too.
    Sources of traffic that were not measured so only train.
    """
    c = data.connections
    measured = np.unique(c.source[data.segment_connection[data.variant > 0]])
    asked = np.isin(c.source, measured) | (not len(measured))
    fold, everything = _group_folds(data, folds, seed), np.ones(len(c), np.bool_)
    raw = cross_scores(data, method, fold, everything, range(len(data.variants)))
    score = np.where(np.isnan(raw), NEVER, raw)
    positive, decidable = c.positive & asked, ~c.positive & c.decidable & asked
    point, _ = threshold_at(score[0][decidable], ROBUST_AT)

    def passed(place: int, of: Bool) -> dict[str, float | int | None]:
        return rate(int((score[place][of] > point).sum()), int(of.sum()))

    return {
        "false_positive_rate_decidable": ROBUST_AT,
        "threshold": point,
        "variants": {
            name or "as it is": {
                "recall": rate(int((score[place][positive] > point).sum()), int(positive.sum())),
                "false_positives": rate(
                    int((score[place][decidable] > point).sum()), int(decidable.sum())
                ),
                "by_category": {
                    category: rate(int((score[place][of] > point).sum()), int(of.sum()))
                    for category, held in _each(c.category, positive)
                    if (of := held & positive).any()
                },
            }
            for place, name in enumerate(data.variants)
        },
    }


PROTOCOLS: dict[str, Callable[[DataSet, Method], dict[str, Any]]] = {
    "grouped": grouped,
    "leave_one_provider_out": leave_one_provider_out,
    "leave_one_transport_out": leave_one_transport_out,
    "leave_one_source_out": leave_one_source_out,
    "unseen_kinds": unseen_kinds,
    "unseen_lookalikes": unseen_lookalikes,
    "unseen_fronts": unseen_fronts,
    "permuted": permuted,
    "robustness": robustness,
}
