"""Archetypes and agentic scores against their definitions in plain Python."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmflow.quality.archetype import ARCHETYPES, agentic_score, archetypes

SECOND = 1_000_000_000
gaps = st.lists(st.floats(0.006, 3.0), min_size=1, max_size=30)
# request bytes (None: not seen), reply bytes, seconds of the reply, seconds of silence behind it
turn = st.tuples(
    st.none() | st.integers(200, 50_000), st.integers(1, 50_000), st.integers(0, 20),
    st.integers(0, 12),
)  # fmt: skip
Turn = tuple[int | None, int, int, int]


def archetype(reply: list[float], size: int) -> str:
    """By the table."""
    median, high = float(np.quantile(reply, 0.5)), float(np.quantile(reply, 0.95))
    if high >= 0.25 and high >= 5 * median:
        return "burst-pause"
    if median < 0.08:
        return "drip"
    return "chunk" if size / (len(reply) + 1) < 450 else "blob"


def agentic(flow: list[Turn]) -> float:
    """By the sentence."""
    clock, seen = 0, []
    for request, reply, lasts, silence in flow:
        if request is not None:
            seen.append((clock, clock + lasts, request, reply))
        clock += lasts + silence
    if len(seen) < 3:
        return math.nan
    middle = (len(seen) - 1) / 2
    mean = sum(request for *_, request, _ in seen) / len(seen)
    slope = sum((i - middle) * (request - mean) for i, (*_, request, _) in enumerate(seen))
    rises = round(2 * slope) > 0  # twice the slope is a whole number
    more = sum(x[2] for x in seen) > sum(x[3] for x in seen)
    quick = [later[0] - former[1] < 5 for former, later in itertools.pairwise(seen)]
    return sum(quick) / len(quick) if rises and more else 0.0


def measured(flows: list[list[Turn]]) -> list[float]:
    """What llmflow says of the same flows."""
    rows: dict[str, list[Any]] = {"flow": [], "request_bytes": [], "request": [], "reply_last": []}
    time: list[int] = []
    sizes: list[float] = []
    for number, flow in enumerate(flows):
        clock = 0
        for request, reply, lasts, silence in flow:
            rows["flow"].append(number)
            rows["request_bytes"].append(math.nan if request is None else float(request))
            rows["request"].append(len(time))
            rows["reply_last"].append(len(time) + 1)
            time += [clock * SECOND, (clock + lasts) * SECOND]
            sizes.append(float(reply))
            clock += lasts + silence
    batch: Any = SimpleNamespace(
        flows=flows, packets=SimpleNamespace(time=np.array(time, np.int64))
    )
    whole = ("flow", "request", "reply_last")
    turns: Any = SimpleNamespace(
        **{k: np.array(v, np.int64 if k in whole else np.float64) for k, v in rows.items()}
    )
    found: list[float] = agentic_score(batch, turns, np.array(sizes)).tolist()
    return found


@given(st.lists(st.tuples(gaps, st.integers(1, 40_000)), min_size=1, max_size=5))
def test_archetypes_are_those_of_the_table(replies: list[tuple[list[float], int]]) -> None:
    """The first rule that fits, at any gaps."""
    cadence: Any = SimpleNamespace(
        gap_p50=np.array([np.quantile(reply, 0.5) for reply, _ in replies]),
        gap_p95=np.array([np.quantile(reply, 0.95) for reply, _ in replies]),
        chunks=np.array([len(reply) + 1.0 for reply, _ in replies]),
        reply_bytes=np.array([float(size) for _, size in replies]),
    )
    found = [ARCHETYPES[place] for place in archetypes(cadence)]
    assert found == [archetype(*reply) for reply in replies]


@given(st.lists(st.lists(turn, max_size=8), min_size=1, max_size=4))
def test_agentic_scores_are_those_of_the_definition(flows: list[list[Turn]]) -> None:
    """Turns without a request are passed over; flows do not touch each other."""
    expected = [agentic(flow) for flow in flows]
    assert measured(flows) == pytest.approx(expected, nan_ok=True)


def test_a_loop_is_told_from_a_conversation() -> None:
    """Growing requests in quick order score 1, the same with a human's pauses 0."""
    loop: list[Turn] = [(1000 * (i + 1), 300, 2, 1) for i in range(5)]
    chat: list[Turn] = [(size, reply, lasts, 30) for size, reply, lasts, _ in loop]
    shrinking = list(reversed(loop))
    assert measured([loop, chat, shrinking, loop[:2]]) == pytest.approx(
        [1.0, 0.0, 0.0, math.nan], nan_ok=True
    )
