"""Training: what is shown to a forest, how it weighs, and where thresholds lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmflow.features.extract import MODEL_FEATURES, SegmentFeatures
from llmflow.learn.augment import hide_request, hide_uplink
from llmflow.learn.dataset import DataSet
from llmflow.learn.train import (
    TrainOptions,
    _thin,
    _weights,
    all_connections,
    fit_model,
    operating_points,
)
from tests.unit.test_protocols import SIZE, make

NAMES = np.array(list(MODEL_FEATURES))


def of_sources(real: int) -> DataSet:
    """Connections of which one in ``real`` is real."""
    data = make()
    source = np.where(np.arange(SIZE) % real == 0, "real", "lab")
    return replace(data, connections=replace(data.connections, source=source))


def test_the_lab_weighs_as_told_beside_what_is_real() -> None:
    """Within both classes, however many connections each source has."""
    data = of_sources(real=3)
    weight = _weights(data, all_connections(data), TrainOptions(lab_weight=0.5))
    real, positive = data.connections.source == "real", data.connections.positive
    for side in (positive, ~positive):
        assert np.isclose(weight[side & ~real].sum(), 0.5 * weight[side & real].sum())
    assert np.isclose(weight[positive].sum(), weight[~positive].sum())


def test_long_connections_are_thinned_evenly() -> None:
    """A connection keeps so many segments of a scale, from its whole life; short ones keep all."""
    data = make()
    turn = np.repeat(np.arange(3), [100, 7, 2])
    values = np.zeros((len(turn), len(NAMES)))
    segments = SegmentFeatures(turn, np.ones(len(turn), np.uint8), values)
    long = replace(data, segments=segments)
    kept = _thin(long, np.arange(len(turn)), 5)
    assert np.bincount(turn[kept]).tolist() == [5, 5, 2]
    assert np.diff(kept[turn[kept] == 0]).tolist() == [20, 20, 20, 20]


def test_hidden_columns_are_those_of_the_request_and_the_uplink() -> None:
    """What a tap that came late, or sees the downlink alone, cannot know."""
    values = np.ones((1, len(NAMES)))
    request = set(NAMES[np.isnan(hide_request(values))[0]])
    assert {"request_bytes", "wait", "turns", "think_p50"} <= request
    assert "up_packet_share" not in request
    assert request < set(NAMES[np.isnan(hide_uplink(values))[0]])


def test_operating_points_say_what_passed_of_each_source() -> None:
    """A point counts streams and decidable others at its own threshold."""
    score = np.array([0.9, 0.845, np.nan, *np.linspace(0, 0.85, 200)])
    positive = np.arange(len(score)) < 3
    source = np.where(np.arange(len(score)) % 2, "lab", "real")
    points = operating_points(score, positive, np.ones(len(score), np.bool_), source)
    assert [point["false_positive_rate"] for point in points] == [1e-2, 1e-3, 1e-4]
    passed = sum(rate["hits"] for rate in points[0]["false_positives"].values())
    assert passed == 2
    assert points[0]["recall"]["lab"]["hits"] == 1
    assert points[1]["recall"]["real"]["hits"] == 1
    assert points[1]["recall"]["real"]["of"] == 2
    assert points[1]["false_positives"]["lab"]["high"] > 0


def test_the_threshold_is_set_on_real_traffic() -> None:
    """Look-alikes of the lab do not move it, where other traffic of real captures is at hand."""
    data = of_sources(real=3)
    options = TrainOptions(trees=4, folds=2)
    shown = fit_model(data, all_connections(data), options)[0].facts["operating_points"]
    blank = replace(data.connections, decidable=data.connections.source == "real")
    same = fit_model(replace(data, connections=blank), all_connections(data), options)[0]
    assert fit_model(data, all_connections(data), options)[0].threshold == same.threshold
    assert set(shown[0]["recall"]) == {"real", "lab"}
