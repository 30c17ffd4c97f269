"""Every feature against its slow reference, on random flows and on the shipped captures."""

from __future__ import annotations

import functools
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.arrays import F64
from llmflow.capture.columns import TCP
from llmflow.capture.records import NANOSECOND as SECOND
from llmflow.features.extract import FEATURES, FLOW, LEAST_CHUNKS, MODEL_FEATURES, SCALES, extract
from llmflow.features.registry import compute
from llmflow.features.segments import Segments, cut_segments
from llmflow.flows.batch import FlowBatch
from llmflow.flows.stream import FlowStream
from llmflow.flows.turns import Data, Turns, find_data, find_turns
from tests.reference import (
    REFERENCES,
    Segment,
    Sent,
    Talk,
    make_batch,
    reference_segments,
    talk_from,
)

CAPTURES = sorted((Path(__file__).parents[2] / "pcaps").glob("*.pcap"))
ALL_SCALES = [*SCALES, FLOW]

Pair = tuple[Segments, list[Segment]]
Recipes = tuple[bytes, ...]

recipes = st.lists(
    st.one_of(st.binary(max_size=24), st.binary(min_size=60, max_size=160)),
    min_size=1,
    max_size=4,
).map(tuple)


def pairs_of(batch: FlowBatch, data: Data, turns: Turns) -> list[Pair]:
    return [
        (cut_segments(batch, data, turns, scale), reference_segments(batch, data, turns, scale))
        for scale in ALL_SCALES
    ]


@functools.lru_cache(maxsize=512)
def from_recipes(given_recipes: Recipes) -> list[Pair]:
    batch = make_batch([talk_from(recipe) for recipe in given_recipes])
    data = find_data(batch)
    return pairs_of(batch, data, find_turns(batch, data))


@functools.cache
def from_capture(capture: Path) -> list[Pair]:
    return [
        pair
        for step in FlowStream([str(capture)]).assemble()
        for pair in pairs_of(step.batch, step.data, step.turns)
    ]


def run_kernel(name: str, segments: Segments) -> F64:
    with np.errstate(divide="ignore", invalid="ignore"):
        return FEATURES[name].kernel(segments)


def agree(name: str, pairs: list[Pair]) -> None:
    for segments, slow in pairs:
        for number, (fast, segment) in enumerate(
            zip(run_kernel(name, segments).tolist(), slow, strict=True)
        ):
            expected = REFERENCES[name](segment)
            value = None if expected is None else float(expected)
            said = f"{name} of segment {number}: {fast}, but the formula gives {value}"
            if value is None:
                assert math.isnan(fast), said
            else:
                # Correlations and deviations may be zero: there the absolute tolerance speaks.
                assert math.isclose(fast, value, rel_tol=1e-9, abs_tol=1e-11), said


def test_every_feature_has_a_reference() -> None:
    """A feature without a slow reference would go unchecked."""
    assert list(FEATURES) == list(REFERENCES)


@given(recipes)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_segments_are_cut_as_defined(given_recipes: Recipes) -> None:
    """Windows count from the reply's first downlink data; empty ones are left out."""
    for segments, slow in from_recipes(given_recipes):
        assert segments.turn.tolist() == [segment.turn for segment in slow]
        sizes = np.bincount(segments.of, minlength=len(segments)).tolist()
        assert sizes == [len(segment.packets) for segment in slow]
        new = segments.data.new[segments.row].tolist()
        assert new == [packet.new for segment in slow for packet in segment.packets]
        assert segments.two_way.tolist() == [segment.two_way for segment in slow]


@pytest.mark.parametrize("name", FEATURES)
@given(recipes)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_random_flows(name: str, given_recipes: Recipes) -> None:
    """The kernel gives what the formula says, on flows with gaps and sizes at the limits."""
    agree(name, from_recipes(given_recipes))


def reply_with(gaps: list[int]) -> Segments:
    """A reply whose chunks are the given nanoseconds apart."""
    times = itertools.accumulate(gaps, initial=0)
    batch = make_batch([Talk(TCP, [Sent(ns, up=False, payload=100) for ns in times])])
    data = find_data(batch)
    return cut_segments(batch, data, find_turns(batch, data), "turn")


@given(st.integers(6_000_000, 2 * SECOND), st.integers(3, 60))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_metronome_has_no_spread(gap: int, count: int) -> None:
    """Equal gaps have no lag correlation (null, not the noise of rounding) and spread 0."""
    metronome = reply_with([gap] * count)
    assert math.isnan(run_kernel("gap_lag1", metronome)[0])
    assert run_kernel("gap_cv", metronome)[0] == pytest.approx(0, abs=1e-12)
    assert run_kernel("gap_steady_share", metronome)[0] == 1
    assert run_kernel("gap_clock_share", metronome)[0] == 1


@given(st.integers(1_000_000, 100_000_000), st.integers(0, 5), st.integers(0, 5))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_limits_of_steady_and_clock_belong_to_them(unit: int, low: int, high: int) -> None:
    """Gaps of exactly 0.5, 0.9, 1.1 and 2 times the median count as within, wherever they lie."""
    middle = 20 * unit
    rest = [middle] * (low + high + 2)
    near = reply_with([*rest, *[18 * unit] * low, *[22 * unit] * high])
    assert run_kernel("gap_clock_share", near)[0] == 1
    wide = reply_with([*rest, *[10 * unit] * low, *[40 * unit] * high])
    assert run_kernel("gap_steady_share", wide)[0] == 1


@given(st.lists(st.integers(6_000_000, SECOND), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_second_is_not_longer_than_a_second(gaps: list[int]) -> None:
    """A gap of exactly 1 s is not long, wherever in the reply it lies."""
    assert run_kernel("gap_long_share", reply_with([*gaps, SECOND]))[0] == 0


@pytest.mark.parametrize("name", FEATURES)
def test_captures(name: str) -> None:
    """The kernel gives what the formula says, on the shipped captures."""
    for capture in CAPTURES:
        agree(name, from_capture(capture))


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_columns_are_the_kernels_in_order(capture: Path) -> None:
    """``compute`` puts each kernel into its own column and changes nothing."""
    for segments, _ in from_capture(capture):
        for chosen in (FEATURES, MODEL_FEATURES):
            expected = [run_kernel(name, segments) for name in chosen]
            found = compute(segments, chosen)
            np.testing.assert_array_equal(found, np.stack(expected, axis=1))


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_only_segments_with_evidence_are_extracted(capture: Path) -> None:
    """A model is asked about segments of at least eight chunks, of its three scales, no others."""
    for step in FlowStream([str(capture)]).assemble():
        features = extract(cut_segments(step.batch, step.data, step.turns, "turn"))
        expected = [
            (scale, segment.turn)
            for scale, name in enumerate(SCALES)
            for segment in reference_segments(step.batch, step.data, step.turns, name)
            if len(segment.chunks) >= LEAST_CHUNKS
        ]
        found = zip(features.scale.tolist(), features.turn.tolist(), strict=True)
        assert list(found) == expected
        assert features.values.shape == (len(expected), len(MODEL_FEATURES))


@given(recipes)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_flow_is_measured_alone(given_recipes: Recipes) -> None:
    """The flows beside it in a batch do not move a single bit of a flow's features."""
    together = from_recipes(given_recipes)
    alone = [from_recipes((recipe,)) for recipe in given_recipes]
    for scale, (segments, _) in enumerate(together):
        parts = [compute(one[scale][0]) for one in alone]
        np.testing.assert_array_equal(compute(segments), np.concatenate(parts))


def test_the_random_flows_reach_every_case() -> None:
    """The comparison proves little unless long, short, one-way and asked turns are in it."""
    rng = np.random.default_rng(1)
    segments = [
        segment
        for _ in range(60)
        for _, slow in from_recipes(tuple(rng.bytes(120) for _ in range(3)))
        for segment in slow
    ]
    assert any(len(segment.chunks) >= LEAST_CHUNKS for segment in segments)
    assert any(len(segment.chunks) == 1 for segment in segments)
    assert any(not segment.two_way for segment in segments)
    assert any(segment.two_way and not segment.up for segment in segments)
    assert any(segment.request_bytes is not None for segment in segments)
    assert any(segment.request_bytes is None for segment in segments)
    assert any(1 in segment.gaps for segment in segments)
    assert any(len(segment.bursts) > 1 for segment in segments)
    asked = [
        [turn.request_bytes for turn in segment.flow.turns if turn.request_bytes is not None]
        for segment in segments
    ]
    assert any(b > a for sizes in asked for a, b in itertools.pairwise(sizes))
    assert any(b <= a for sizes in asked for a, b in itertools.pairwise(sizes))
