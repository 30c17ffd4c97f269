"""The TCP analysis against a slow, obvious one."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.capture.columns import ACK, FIN, RST, SYN
from llmflow.flows.sequence import first_cover
from llmflow.flows.tcp import TcpAnalysis, TcpFlag, analyse_tcp
from tests.builders import START
from tests.tcp_reference import MS, Expected, Segment, analyse, tcp_batch

STEPS = [0, 1000, 1000, MS // 2, MS, 2 * MS, 3 * MS, 5 * MS, 19 * MS, 50 * MS, 200 * MS, 999 * MS]
FLAGS = [*[ACK] * 24, FIN | ACK, RST, SYN, SYN | ACK, 0]
OFFSETS = [*[0] * 10, -1, -1, -2, -4, -4, -8, -8, -12, -20, -30, 4, 8, 12]
ACKS = [*[0] * 6, *[None] * 6, -4, -8, 4]  # None: the same as before
SIZES = [*[0] * 5, 1, 2, *[4] * 6, 8, 8, 12, 20]


@st.composite
def conversations(draw: st.DrawFn) -> list[Segment]:
    """A flow: mostly in order, with losses, reordering, overlaps, copies, probes and wraps."""
    begin = {True: 2**32 - draw(st.sampled_from([20, 5000])), False: 2**31 - 30}
    following, acked, window = dict(begin), {True: 0, False: 0}, {True: 500, False: 500}
    out: list[Segment] = []
    ns = 0
    if draw(st.booleans()):
        trip = draw(st.sampled_from([MS // 2, 3 * MS, 30 * MS]))
        out += [
            Segment(0, True, begin[True], flags=SYN),
            Segment(trip, False, begin[False], ack=begin[True] + 1, flags=SYN | ACK),
            Segment(2 * trip, True, begin[True] + 1, ack=begin[False] + 1),
        ]
        ns = 2 * trip
        following = {up: seq + 1 for up, seq in begin.items()}
        acked = {True: begin[False] + 1, False: begin[True] + 1}
    one_way = draw(st.sampled_from([False, False, False, True]))
    copied = draw(st.sampled_from([0, 0, 1, 6]))
    for _ in range(draw(st.integers(0, 25))):
        ns += draw(st.sampled_from(STEPS))
        if out and draw(st.integers(0, 9)) < copied:
            back = draw(st.sampled_from([1, 1, 1, 2, 3]))
            out.append(out[-min(back, len(out))]._replace(ns=ns))
            continue
        up = draw(st.booleans()) or one_way
        flags, size = draw(st.sampled_from(FLAGS)), draw(st.sampled_from(SIZES))
        seq = following[up] + draw(st.sampled_from(OFFSETS))
        if flags & SYN:
            seq, size = draw(st.sampled_from([begin[up], begin[up], 77, seq])), 0
        step = draw(st.sampled_from(ACKS))
        if step is not None:
            acked[up] = following[not up] + step
        window[up] = draw(st.sampled_from([*[window[up]] * 8, 0, 500, 700]))
        out.append(Segment(ns, up, seq, size, acked[up], flags, window[up]))
        following[up] = max(following[up], seq + size + bool(flags & FIN))
    return out


def names(flags: int) -> set[str]:
    return {name for bit, name in enumerate(TcpFlag.NAMES) if flags >> bit & 1}


def check(found: TcpAnalysis, flow: int, first: int, expected: Expected) -> None:
    """Compare one flow of an analysis."""
    n = len(expected.marks)
    assert [names(f) for f in found.flags[first : first + n].tolist()] == expected.marks
    assert (found.delivered[first : first + n] - START).tolist() == expected.delivered
    assert (found.delivered_latest[first : first + n] - START).tolist() == expected.delivered_latest
    flows = found.flows
    for column, up in enumerate((True, False)):
        at = (flow, column)
        assert {k: int(v[at]) for k, v in flows.counts.items() if v[at]} == expected.counts[up]
        assert flows.retransmitted_bytes[at] == expected.bytes_again[up]
        assert flows.hole_bytes[at] == expected.hole_bytes[up]
        samples, low, middle = expected.round_trips[up] or (0, math.nan, math.nan)
        assert flows.rtt_samples[at] == samples
        np.testing.assert_allclose([flows.rtt_min[at], flows.rtt_median[at]], [low, middle])
        shake = expected.handshake[column]
        np.testing.assert_equal(flows.handshake[at], math.nan if shake is None else shake)


@given(st.lists(conversations(), min_size=1, max_size=4))
@settings(max_examples=200)
def test_every_packet_and_flow_as_the_state_machine_says(flows: list[list[Segment]]) -> None:
    """Marks, delivery, counters and round trips, whatever the neighbours in the batch are."""
    flows = [flow for flow in flows if flow]
    found = analyse_tcp(tcp_batch(flows))
    first = 0
    for number, flow in enumerate(flows):
        check(found, number, first, analyse(flow))
        first += len(flow)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), max_size=20))
def test_first_cover_is_the_smallest_number(intervals: list[tuple[int, int]]) -> None:
    """Each cell gets the first interval that covers it."""
    low = np.array([begin for begin, _ in intervals], np.int64)
    high = np.array([begin + size for begin, size in intervals], np.int64)
    expected = [
        min((i for i, (b, s) in enumerate(intervals) if b <= cell < b + s), default=len(low))
        for cell in range(45)
    ]
    assert first_cover(low, high, 45).tolist() == expected
