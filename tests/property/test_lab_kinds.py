"""Look-alikes of the lab: the contract of scripts, and that they overlap with models' streams."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from random import Random
from statistics import median, quantiles
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.lab.kinds import kinds
from llmflow.lab.script import OTHER, TRANSPORTS, Exchange

OTHERS = {
    name: kind
    for name, kind in kinds().items()
    if kind.label == OTHER and kind.category != "probe"  # made for tests of the stacks
}
HTTP = {"h1", "h2", "h3"}
# A short message now and then, by nature: too little to look like a stream.
SPARSE = {"idle-push", "dns-over-https", "beacons"}
SEEDS = range(30)
SECONDS = 30.0

some_name = st.sampled_from(sorted(OTHERS))
some_seed = st.integers(0, 2**32)


def lasting(exchange: Exchange) -> float:
    """When the exchange is over, from its request."""
    last = max(write.due for write in exchange.down + exchange.up)
    return last if exchange.abort is None else min(last, exchange.abort)


def timed(exchanges: tuple[Exchange, ...]) -> Iterator[tuple[float, Exchange]]:
    """Exchanges with the times of their requests."""
    begun = ended = 0.0
    for exchange in exchanges:
        if exchange.beside:
            yield begun + exchange.think, exchange
        else:
            begun = ended + exchange.think
            ended = begun + lasting(exchange)
            yield begun, exchange


@settings(max_examples=400, deadline=None)
@given(some_name, some_seed, st.floats(1, 90))
def test_scripts_keep_the_contract(name: str, seed: int, seconds: float) -> None:
    exchanges = OTHERS[name].build(Random(seed), seconds)
    assert exchanges
    assert not exchanges[0].beside
    total = 0
    for start, exchange in timed(exchanges):
        assert exchange.down, "a reply has an end that the client can see"
        assert exchange.think >= 0
        assert not exchange.streams
        assert start + lasting(exchange) <= seconds * 1.01 + 0.1
        for writes in (exchange.down, exchange.up):
            dues = [write.due for write in writes]
            assert dues == sorted(dues)
            assert all(due >= 0 for due in dues)
            assert all(0 < len(write.data) <= 64_000 and not write.tokens for write in writes)
        assert exchange.head is None or 0 <= exchange.head <= exchange.down[0].due
        assert exchange.abort is None or exchange.abort > 0
        total += sum(len(write.data) for write in exchange.down + exchange.up) + len(exchange.body)
    assert total <= 3_000_000
    assert sum(len(exchange.down + exchange.up) for exchange in exchanges) <= 500 * seconds + 500


@settings(max_examples=300, deadline=None)
@given(some_name, some_seed)
def test_scripts_suit_the_transports_of_their_kind(name: str, seed: int) -> None:
    kind = OTHERS[name]
    assert kind.transports
    assert set(kind.transports) <= set(TRANSPORTS)
    exchanges = kind.build(Random(seed), SECONDS)
    if not set(kind.transports) <= HTTP:
        assert not any(exchange.beside for exchange in exchanges)
        assert all(exchange.body for exchange in exchanges), "a message is not empty"
    if "udp" in kind.transports:
        (only,) = exchanges
        assert max(len(write.data) for write in only.down + only.up) <= 1_400
        assert len(only.body) <= 1_400
    if "h1" in kind.transports or "chromium" in kind.clients:
        assert not any(exchange.up for exchange in exchanges), "half duplex"
    if "chromium" in kind.clients:
        assert {"h2", "h3"} & set(kind.transports)
    for exchange in exchanges:
        assert exchange.method == "POST" or not exchange.body
        assert all(value.isascii() and len(value) < 4_000 for _, value in exchange.headers)


def digest() -> str:
    """Hash one script of every look-alike."""
    scripts = [kind.build(Random(7), 5.0) for _, kind in sorted(OTHERS.items())]
    return hashlib.sha256(repr(scripts).encode()).hexdigest()


def test_scripts_are_the_same_in_every_process() -> None:
    code = "from tests.property.test_lab_kinds import digest; print(digest())"
    environment = {**os.environ, "PYTHONHASHSEED": "99"}
    other = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert other.stdout.strip() == digest()


class Reply(NamedTuple):
    """What the features would see of a reply, were the network perfect."""

    kind: str
    duration: float
    gap: float
    size: float
    growth: float
    uplink: int


def growth(sizes: list[int]) -> float:
    """Spearman's rank correlation of size and position."""
    ranks = sorted(range(len(sizes)), key=sizes.__getitem__)
    n = len(sizes)
    return 1 - 6 * sum((at - rank) ** 2 for rank, at in enumerate(ranks)) / (n * (n * n - 1))


@functools.cache
def replies() -> list[Reply]:
    """Replies of at least 20 chunks and 1 s, of every look-alike."""
    out = []
    for name, kind in OTHERS.items():
        for exchange in (e for seed in SEEDS for e in kind.build(Random(seed), SECONDS)):
            chunks: list[list[float]] = []
            for write in exchange.down:
                if chunks and write.due - chunks[-1][1] < 0.003:
                    chunks[-1][1:] = [write.due, chunks[-1][2] + len(write.data)]
                else:
                    chunks.append([write.due, write.due, len(write.data)])
            lasted = chunks[-1][0] - chunks[0][0]
            if len(chunks) >= 20 and lasted >= 1:
                gaps = [b[0] - a[0] for a, b in itertools.pairwise(chunks)]
                sizes = [int(chunk[2]) for chunk in chunks]
                up = len(exchange.up)
                out.append(Reply(name, lasted, median(gaps), median(sizes), growth(sizes), up))
    return out


@pytest.mark.parametrize("name", sorted(set(OTHERS) - SPARSE))
def test_most_sessions_say_enough_to_be_judged(name: str) -> None:
    enough = 0
    for seed in SEEDS:
        exchanges = OTHERS[name].build(Random(seed), SECONDS)
        sent = [
            (start + write.due, -(-len(write.data) // 1_400))
            for start, exchange in timed(exchanges)
            for write in exchange.down
            if exchange.abort is None or write.due < exchange.abort
        ]
        times = [time for time, _ in sent]
        enough += sum(packets for _, packets in sent) >= 20 and max(times) - min(times) >= 2
    assert enough >= 0.8 * len(SEEDS)


# What streams of models look like: median gap (s), median size (bytes written, so without the 22
# to 40 of TLS and HTTP around them) and least growth of their chunks, as real captures showed them.
STREAMS = {
    "interface on a clock of 200 ms": ((0.1, 0.25), (230, 330), -1),
    "one small event per token": ((0.045, 0.085), (12, 50), -1),
    "growing": ((0.04, 0.15), (60, 380), 0.5),
    "growing, large": ((0.05, 0.15), (270, 2_500), 0.5),
    "padded API": ((0.018, 0.032), (500, 750), -1),
    "token drip": ((0.014, 0.03), (150, 350), -1),
    "blobs": ((0.18, 0.3), (400, 1_000), -1),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_look_alikes_lie_where_streams_lie(stream: str) -> None:
    (least_gap, most_gap), (least_size, most_size), least_growth = STREAMS[stream]
    found = {
        reply.kind
        for reply in replies()
        if least_gap <= reply.gap <= most_gap
        and least_size <= reply.size <= most_size
        and reply.growth >= least_growth
    }
    assert len(found) >= 8
    assert len({OTHERS[name].category for name in found}) >= 4


def test_look_alikes_surround_streams_in_every_measure() -> None:
    gaps = quantiles([reply.gap for reply in replies()], n=10)
    sizes = quantiles([reply.size for reply in replies()], n=10)
    assert gaps[0] <= 0.016
    assert gaps[-1] >= 0.25
    assert sizes[0] <= 45
    assert sizes[-2] >= 700
    lively = sum(reply.uplink >= 10 for reply in replies()) / len(replies())
    assert 0.15 <= lively <= 0.75


def test_many_look_alikes_ask_wait_stream_and_end() -> None:
    rhythmic = set()
    for name, kind in OTHERS.items():
        for seed in SEEDS:
            rounds = [e for e in kind.build(Random(seed), 60.0) if not e.beside]
            streamed = [
                len(e.down) >= 20 and 1 <= e.down[-1].due - e.down[0].due <= 60 for e in rounds
            ]
            waited = [e.down[0].due >= 0.2 for e in rounds]
            paused = [e.think >= 1 for e in rounds[1:]]
            if len(rounds) > 1 and all(streamed) and all(waited) and all(paused):
                rhythmic.add(name)
                break
    assert len(rhythmic) >= 40
