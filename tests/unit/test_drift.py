"""Drift: distances are those of the books, unchanged traffic raises no alarm, changed does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from llmflow.errors import ModelError
from llmflow.features.extract import MODEL_FEATURES, SegmentFeatures
from llmflow.learn.dataset import Connections, DataSet
from llmflow.learn.drift import Reference, compare, distances, histograms, make_reference

SIZE, GROUPS = 2400, 60


def data_set(seed: int, shift: float = 0.0) -> tuple[DataSet, Any]:
    """One segment a connection; groups differ a little, as captures do; and scores."""
    rng = np.random.default_rng(seed)
    group = np.arange(SIZE) % GROUPS
    values = rng.normal(rng.normal(0, 0.2, (GROUPS, 1))[group], 1.0, (SIZE, len(MODEL_FEATURES)))
    values[rng.random(values.shape) < 0.1] = np.nan
    values[:, 3] += shift
    text = np.array([f"g{n}" for n in group])
    connections = Connections(
        positive=group < 20, decidable=np.ones(SIZE, np.bool_),
        **{name: text for name in Connections.names() if name not in ("positive", "decidable")},
    )  # fmt: skip
    one, zero = np.arange(SIZE), np.zeros(SIZE, np.uint8)
    features = SegmentFeatures(one, zero, values)
    score = np.where(group < 20, 0.9, 0.1) + rng.normal(0, 0.02, SIZE)
    names = tuple(MODEL_FEATURES)
    return DataSet(connections, one, features, np.zeros(SIZE), zero, names, ("",), [], []), score


def test_distances_are_those_of_the_definition() -> None:
    """PSI and KS of two small histograms, by hand."""
    first, second = np.array([3.0, 1.0]), np.array([1.0, 3.0])
    p, q = (3.5 / 5, 1.5 / 5), (1.5 / 5, 3.5 / 5)
    psi = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert distances(first, second) == pytest.approx([psi, p[0] - q[0]])
    assert distances(first, first) == pytest.approx([0, 0])


def test_histograms_count_each_value_once() -> None:
    """Bins are closed on the right; nulls have one of their own."""
    counts = histograms(np.arange(1.0, 10.0)[None], np.array([[1.0], [1.5], [99.0], [np.nan]]))
    assert counts[0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Of a training set."""
    return make_reference(*data_set(1), threshold=0.5)


def test_unchanged_traffic_is_no_drift(reference: Reference) -> None:
    """Other traffic of the same kind lies within the levels of splits of the training set."""
    found = compare(reference, *data_set(2), threshold=0.5)
    assert (found["groups"], found["groups_of_levels"]) == (GROUPS, 20)
    assert found["sides"]["llm-stream"]["connections"] == 800
    assert found["sides"]["other"]["distances"]["score"]["ks"] < 0.1


def test_what_moved_is_named(reference: Reference) -> None:
    """A feature that moved is beyond its level, one that did not is not named alone."""
    data, score = data_set(1, shift=1.0)
    found = compare(reference, data, score, threshold=0.5)
    assert found["advice"] == "look"
    assert found["sides"]["other"]["beyond"] == [list(MODEL_FEATURES)[3]]
    moved = np.where(score > 0.5, score - 0.2, score)
    assert compare(reference, data_set(1)[0], moved, threshold=0.5)["advice"] == "retrain"
    assert compare(reference, data_set(1)[0], score, threshold=0.5)["advice"] == "none"


def test_more_groups_are_compared_more_closely(reference: Reference) -> None:
    """Levels fall with the number of groups that are compared."""
    features = reference.levels[..., 0]
    # Splits are drawn, so neighbouring levels may swap places; the ends may not.
    assert (features[-1] < features[0]).all()


def test_nothing_judged_is_too_little(reference: Reference) -> None:
    """Without a judged connection nothing is said."""
    data, score = data_set(1)
    assert compare(reference, data, score * np.nan, threshold=0.5)["advice"] == "too little"


def test_a_reference_survives_its_file_and_damage_is_told(reference: Reference) -> None:
    """Bytes give the same arrays again; others are refused."""
    again = Reference.from_bytes(reference.to_bytes(), "here")
    for name in ("edges", "counts", "sizes", "levels"):
        assert np.array_equal(getattr(again, name), getattr(reference, name))
    short = Reference(reference.edges[1:], reference.counts, reference.sizes, reference.levels)
    for data in (b"rubbish", b"", short.to_bytes()):
        with pytest.raises(ModelError, match="damaged"):
            Reference.from_bytes(data, "here")
