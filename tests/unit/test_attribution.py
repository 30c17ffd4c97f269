"""What moved a score: sums that are exact, and credit that goes where the trees asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmflow.engine.pick import pick_flow
from llmflow.features.extract import MODEL_FEATURES, SCALES, SegmentFeatures, extract
from llmflow.features.segments import cut_segments
from llmflow.flows.stream import FlowStream, with_turns
from llmflow.learn.attribution import attribute
from llmflow.learn.forest import Forest
from llmflow.learn.model import load_model
from tests.unit.test_forest import FEATURES, fitted, random_rows, stump

MIXED = Path(__file__).parents[2] / "pcaps" / "mixed.pcap"


def features_of(flow: str) -> tuple[SegmentFeatures, int]:
    step = with_turns(pick_flow(FlowStream([str(MIXED)]), flow))
    replies = cut_segments(step.batch, step.data, step.turns, "turn")
    return extract(replies), len(step.turns)


@pytest.mark.parametrize("kind", ["extra", "random"])
@pytest.mark.parametrize("nulls", [0.0, 0.5])
def test_base_and_contributions_sum_to_the_probability(kind: str, nulls: float) -> None:
    """Nothing of a probability is left unexplained, with nulls or without."""
    forest = Forest.compile(fitted(kind, nulls=nulls))
    values = random_rows(200, 7, nulls=nulls)
    base, moved = forest.contributions(values)
    assert moved.shape == values.shape
    np.testing.assert_allclose(base + moved.sum(axis=1), forest.probability(values), atol=1e-12)


def test_a_stump_credits_the_feature_it_asks_about() -> None:
    """By hand: root 0.5, leaves 0.25 and 0.75, and a second tree that asks nothing."""
    values = np.zeros((3, FEATURES))
    values[:, 2] = [0.0, 1.0, np.nan]  # left, right, and nulls go left where `column` is small
    base, moved = stump().contributions(values)
    assert base == 0.5
    assert moved[:, 2].tolist() == [-0.125, 0.125, -0.125]
    assert not np.delete(moved, 2, axis=1).any()
    _, other = stump(column=[2 + FEATURES, 0, 0, 0]).contributions(values)
    assert other[:, 2].tolist() == [-0.125, 0.125, 0.125]


def test_a_feature_that_no_tree_asks_about_moves_nothing() -> None:
    """Its column can hold anything."""
    estimator = fitted("extra", nulls=0.0)
    forest, values = Forest.compile(estimator), random_rows(50, 3, nulls=0.0)
    inner = forest.left != np.arange(len(forest.left)) - np.repeat(
        forest.roots[:-1], np.diff(forest.roots)
    )
    column = np.where(inner & (forest.column % FEATURES == 4), 0, forest.column)
    blind = replace(forest, column=column.astype(np.int32))
    _, before = blind.contributions(values)
    values[:, 4] = np.random.default_rng(5).permutation(values[:, 4]) * 100
    _, after = blind.contributions(values)
    assert not before[:, 4].any()
    assert np.array_equal(before, after)


def test_rows_and_columns_can_be_permuted() -> None:
    """Credit belongs to the feature, wherever its column stands, and to the row alone."""
    forest, values = Forest.compile(fitted("extra")), random_rows(60, 11)
    base, moved = forest.contributions(values)
    rng = np.random.default_rng(2)
    rows, columns = rng.permutation(len(values)), rng.permutation(FEATURES)
    null_right, asked = np.divmod(forest.column, FEATURES)
    place = np.argsort(columns)
    turned = replace(forest, column=(place[asked] + FEATURES * null_right).astype(np.int32))
    other_base, other = turned.contributions(values[rows][:, columns])
    assert other_base == base
    np.testing.assert_allclose(other, moved[rows][:, columns], atol=1e-15)


def test_no_rows_have_no_contributions() -> None:
    """An empty table gives an empty table."""
    _, moved = stump().contributions(np.empty((0, FEATURES)))
    assert moved.shape == (0, FEATURES)


@pytest.mark.parametrize("flow", ["8891", "caab", "d48d", "a7ec"])
def test_a_turn_sums_to_its_raw_score(flow: str) -> None:
    """Base and features give what `classify` calibrates, whatever scales were judged."""
    model = load_model()
    features, turns = features_of(flow)
    raw = model.score_turns(features, turns)
    for turn in np.flatnonzero(~np.isnan(raw)):
        told = attribute(model, features, int(turn))
        assert told.raw == pytest.approx(raw[turn], abs=1e-12)
        assert told.base + told.moved.sum() == pytest.approx(told.raw, abs=1e-12)
        assert told.scale[0] == list(SCALES).index("turn")
        assert told.values.shape == (len(told.scale), len(MODEL_FEATURES))
        strength = dict(zip(MODEL_FEATURES, np.abs(told.moved), strict=True))
        ranked = [strength[name] for name in told.ranked()]
        assert ranked == sorted(ranked, reverse=True)
