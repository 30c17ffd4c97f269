"""Protocols keep apart what they promise to; metrics say what they mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llmflow.arrays import F64, I64
from llmflow.features.extract import MODEL_FEATURES, SegmentFeatures
from llmflow.learn import protocols
from llmflow.learn.dataset import Connections, DataSet
from llmflow.learn.metrics import recall_at, threshold_at
from llmflow.learn.protocols import Scorer

SIZE = 240


def make(seed: int = 0) -> DataSet:
    """Connections of one segment each, whose first feature tells streams from the rest."""
    rng = np.random.default_rng(seed)
    positive = np.arange(SIZE) % 4 == 0

    def text(prefix: str, number: int) -> Any:
        return np.array([f"{prefix}{n}" for n in rng.integers(number, size=SIZE)])

    category = np.where(positive, text("p", 3), text("k", 8))
    connections = Connections(
        positive=positive,
        decidable=np.ones(SIZE, np.bool_),
        capture=text("c", 30),
        group=text("g", 30),
        label=np.where(positive, "llm-stream", "other"),
        category=category,
        kind=category,
        provider=np.where(category == "p2", "p1", category),
        transport=text("t", 2),
        front=text("f", 2),
        path=text("path", 2),
        source=text("s", 2),
        day=text("d", 2),
        flow=text("flow", SIZE),
    )
    values = rng.random((SIZE, len(MODEL_FEATURES)))
    values[:, 0] = positive + rng.normal(0, 0.1, SIZE)
    one = np.arange(SIZE)
    return DataSet(
        connections, one, SegmentFeatures(one, np.zeros(SIZE, np.uint8), values),
        np.zeros(SIZE), np.zeros(SIZE, np.uint8), tuple(MODEL_FEATURES), ("",), [], [],
    )  # fmt: skip


class Spy:
    """A method that knows the answer, and remembers what it was trained and asked on."""

    def __init__(self) -> None:
        self.calls: list[tuple[I64, I64]] = []

    def __call__(self, data: DataSet, train: I64) -> Scorer:
        def score(data: DataSet, test: I64, variant: int) -> F64:
            self.calls.append((train, test))
            scores: F64 = data.segments.values[test, 0] + variant
            return scores

        return score


@pytest.mark.parametrize(
    ("protocol", "column"),
    [(protocols.grouped, "group"), (protocols.leave_one_source_out, "source")],
)
def test_nothing_is_on_both_sides(protocol: Callable[..., Any], column: str) -> None:
    """No group, or source, both trains a model and is scored by it."""
    data, spy = make(), Spy()
    protocol(data, spy)
    values = getattr(data.connections, column)
    assert spy.calls
    for train, test in spy.calls:
        assert not set(values[train]) & set(values[test])


def test_unseen_kinds_are_unseen() -> None:
    """Other traffic is scored without its kind, streams without their group."""
    data, spy = make(), Spy()
    protocols.unseen_kinds(data, spy, folds=4)
    c = data.connections
    for train, test in spy.calls:
        other = test[~c.positive[test]]
        assert not set(c.kind[train]) & set(c.kind[other])
        assert not set(c.group[train[c.positive[train]]]) & set(c.group[test[c.positive[test]]])
    scored = np.concatenate([test for _, test in spy.calls])
    assert sorted(scored) == list(range(SIZE))


def test_unseen_fronts_are_unseen() -> None:
    """Traffic is scored by models without its front that know its kind."""
    data, spy = make(), Spy()
    protocols.unseen_fronts(data, spy)
    c = data.connections
    assert len(spy.calls) == 2
    for train, test in spy.calls:
        assert not set(c.front[train]) & set(c.front[test])
        assert set(c.kind[test]) <= set(c.kind[train])


def test_what_the_lab_plays_is_not_what_recall_is_about() -> None:
    """With real streams in a data set, only they and real other traffic are scored."""
    data, spy = make(), Spy()
    source = np.where(np.arange(SIZE) % 8 < 4, "real", "lab")
    data = replace(data, connections=replace(data.connections, source=source))
    for protocol in (protocols.leave_one_provider_out, protocols.leave_one_transport_out):
        protocol(data, spy)
    assert all(
        set(source[test]) == {"real"} and "lab" in source[train] for train, test in spy.calls
    )
    assert set(protocols.grouped(data, Spy())) == {"all sources", "real", "lab"}


def test_providers_and_families_are_left_out_whole() -> None:
    """Neither streams nor other connections of the provider train."""
    data, spy = make(), Spy()
    result = protocols.leave_one_provider_out(data, spy, folds=2)
    assert set(result) == {"p0", "p1", "p2", "family p1"}
    c = data.connections
    held = {"p0": {"p0"}, "p1": {"p1"}, "p2": {"p2"}, "family p1": {"p1", "p2"}}
    for number, name in enumerate(result):
        for train, _ in spy.calls[2 * number : 2 * number + 2]:
            assert not set(c.category[train]) & held[name]
        assert result[name]["positives"] == np.isin(c.category, list(held[name])).sum()
        assert result[name]["all"]["recall_at"][0]["rate"] == 1.0


def test_variants_are_held_to_the_operating_point_of_the_traffic_as_it_is() -> None:
    """A condition that lifts all scores lets all pass, at a threshold that knows nothing of it."""
    data = replace(make(), variants=("", "loud"))
    found = protocols.robustness(data, Spy(), folds=3)
    plain, loud = (found["variants"][name] for name in ("as it is", "loud"))
    assert plain["false_positives"]["hits"] <= 0.01 * plain["false_positives"]["of"]
    assert plain["recall"]["rate"] == loud["recall"]["rate"] == 1.0
    assert loud["false_positives"]["rate"] > 0.4


def test_permuted_labels_are_not_found() -> None:
    """A method that reads the true answer gains nothing on labels that were dealt out anew."""
    auc = protocols.permuted(make(), Spy())["decidable"]["auc"]
    assert 0.35 < auc < 0.65


def test_the_threshold_lets_pass_what_it_says() -> None:
    """At most the target, ties included; with too few negatives, none."""
    negative = np.array([0.5, 0.5, 0.5, 0.1])
    threshold, allowed = threshold_at(negative, 0.25)
    assert allowed == 1
    assert (negative > threshold).sum() <= allowed
    entry = recall_at(np.array([0.6, 0.5]), negative, 1e-3)
    assert (entry["hits"], entry["false_positives"]["hits"]) == (1, 0)
    # Zero of four certifies little, and the precision says so.
    assert entry["precision_at_least"]["0.0006"] < 0.01
