"""Experience of replies made by hand, with answers worked out on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmflow.capture.columns import UDP
from llmflow.features.segments import cut_segments
from llmflow.flows.turns import find_data, find_turns
from llmflow.quality.experience import Experience, measure
from tests.reference import Sent, Talk, make_batch

MS = 1_000_000


def felt(*flows: list[tuple[float, int]], request: bool = True) -> Experience:
    """Measure flows of (milliseconds after the reply's start, bytes).

    The request's two packets lie 900 and 400 ms in front of the reply.
    """
    talks = []
    for reply in flows:
        asked = [Sent(0, up=True, payload=700), Sent(500 * MS, up=True, payload=300)]
        sent = [Sent(round((900 + at) * MS), up=False, payload=size) for at, size in reply]
        talks.append(Talk(UDP, [*(asked if request else []), *sent]))
    batch = make_batch(talks)
    data = find_data(batch)
    return measure(cut_segments(batch, data, find_turns(batch, data), "turn"))


def drip(*gaps: float) -> list[tuple[float, int]]:
    """A reply of 100-byte chunks that are the given milliseconds apart."""
    return [(sum(gaps[:i]), 100) for i in range(len(gaps) + 1)]


def test_a_steady_reply_begins_with_its_first_chunk() -> None:
    """A steady reply: TTFT is the wait, and nothing stalls."""
    seen = felt(drip(50, 50, 50, 50))
    assert seen.cadence.ttft.tolist() == pytest.approx([0.4])
    assert seen.cadence.chunks.tolist() == [5]
    assert seen.cadence.gap_p50.tolist() == pytest.approx([0.05])
    assert seen.cadence.reply_seconds.tolist() == pytest.approx([0.2])
    assert seen.cadence.stream_seconds.tolist() == pytest.approx([0.2])
    assert seen.cadence.reply_bytes.tolist() == [500]
    assert seen.stalls.seconds.tolist() == [0]


def test_the_header_in_front_of_the_first_token_is_no_token() -> None:
    """TTFT runs to the first chunk that three more follow, each within 2 s."""
    assert felt(drip(2100, 40, 40, 40)).cadence.ttft.tolist() == pytest.approx([0.4 + 2.1])
    assert felt(drip(40, 40, 2100, 40, 40, 40)).cadence.ttft.tolist() == pytest.approx([0.4 + 2.18])


def test_slow_tokens_are_tokens() -> None:
    """Followers may be up to 2 s apart, exactly 2 s too."""
    assert felt(drip(2000, 2000, 2000)).cadence.ttft.tolist() == pytest.approx([0.4])
    assert math.isnan(felt(drip(2000, 2000, 2001)).cadence.ttft[0])


@pytest.mark.parametrize("front", [2000.1, 2017, 2345.678901, 4100, 8190.7, 16300.3])
def test_limits_hold_wherever_in_the_reply(front: float) -> None:
    """Gaps of exactly 2 s stay within the limit behind any silence: times are not rounded."""
    seen = felt(drip(front, 2000, 2000, 2000))
    assert seen.cadence.ttft.tolist() == pytest.approx([0.4 + front / 1000])
    assert seen.cadence.stream_seconds.tolist() == pytest.approx([6])


@pytest.mark.parametrize("gaps", [(), (50,), (50, 50), (50, 2500, 50, 50), (2500,) * 6])
def test_without_three_followers_there_is_no_first_token(gaps: tuple[float, ...]) -> None:
    """Replies that never stream have no TTFT; it is null, not the wait."""
    assert math.isnan(felt(drip(*gaps)).cadence.ttft[0])


def test_followers_of_another_reply_do_not_count() -> None:
    """A reply of two chunks in front of a stream stays without a first token."""
    seen = felt(drip(50), drip(50, 50, 50), drip(50, 50))
    assert np.isnan(seen.cadence.ttft).tolist() == [True, False, True]
    assert seen.cadence.chunks.tolist() == [2, 4, 3]


def test_without_a_request_there_is_no_ttft() -> None:
    """Without a request the first token's delay is unknown; all else is measured."""
    seen = felt(drip(50, 50, 50, 50), request=False)
    assert np.isnan(seen.cadence.ttft).tolist() == [True]
    assert seen.cadence.gap_p50.tolist() == pytest.approx([0.05])


def test_a_stall_is_what_a_gap_lasts_beyond_half_a_second() -> None:
    """Stalls are summed over the gaps; a gap of 0.5 s is none."""
    assert felt(drip(500, 50, 500)).stalls.seconds.tolist() == pytest.approx([0], abs=1e-12)
    assert felt(drip(50, 800, 50, 1500)).stalls.seconds.tolist() == pytest.approx([0.3 + 1.0])


def test_silences_longer_than_two_seconds_are_no_streaming() -> None:
    """Streaming time is the reply less its long silences; they still count as stalls."""
    seen = felt(drip(50, 2000, 50, 3000, 100))
    assert seen.cadence.reply_seconds.tolist() == pytest.approx([5.2])
    assert seen.cadence.stream_seconds.tolist() == pytest.approx([2.2])
    assert seen.stalls.seconds.tolist() == pytest.approx([1.5 + 2.5])


def test_packets_of_one_write_are_one_chunk() -> None:
    """Packets up to 5 ms apart are one chunk, at its first one's time, also in long chains."""
    seen = felt([(0, 1200), (4, 1200), (9, 300), (14.5, 50), (59, 80), (64, 80), (69.001, 80)])
    assert seen.cadence.chunks.tolist() == [4]
    assert seen.cadence.gap_p50.tolist() == pytest.approx([0.0145])
    assert seen.cadence.reply_bytes.tolist() == [1200 + 1200 + 300 + 50 + 3 * 80]
    assert seen.cadence.reply_seconds.tolist() == pytest.approx([0.069001])


def test_the_median_gap_of_even_many_is_between_the_middle_two() -> None:
    """Median by linear interpolation."""
    assert felt(drip(10, 20, 40, 1000)).cadence.gap_p50.tolist() == pytest.approx([0.03])


def test_a_single_chunk_has_no_gap() -> None:
    """One chunk: no median gap, and lengths of 0 rather than null."""
    seen = felt([(0, 900), (2, 900)])
    assert np.isnan(seen.cadence.gap_p50).tolist() == [True]
    assert seen.cadence.chunks.tolist() == [1]
    lengths = [seen.cadence.reply_seconds, seen.cadence.stream_seconds, seen.stalls.seconds]
    assert [length.tolist() for length in lengths] == [[0], [0], [0]]
    assert seen.cadence.reply_bytes.tolist() == [1800]


def test_no_turn_no_row() -> None:
    """A flow without downlink data gives no experience, and no error."""
    seen = felt([])
    parts = (seen.cadence, seen.stalls, seen.tokens, seen.reading)
    assert {len(column) for part in parts for column in part.columns()} == {0}
    assert len(seen.confidence) == 0
