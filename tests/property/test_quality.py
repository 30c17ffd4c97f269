"""Quality of replies against slow references, on random flows."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.arrays import F64
from llmflow.capture.columns import ACK, TCP, UDP
from llmflow.features.segments import cut_segments
from llmflow.flows.batch import FlowBatch
from llmflow.flows.tcp import analyse_tcp
from llmflow.flows.turns import find_data, find_turns
from llmflow.quality.delivery import deliver
from llmflow.quality.experience import measure
from llmflow.quality.reader import AHEAD, DECAY, PACE, read
from llmflow.quality.stalls import measure_stalls
from llmflow.quality.tokens import PROFILES, estimate_tokens
from tests import quality_reference as slow
from tests.reference import Sent, Talk, make_batch, talk_from
from tests.tcp_reference import MS, Segment, tcp_batch

STEPS = [0, MS, 5 * MS, 6 * MS, 40 * MS, 40 * MS, 90 * MS, 300 * MS, 501 * MS, 700 * MS, 1500 * MS]


@st.composite
def lossy_replies(draw: st.DrawFn) -> list[Segment]:
    """Requests and replies, with losses in front of the tap and behind it, repaired late."""
    out: list[Segment] = []
    ns, up, down, acked = 0, 1000, 2**32 - 500, 2**32 - 500
    missing: list[tuple[int, int]] = []  # sent, and not received or not known to be
    one_way = draw(st.sampled_from([False] * 5 + [True]))
    for _ in range(draw(st.integers(1, 40))):
        ns += draw(st.sampled_from(STEPS))
        what = draw(st.sampled_from([*"ddddddddd", *"hhrrrao"]))
        size = draw(st.sampled_from([100, 100, 250]))
        if what == "d":
            out.append(Segment(ns, False, down, size, up))
            missing.append((down, size))
            down += size
        elif what == "h":  # lost in front of the tap
            missing.append((down, size))
            down += size
        elif what == "r" and missing:
            seq, size = missing.pop(draw(st.integers(0, len(missing) - 1)))
            out.append(Segment(ns, False, seq, size, up))
        elif what == "a" and not one_way:
            acked = draw(st.sampled_from([acked, down]))
            out.append(Segment(ns, True, up, 0, acked))
        elif what == "o" and not one_way:
            out.append(Segment(ns, True, up, 300, acked, ACK))
            up += 300
    return out


def same(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9, err_msg=name)


def check_stalls(batch: FlowBatch) -> None:
    data = find_data(batch)
    turns = find_turns(batch, data)
    replies = cut_segments(batch, data, turns, "turn")
    found, tcp = measure_stalls(deliver(replies)), analyse_tcp(batch)
    p, sees = batch.packets, set(data.flow[batch.packets.up].tolist())
    for turn in range(len(turns)):
        flow = int(turns.flow[turn])
        known = batch.flows.protocol[flow] == TCP and flow in sees
        rows = range(int(turns.reply[turn]), int(turns.reply_last[turn]) + 1)
        pieces = [
            slow.Piece(
                int(p.time[i]),
                int(tcp.delivered[i] if known else p.time[i]),
                int(tcp.delivered_latest[i] if known else p.time[i]),
                int(data.new[i]),
            )
            for i in rows
            if data.down[i]
        ]
        columns = dict(zip(found.names(), found.columns(), strict=True))
        row = {name: float(column[turn]) for name, column in columns.items()}
        same(row, slow.stalls(pieces, known=known))


@given(st.lists(lossy_replies(), min_size=1, max_size=4))
@settings(max_examples=300)
def test_stalls_and_their_cause_on_lossy_flows(flows: list[list[Segment]]) -> None:
    """Stalls, their attribution, what redundancy would have spared, and time blocked."""
    check_stalls(tcp_batch([flow for flow in flows if flow]))


@given(st.lists(st.binary(min_size=20, max_size=120), min_size=1, max_size=4))
def test_stalls_on_flows_of_any_kind(recipes: list[bytes]) -> None:
    """The same over TCP and UDP, one-way and not, with handshakes and old bytes."""
    check_stalls(make_batch([talk_from(recipe) for recipe in recipes]))


class Reply(NamedTuple):
    """What a reader gets."""

    asked: float
    arrivals: list[tuple[int, int]]  # ms since the last one, tokens


replies = st.builds(
    Reply,
    st.sampled_from([0.0, 0.4, 1.0, 3.5, math.nan]),
    st.lists(
        st.tuples(st.sampled_from([0, 30, 200, 900, 4000]), st.sampled_from([1, 1, 2, 7, 60])),
        min_size=1,
        max_size=25,
    ),
)


@given(st.lists(replies, min_size=1, max_size=4))
def test_the_reader_token_by_token(given_replies: list[Reply]) -> None:
    """Waiting and QoE as of a reader who takes one token after the other."""
    came = [np.cumsum([0, *(ms for ms, _ in r.arrivals[1:])]) for r in given_replies]
    found = read(
        np.concatenate(came).astype(np.int64) * MS + 10**18,
        np.concatenate([[n for _, n in r.arrivals] for r in given_replies]).astype(np.float64),
        np.repeat(np.arange(len(given_replies)), [len(r.arrivals) for r in given_replies]),
        np.array([r.asked for r in given_replies]),
    )
    for i, reply in enumerate(given_replies):
        arrivals = [
            (at / 1000, n) for at, (_, n) in zip(came[i].tolist(), reply.arrivals, strict=True)
        ]
        expected = slow.reading(arrivals, reply.asked, PACE)
        same({"rebuffer": float(found.rebuffer[i]), "qoe": float(found.qoe[i])}, expected)
        if not math.isnan(expected["qoe"]):
            assert 0 <= found.qoe[i] <= 1


@given(replies)
def test_qos_by_adding_up_small_parts_of_tokens(reply: Reply) -> None:
    """TokenFlow's effective rate with costs, its weights summed over slivers of tokens."""
    came = np.cumsum([0, *(ms for ms, _ in reply.arrivals[1:])]) / 1000
    sizes = np.array([n for _, n in reply.arrivals], np.float64)
    found = read(
        (came * 1e9).astype(np.int64), sizes, np.zeros(len(came), np.int64), np.array([reply.asked])
    )
    buffer, worth, before = 0.0, 0.0, 0.0
    for at, size in zip(came.tolist(), sizes.tolist(), strict=True):
        buffer = max(0.0, buffer - (at - before) * PACE)
        for sliver in range(int(size) * 20):
            level = buffer + (sliver + 0.5) / 20
            worth += max(0.0, min(1.0, 1 - DECAY * (level - AHEAD))) / 20
        buffer, before = buffer + size, at
    if sizes.sum() <= 1 or came[-1] == 0 or math.isnan(reply.asked):
        assert math.isnan(found.qos[0])
    else:
        expected = worth / came[-1] - reply.asked - found.rebuffer[0]
        np.testing.assert_allclose(found.qos[0], expected, rtol=1e-3, atol=1e-3)


SIZES = [55, 628, 655, 655, 655, 655, 968, 1281, 374, 342, 1310, 1714, 671, 27, 90]


@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.sampled_from(SIZES), max_size=25)), max_size=4)
)
def test_tokens_packet_by_packet(given_replies: list[tuple[bool, list[int]]]) -> None:
    """Recognition and count, as a loop over the sizes of one reply says."""
    profile = PROFILES[0]
    talks = [
        Talk(TCP if tcp else UDP, [Sent(i * 20 * MS, False, size) for i, size in enumerate(sizes)])
        for tcp, sizes in given_replies
        if sizes
    ]
    batch = make_batch(talks)
    data = find_data(batch)
    turns = find_turns(batch, data)
    found, brought = estimate_tokens(cut_segments(batch, data, turns, "turn"))
    assert math.isclose(brought.sum(), np.nansum(found.count))
    for turn, flow in enumerate(turns.flow.tolist()):
        sizes = [sent.payload for sent in talks[flow].packets]
        if talks[flow].protocol == UDP:
            sizes = [size for size in sizes if size >= 40]
        rungs = [s for s in sizes if s >= 315 and s % 313 in {29, 2}]
        share = len(rungs) / max(1, len([s for s in sizes if s != 55]))
        if talks[flow].protocol == UDP or len(rungs) < 5 or len(set(rungs)) < 2 or share < 0.4:
            assert math.isnan(found.count[turn])
            assert found.profile[turn] == 0
            continue
        start = next(i for i, s in enumerate(sizes) if s >= 315 and s % 313 in {29, 2, 61})
        payload = sum(sizes[start:])
        count = max(1, (payload - profile.intercept) / profile.slope)
        assert math.isclose(found.count[turn], count)
        assert found.low[turn] <= found.count[turn] <= found.high[turn]
        seconds = (len(sizes) - 1 - start) * 0.02
        assert math.isclose(found.per_second[turn], count / seconds)


@given(st.lists(st.binary(min_size=20, max_size=120), min_size=2, max_size=4))
def test_a_turn_is_measured_alike_in_any_company(recipes: list[bytes]) -> None:
    """What else is in the batch changes nothing."""

    def rows(batch: FlowBatch) -> F64:
        data = find_data(batch)
        felt = measure(cut_segments(batch, data, find_turns(batch, data), "turn"))
        columns = [*felt.cadence.columns(), *felt.stalls.columns(), *felt.reading.columns()]
        return np.stack([*columns, felt.tokens.count, felt.confidence], axis=1)

    talks = [talk for talk in map(talk_from, recipes) if talk.packets]
    alone = [rows(make_batch([talk])) for talk in talks]
    if alone:
        np.testing.assert_allclose(rows(make_batch(talks)), np.concatenate(alone), rtol=1e-9)
