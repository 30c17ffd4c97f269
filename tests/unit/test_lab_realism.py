"""The comparison of lab and real captures finds equal what is equal, and different what differs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from llmflow.features.extract import MODEL_FEATURES
from llmflow.lab.realism import (
    Likeness,
    Replies,
    _tell_apart,
    compare,
    draw,
    measure,
    two_samples,
)
from llmflow.learn.labels import read_labels

PCAPS = Path(__file__).parents[2] / "pcaps"


def compared(real: str, lab: str) -> Likeness:
    sides = [read_labels([PCAPS / f"{name}.labels.csv"]) for name in (real, lab)]
    (found,) = compare(sides[0], sides[1], {real: lab})
    return found


def test_two_samples_apart_and_alike() -> None:
    low, high = np.arange(1.0, 11), np.arange(101.0, 111)
    assert two_samples(low, low)["ks"] == 0
    assert two_samples(low, high)["ks"] == 1
    assert two_samples(low, high)["ratio"] == pytest.approx(105.5 / 5.5)
    half = two_samples(low, np.concatenate([low[:5], high[:5]]))
    assert half["ks"] == 0.5


def test_empty_samples_have_no_distance() -> None:
    assert two_samples(np.empty(0), np.ones(3))["ks"] is None


def test_a_capture_is_like_itself() -> None:
    found = compared("drip", "drip").as_dict()
    assert {m["ks"] for m in found["measures"].values()} == {0}
    assert {m["ratio"] for m in found["measures"].values()} == {1}


def test_other_traffic_is_told_apart() -> None:
    found = compared("drip", "blob").as_dict()
    assert found["measures"]["size"]["ks"] > 0.9
    assert found["measures"]["size"]["ratio"] > 10
    json.dumps(found)


def replies(shift: float, seed: int) -> Replies:
    """Thirty connections with four segments each, whose first feature is shifted."""
    values = np.random.default_rng(seed).normal(size=(120, len(MODEL_FEATURES)))
    values[:, 0] += shift
    some = np.ones(1)
    return Replies(some, some, some, values, np.repeat(np.arange(30), 4))


def test_the_classifier_finds_only_what_is_there() -> None:
    auc, _ = _tell_apart(replies(0, 1), replies(0, 2), seed=0)
    assert auc is not None
    assert 0.35 < auc < 0.65
    auc, telling = _tell_apart(replies(0, 1), replies(5, 2), seed=0)
    assert auc is not None
    assert auc > 0.95
    assert telling[0][0] == next(iter(MODEL_FEATURES))


def test_what_one_side_cannot_show_does_not_give_it_away() -> None:
    real, lab = replies(0, 1), replies(0, 2)
    real.features[:, 3] = np.nan
    auc, telling = _tell_apart(real, lab, seed=0)
    assert auc is not None
    assert 0.35 < auc < 0.65
    assert list(MODEL_FEATURES)[3] not in [name for name, _ in telling]


def test_few_connections_teach_nothing() -> None:
    found = compared("drip", "blob")
    assert (found.auc, found.telling) == (None, [])


def test_only_streams_of_the_category_count() -> None:
    captures = read_labels([PCAPS / "drip.labels.csv"])
    assert not len(measure(captures, "nothing").duration)
    assert not compare(captures, captures, {"drip": "nothing"})


@pytest.mark.parametrize(("form", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_pictures_have_a_row_for_each_pair(form: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    sink = io.BytesIO()
    draw([compared("drip", "blob"), compared("drip", "drip")], sink, form)
    assert sink.getvalue().startswith(magic)
