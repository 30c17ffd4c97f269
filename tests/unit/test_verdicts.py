"""From segment probabilities to labels: the stated rules, one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmflow.arrays import F64
from llmflow.features.extract import MODEL_FEATURES, SCALES, SegmentFeatures
from llmflow.learn.model import (
    LABELS,
    LEAST_STREAM_CHUNKS,
    LLM_STREAM,
    OTHER,
    UNDECIDED,
    Calibration,
    combine_segments,
    combine_turns,
    verdicts,
)

NAN = float("nan")


def combined(judged: list[tuple[int, int, float]], turns: int) -> F64:
    """Combine (turn, scale, probability)."""
    turn = np.array([row[0] for row in judged], np.int64)
    scale = np.array([row[1] for row in judged], np.uint8)
    values = np.zeros((len(judged), len(MODEL_FEATURES)))
    probability = np.array([row[2] for row in judged], np.float64)
    return combine_segments(SegmentFeatures(turn, scale, values), probability, turns)


def labels(
    score: list[float], chunks: list[float], *, threshold: float = 0.5, blind: bool = False
) -> list[str]:
    mask = np.full(len(score), blind)
    codes = verdicts(np.array(score), threshold, np.array(chunks), mask, 0.0)
    return [LABELS[code] for code in codes]


def test_a_score_that_is_not_sure_enough_is_undecided() -> None:
    """Between the threshold and what is asked of a flow; below it is other, above a stream."""
    score, sure = np.array([0.4, 0.6, 0.8, 0.6]), np.array([0.7, 0.7, 0.7, 0.0])
    codes = verdicts(score, 0.5, np.full(4, 20.0), np.zeros(4, np.bool_), sure)
    assert [LABELS[code] for code in codes] == ["other", "undecided", "llm-stream", "llm-stream"]


# -- segments to turns ---------------------------------------------------------------------------


def test_a_turn_is_the_mean_of_the_best_of_each_scale() -> None:
    """Highest score of each scale, then the mean over the scales that have one."""
    assert len(SCALES) == 3
    judged = [(0, 0, 0.2), (0, 1, 0.4), (0, 1, 0.6), (0, 2, 0.1), (0, 2, 1.0), (0, 2, 0.3)]
    assert combined(judged, 1).tolist() == pytest.approx([(0.2 + 0.6 + 1.0) / 3])


def test_scales_without_evidence_do_not_count() -> None:
    """A scale without a segment is left out of the mean; it is no score of 0."""
    assert combined([(0, 0, 0.9)], 1).tolist() == [0.9]
    assert combined([(0, 0, 0.9), (0, 1, 0.7)], 1).tolist() == pytest.approx([0.8])


def test_a_score_of_zero_is_a_score() -> None:
    """Probability 0 means judged as other, not unknown."""
    assert combined([(0, 0, 0.0)], 1).tolist() == [0]
    assert combined([(0, 0, 0.0), (0, 1, 1.0)], 1).tolist() == [0.5]


def test_turns_without_a_segment_are_unknown() -> None:
    """Unknown is NaN, and the turns beside it keep their own scores."""
    found = combined([(3, 0, 0.3), (1, 2, 0.6)], 5)
    np.testing.assert_array_equal(found, [NAN, 0.6, NAN, 0.3, NAN])
    assert np.isnan(combined([], 2)).all()
    assert combined([], 0).tolist() == []


def test_the_order_of_the_segments_does_not_matter() -> None:
    """The same score to the last bit, in whatever order the segments come."""
    rng = np.random.default_rng(1)
    places = rng.integers(0, 3, (40, 2)).tolist()
    judged = [(t, s, p) for (t, s), p in zip(places, rng.random(40).tolist(), strict=True)]
    shuffled = [judged[i] for i in rng.permutation(len(judged))]
    np.testing.assert_array_equal(combined(judged, 3), combined(shuffled, 3))


# -- turns to flows ------------------------------------------------------------------------------


def test_a_flow_is_as_its_most_streaming_turn() -> None:
    """The highest turn counts; turns that were not judged do not pull it down."""
    score = np.array([0.2, 0.8, NAN, NAN, 0.0])
    found = combine_turns(score, np.array([0, 0, 0, 2, 3]), 5)
    np.testing.assert_array_equal(found, [0.8, NAN, NAN, 0.0, NAN])


def test_flows_without_turns_are_unknown() -> None:
    """No turn, no score."""
    assert np.isnan(combine_turns(np.empty(0), np.empty(0, np.int64), 2)).all()
    assert combine_turns(np.empty(0), np.empty(0, np.int64), 0).tolist() == []


# -- labels --------------------------------------------------------------------------------------


def test_the_threshold_itself_is_a_stream() -> None:
    """Scores of at least the threshold are streams."""
    below = math.nextafter(0.5, 0)
    assert labels([0.5, below, 1.0, 0.0], [9] * 4) == [LLM_STREAM, OTHER, LLM_STREAM, OTHER]


def test_a_judged_flow_is_never_undecided() -> None:
    """Where the model was asked it answers, whatever the number of chunks says."""
    assert labels([0.9, 0.1], [1, 1]) == [LLM_STREAM, OTHER]
    assert labels([0.0], [20], threshold=0.0) == [LLM_STREAM]


def test_replies_in_fewer_than_three_pieces_did_not_stream() -> None:
    """Without a score: fewer than 3 chunks are other, from 3 on nobody can tell."""
    assert LEAST_STREAM_CHUNKS == 3
    found = labels([NAN] * 5, [0, 1, 2, 3, 7])
    assert found == [OTHER, OTHER, OTHER, UNDECIDED, UNDECIDED]


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_too_little_evidence_never_makes_a_stream(threshold: float) -> None:
    """No threshold turns an unknown score into a verdict of the model."""
    assert labels([NAN, NAN], [2, 5], threshold=threshold) == [OTHER, UNDECIDED]


def test_without_a_downlink_nobody_can_tell() -> None:
    """A capture that missed the downlink is undecided, not other."""
    assert labels([NAN, NAN], [0, 2], blind=True) == [UNDECIDED, UNDECIDED]


def test_no_flows_no_labels() -> None:
    """Empty input gives empty output."""
    assert labels([], []) == []


# -- calibration ---------------------------------------------------------------------------------


def test_calibration_is_platts_sigmoid() -> None:
    """1 / (1 + exp(-(slope raw + intercept)))."""
    found = Calibration(4.0, -2.0).apply(np.array([0.0, 0.5, 1.0]))
    assert found.tolist() == pytest.approx([1 / (1 + math.e**2), 0.5, 1 / (1 + math.e**-2)])


def test_calibration_keeps_order_and_nulls() -> None:
    """Higher raw scores stay higher, within 0 and 1; unknown stays unknown."""
    raw = np.append(np.linspace(0, 1, 101), NAN)
    found = Calibration(11.0, -8.0).apply(raw)
    assert (np.diff(found[:-1]) > 0).all()
    assert ((found[:-1] > 0) & (found[:-1] < 1)).all()
    assert math.isnan(found[-1])


def test_a_steep_calibration_ends_in_zero_and_one() -> None:
    """A sigmoid too steep for floating point gives 0 and 1, without a warning on the way."""
    found = Calibration(2000.0, -1000.0).apply(np.array([0.0, 0.5, 1.0]))
    assert found.tolist() == [0, 0.5, 1]
