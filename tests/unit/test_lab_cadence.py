"""Paces of the lab do what their names say."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random
from statistics import correlation, mean, median

from llmflow.lab import cadence
from llmflow.lab.cadence import Flush, Pace, flushes

DRIP = Pace(first=0.4, gap=0.02, sigma=0.7)


def gaps(steps: list[Flush]) -> list[float]:
    return [b.due - a.due for a, b in pairwise(steps)]


def test_gaps_have_the_pace_median() -> None:
    found = gaps(flushes(Random(1), DRIP, 4000))
    assert 0.016 < median(found) < 0.025


def test_a_clock_sets_the_gaps_and_gathers_tokens() -> None:
    steps = flushes(Random(1), replace(DRIP, clock=0.2), 4000)
    assert 0.18 < median(gaps(steps)) < 0.22
    assert 5 < median(step.tokens for step in steps) < 13


def test_late_flushes_do_not_shift_the_clock() -> None:
    found = gaps(flushes(Random(1), replace(DRIP, clock=0.2, jitter=0.2, pause=0), 4000))
    assert correlation(found[:-1], found[1:]) < -0.3


def test_coupled_pieces_grow_with_their_gap() -> None:
    def found(coupling: float) -> float:
        pace = replace(DRIP, tokens=5, coupling=coupling)
        steps = flushes(Random(1), pace, 8000)
        return correlation(gaps(steps), [step.tokens for step in steps[1:]])

    assert abs(found(0)) < 0.1
    assert found(1) > 0.3


def test_tokens_come_in_units() -> None:
    steps = flushes(Random(1), replace(DRIP, tokens=2.3, unit=2), 2000)
    assert {step.tokens % 2 for step in steps} == {0}
    assert 2.1 < mean(step.tokens for step in steps) < 2.6


def test_batches_are_as_many_times_rarer_and_larger() -> None:
    one, five = (flushes(Random(1), pace, 5000) for pace in (DRIP, cadence.batched(DRIP, 5)))
    assert 4 < len(one) / len(five) < 6
    assert 4 < median(gaps(five)) / median(gaps(one)) < 6


def test_bursts_leave_together() -> None:
    found = gaps(flushes(Random(1), replace(DRIP, gap=0.3, writes=12), 3000))
    assert median(found) < 0.005
    assert max(found) > 0.3


def test_sessions_differ_but_stay_around_the_provider() -> None:
    found = [cadence.personal(Random(seed), DRIP).gap for seed in range(200)]
    assert len(set(found)) == 200
    assert 0.02 / 1.5 <= min(found) < 0.016
    assert 0.025 < max(found) <= 0.02 * 1.5


def test_lengths_are_those_of_the_published_logs() -> None:
    rng = Random(1)
    replies = sorted(cadence.reply_length(rng) for _ in range(4000))
    assert 200 < replies[2000] < 350
    assert replies[400] < 40  # very short ones are there
    contexts = [cadence.agent_context(rng) * 4.9 for _ in range(2000)]
    assert 20_000 <= min(contexts) < 30_000
    assert 100_000 < max(contexts) <= 150_000
    turns = [cadence.turns(rng) for _ in range(4000)]
    assert 0.3 < sum(turn == 1 for turn in turns) / 4000 < 0.45
    assert max(turns) == 8
