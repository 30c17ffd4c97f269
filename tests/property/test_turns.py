"""Turns and episodes against their slow reference, on random flows and on the shipped captures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.capture.columns import ACK, HINT_CLIENT_HELLO, HINT_QUIC_LONG, TCP, UDP, Columns
from llmflow.flows.batch import FlowBatch
from llmflow.flows.data import find_data
from llmflow.flows.episodes import Kind, find_episodes
from llmflow.flows.stream import FlowStream
from llmflow.flows.turns import find_turns
from tests.reference import Sent, Talk, make_batch, talk_from
from tests.turns_reference import MS, reference_episodes, reference_turns

CAPTURES = sorted((Path(__file__).parents[2] / "pcaps").glob("*.pcap"))

# At and around the limits that the definitions name.
GAPS = [
    *[0, 1, 5 * MS, 5 * MS + 1, 20 * MS, 60 * MS, 60 * MS, 150 * MS],
    *[300 * MS - 1, 300 * MS, 400 * MS, 500 * MS, 700 * MS + 1, 1000 * MS, 2000 * MS, 2001 * MS],
]
UP, DOWN = [0, 35, 150, 200, 500, 1400, 1400, 1400], [0, 0, 40, 41, 60, 60, 300, 1400]
HELLO = {TCP: HINT_CLIENT_HELLO, UDP: HINT_QUIC_LONG}


def lively(recipe: bytes) -> Talk:
    """A random flow with many requests, notices and handshakes: two bytes a packet.

    Packets often come in threes, so that there are notices and chunks of several packets.
    """
    protocol = UDP if recipe[:1] > b"\x80" else TCP
    now, packets = 0, []
    for how, what in zip(recipe[1::2], recipe[2::2], strict=False):
        now += GAPS[how & 15]
        up, size = what & 64 > 0, what & 7
        hello = up and size > 0 and what & 56 == 56
        hint = HELLO[protocol] if hello else 0
        for _ in range(3 if how & 16 else 1):
            payload = UP[size] if up else DOWN[size]
            packets.append(Sent(now, up=up, payload=payload, flags=ACK, hint=hint))
            now += 7 * MS if how & 32 else 0
    return Talk(protocol, packets)


def rows(table: Columns) -> list[tuple[float, ...]]:
    return list(zip(*(column.tolist() for column in table.columns()), strict=True))


def plain(row: tuple[float, ...]) -> tuple[float | None, ...]:
    """NaN is not itself; None is."""
    return tuple(None if math.isnan(value) else value for value in row)


def agree(batch: FlowBatch) -> None:
    data = find_data(batch)
    turns = find_turns(batch, data)
    found, expected = rows(turns), reference_turns(batch, data)
    assert [plain(row) for row in found] == [plain(row) for row in expected]
    assert rows(find_episodes(batch, data, turns)) == reference_episodes(batch, data)


recipes = st.lists(st.binary(min_size=2, max_size=90), min_size=1, max_size=4)


@given(recipes)
@settings(max_examples=1000, deadline=None, derandomize=True)
def test_lively_flows(given_recipes: list[bytes]) -> None:
    """Requests in every kind of silence, notices, handshakes, control frames."""
    agree(make_batch([lively(recipe) for recipe in given_recipes]))


@given(recipes)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_random_flows(given_recipes: list[bytes]) -> None:
    """Retransmissions, closing packets and one-way captures, too."""
    agree(make_batch([talk_from(recipe) for recipe in given_recipes]))


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_captures(capture: Path) -> None:
    """The shipped captures."""
    for batch in FlowStream([str(capture)]).batches():
        agree(batch)


def test_many_flows_of_noise() -> None:
    """More flows than Hypothesis tries, and every kind of turn and episode among them."""
    rng = np.random.default_rng(7)
    batch = make_batch([lively(rng.bytes(int(rng.integers(2, 160)))) for _ in range(1500)])
    agree(batch)
    data = find_data(batch)
    turns = find_turns(batch, data)
    assert np.isnan(turns.wait).any()
    assert (turns.wait < 0.25).any()
    assert (turns.request > turns.row).any()
    assert set(find_episodes(batch, data, turns).kind.tolist()) == set(range(len(Kind.NAMES)))
