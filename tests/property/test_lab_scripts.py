"""What every script of LLM traffic keeps to, whatever its kind and seed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.lab import cadence
from llmflow.lab.cadence import Pace
from llmflow.lab.kinds import kinds
from llmflow.lab.kinds._talk import LEAST_LEFT
from llmflow.lab.script import LLM_NONSTREAM, LLM_STREAM, TRANSPORTS, Kind

LABELS = LLM_STREAM, LLM_NONSTREAM
# Probes of the transports are no traffic of anybody.
KINDS = [k for k in kinds().values() if k.label in LABELS and k.category != "probe"]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
seeds, lengths = st.integers(0, 1 << 32), st.floats(3, 120)
few = settings(max_examples=8)


@every_kind
@few
@given(seed=seeds, seconds=lengths)
def test_writes_are_ordered_and_never_empty(kind: Kind, seed: int, seconds: float) -> None:
    for exchange in kind.build(Random(seed), seconds):
        for writes in (exchange.down, exchange.up):
            dues = [write.due for write in writes]
            assert dues == sorted(dues)
            assert all(write.data and write.due >= 0 for write in writes)
        assert exchange.think >= 0
        assert exchange.down


@every_kind
@few
@given(seed=seeds, seconds=lengths)
def test_a_script_follows_from_its_seed(kind: Kind, seed: int, seconds: float) -> None:
    assert kind.build(Random(seed), seconds) == kind.build(Random(seed), seconds)


@every_kind
@few
@given(seed=seeds, seconds=lengths)
def test_sessions_keep_their_time(kind: Kind, seed: int, seconds: float) -> None:
    main = [e for e in kind.build(Random(seed), seconds) if not e.beside]
    assert sum(e.think + min(e.abort or e.down[-1].due, e.down[-1].due) for e in main) <= (
        seconds + LEAST_LEFT
    )


@every_kind
@few
@given(seed=seeds)
def test_streams_hold_tokens_and_other_replies_none(kind: Kind, seed: int) -> None:
    exchanges = kind.build(Random(seed), 30)
    assert any(e.streams for e in exchanges) == (kind.label == LLM_STREAM)
    for exchange in exchanges:
        assert (sum(write.tokens for write in exchange.down) > 0) == exchange.streams


@every_kind
@few
@given(seed=seeds)
def test_what_a_transport_cannot_do_is_not_asked_of_it(kind: Kind, seed: int) -> None:
    assert set(kind.transports) <= set(TRANSPORTS)
    if {"ws", "grpc"} & set(kind.transports):
        assert not any(e.beside for e in kind.build(Random(seed), 30))


paces = st.builds(
    Pace,
    first=st.floats(0.01, 5),
    gap=st.floats(0.001, 0.5),
    tokens=st.floats(1, 20),
    unit=st.integers(1, 3),
    coupling=st.floats(0, 1),
    sigma=st.floats(0, 1.5),
    writes=st.floats(1, 20),
    clock=st.sampled_from([0.0, 0.05, 0.2]),
    pause=st.floats(0, 0.2),
)


@given(seed=seeds, pace=paces, tokens=st.integers(1, 400))
def test_flushes_hold_all_tokens_in_order(seed: int, pace: Pace, tokens: int) -> None:
    rng = Random(seed)
    steps = cadence.flushes(rng, cadence.personal(rng, pace), tokens)
    assert sum(step.tokens for step in steps) == tokens
    assert all(step.tokens > 0 for step in steps)
    assert [step.due for step in steps] == sorted(step.due for step in steps)


@given(seed=seeds, period=st.floats(0.5, 20), end=st.floats(0, 60))
def test_keep_alives_stay_inside_the_wait(seed: int, period: float, end: float) -> None:
    times = cadence.keepalives(Random(seed), period, 0, end)
    assert all(0 < time < end for time in times)
    assert len(times) == pytest.approx(end / period, abs=1 + 0.05 * end / period)
