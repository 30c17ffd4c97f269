"""Stalls, their cause, tokens and reading of replies made by hand, worked out on paper."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from llmflow.capture.columns import TCP, UDP
from llmflow.features.segments import cut_segments
from llmflow.flows.batch import FlowBatch
from llmflow.flows.turns import find_data, find_turns
from llmflow.quality.experience import CONFIDENCE, Experience, measure
from llmflow.quality.tokens import NAMES, PROFILES
from tests.reference import Sent, Talk, make_batch
from tests.tcp_reference import MS, Segment, tcp_batch

REQUEST = Segment(0, True, 1000, 300)


def felt(batch: FlowBatch) -> Experience:
    data = find_data(batch)
    return measure(cut_segments(batch, data, find_turns(batch, data), "turn"))


def down(ms: float, number: int) -> Segment:
    """The ``number``-th 100 bytes of the reply."""
    return Segment(int(ms * MS), False, 5000 + 100 * number, 100, 1300)


def over_tcp(*packets: Segment, protocol: int = TCP) -> Experience:
    return felt(tcp_batch([[REQUEST, *packets]], protocol))


def drip(gaps: Sequence[float], *, protocol: int = UDP, request: bool = True) -> Experience:
    """A reply of 100-byte chunks, 400 ms behind its request."""
    asked = [Sent(0, True, 300)] if request else []
    times = [400 + sum(gaps[:i]) for i in range(len(gaps) + 1)]
    sent = [Sent(round(ms * MS), up=False, payload=100) for ms in times]
    return felt(make_batch([Talk(protocol, [*asked, *sent])]))


def sized(sizes: Sequence[int], protocol: int = TCP) -> Experience:
    """A reply of packets of given sizes, 25 ms apart."""
    sent = [Sent((400 + 25 * i) * MS, up=False, payload=size) for i, size in enumerate(sizes)]
    return felt(make_batch([Talk(protocol, [Sent(0, True, 300), *sent])]))


def attribution(seen: Experience) -> list[float]:
    """Stalls in all, of the network, of the server, and avoidable, in s; one reply."""
    s = seen.stalls
    return [float(x[0]) for x in (s.seconds, s.network, s.server, s.avoidable)]


# -- cause ---------------------------------------------------------------------------------------

STEADY = [down(500 + 50 * i, i) for i in range(5)]  # up to 700 ms


def test_a_pause_without_losses_is_the_servers() -> None:
    """A model that pauses is not blamed on the network."""
    seen = over_tcp(*STEADY, down(1400, 5), down(1450, 6))
    assert attribution(seen) == pytest.approx([0.2, 0, 0.2, 0])
    assert seen.stalls.hol_ratio.tolist() == [0]
    assert CONFIDENCE[seen.confidence[0]] == "high"


def test_waiting_for_a_loss_in_front_of_the_tap_is_the_networks() -> None:
    """Packets behind a hole arrive in time, and are shown when the hole is filled."""
    waiting = [down(500 + 50 * i, i) for i in range(6, 21)]  # 800 to 1500 ms
    seen = over_tcp(*STEADY, *waiting, down(1550, 5), down(1600, 21))
    assert attribution(seen) == pytest.approx([0.35, 0.35, 0, 0.35])
    assert seen.stalls.hol_ratio.tolist() == pytest.approx([0.75 / 1.1])
    assert seen.stalls.longest.tolist() == pytest.approx([0.85])
    assert CONFIDENCE[seen.confidence[0]] == "high"


def test_waiting_for_a_loss_behind_the_tap_is_the_networks() -> None:
    """A packet that is sent again, unacknowledged, did not arrive: its last copy counts."""
    waiting = [down(500 + 50 * i, i) for i in range(6, 21)]  # 800 to 1500 ms
    seen = over_tcp(*STEADY, down(750, 5), *waiting, down(1550, 5), down(1600, 21))
    assert attribution(seen) == pytest.approx([0.35, 0.35, 0, 0.35])
    assert seen.stalls.hol_ratio.tolist() == pytest.approx([0.8 / 1.1])
    assert CONFIDENCE[seen.confidence[0]] == "medium"


def test_a_stall_can_have_both_causes() -> None:
    """Only the part of a stall behind the arrival of the waiting packet is the network's."""
    seen = over_tcp(*STEADY, down(1400, 6), down(1500, 5), down(1550, 7))
    assert attribution(seen) == pytest.approx([0.3, 0.1, 0.2, 0.1])


def test_redundancy_cannot_help_where_nothing_follows() -> None:
    """The last packet, lost, has no successor that could have carried its bytes."""
    seen = over_tcp(*STEADY, down(750, 5), down(1550, 5))
    assert attribution(seen) == pytest.approx([0.35, 0.35, 0, 0])


def test_redundancy_of_a_lost_packet_comes_with_the_next_that_arrives() -> None:
    """Two losses in a row are both repaired by the third packet."""
    packets = [down(750, 5), down(800, 6), down(1250, 7), down(1500, 5), down(1560, 6)]
    seen = over_tcp(*STEADY, *packets, down(1600, 8))
    # With redundancy packets 5 and 6 are shown at 1250 ms: 50 ms of stall remain.
    assert attribution(seen) == pytest.approx([0.3, 0.3, 0, 0.25])


def test_acknowledged_bytes_that_are_sent_again_delay_nobody() -> None:
    """A spurious retransmission is no loss."""
    ack = Segment(760 * MS, True, 1300, 0, 5600)
    seen = over_tcp(*STEADY, down(750, 5), ack, down(1550, 5), down(1600, 6))
    assert attribution(seen) == pytest.approx([0.35, 0, 0.35, 0])


@pytest.mark.parametrize("request_seen", [True, False])
def test_without_a_view_of_losses_nobody_is_blamed(request_seen: bool) -> None:
    """Cause, redundancy and blocking are null over QUIC and where one direction was captured."""
    protocol = UDP if request_seen else TCP
    seen = drip([50, 900, 50], protocol=protocol, request=request_seen)
    s = seen.stalls
    assert s.seconds.tolist() == pytest.approx([0.4])
    for column in (s.network, s.server, s.avoidable, s.hol_ratio):
        assert np.isnan(column).tolist() == [True]
    assert CONFIDENCE[seen.confidence[0]] == "low"
    assert np.isnan(seen.cadence.ttfb).tolist() == [not request_seen]


# -- stalls --------------------------------------------------------------------------------------


def test_stall_ratios_at_every_threshold() -> None:
    """What silences last beyond 0.2, 0.5 and 1 s, of the reply's length; limits are no stalls."""
    s = drip([200, 300, 500, 1000, 1600]).stalls
    assert s.ratio_200ms.tolist() == pytest.approx([(0.1 + 0.3 + 0.8 + 1.4) / 3.6])
    assert s.ratio_500ms.tolist() == pytest.approx([(0.5 + 1.1) / 3.6])
    assert s.ratio_1s.tolist() == pytest.approx([0.6 / 3.6])
    assert s.count.tolist() == [2]
    assert [x.tolist() for x in (s.p50, s.longest)] == [pytest.approx([1.3]), [1.6]]
    assert s.p95.tolist() == pytest.approx([1.0 + 0.95 * 0.6])


def test_the_adaptive_threshold_follows_a_slow_provider() -> None:
    """Median + 6 MAD: what is usual for a slow stream is no stall."""
    s = drip([700, 700, 700, 800, 800, 900, 2000]).stalls
    assert s.threshold.tolist() == pytest.approx([0.8 + 6 * 0.1])
    assert s.ratio_adaptive.tolist() == pytest.approx([0.6 / 6.6])


def test_the_adaptive_threshold_is_never_below_half_a_second() -> None:
    """A fast stream's jitter is no stall."""
    s = drip([30] * 7 + [450]).stalls
    assert s.threshold.tolist() == [0.5]
    assert s.ratio_adaptive.tolist() == [0]


def test_few_silences_have_no_adaptive_threshold() -> None:
    """Below 8 chunks nobody knows what is usual."""
    s = drip([30] * 6).stalls
    assert np.isnan([s.threshold[0], s.ratio_adaptive[0]]).all()


def test_a_reply_without_length_has_no_ratios() -> None:
    """One packet: no stall, and nothing that it could be a part of."""
    s = drip([]).stalls
    assert [s.seconds.tolist(), s.count.tolist()] == [[0], [0]]
    columns = (s.ratio_200ms, s.ratio_500ms, s.ratio_1s, s.p50, s.p95, s.longest, s.hol_ratio)
    assert np.isnan(columns).all()


def test_a_bulk_transfer_is_one_chunk_and_no_stall() -> None:
    """Packets 5 ms apart for a second are one chunk; the silence behind it counts from its end."""
    seen = drip([5] * 200 + [600])
    assert seen.cadence.chunks.tolist() == [2]
    assert seen.stalls.seconds.tolist() == pytest.approx([0.1])


def test_gaps_and_waits() -> None:
    """TTFB* is the wait for the first byte; gaps have a median, a 95th percentile, a maximum."""
    c = drip([10, 20, 30, 40, 100]).cadence
    assert c.ttfb.tolist() == pytest.approx([0.4])
    assert c.gap_p50.tolist() == pytest.approx([0.03])
    assert c.gap_p95.tolist() == pytest.approx([0.04 + 0.8 * 0.06])
    assert c.gap_max.tolist() == pytest.approx([0.1])


# -- tokens --------------------------------------------------------------------------------------

FRONT, TAIL = [1197, 1714, 374], [340, 27]
PADDED = [*FRONT, *[655, 55, 628, 655] * 10, 1281, *TAIL]


def test_padded_events_give_the_count_away() -> None:
    """Two tokens in every 655 bytes; the handshake and the headers in front do not count."""
    seen = sized(PADDED)
    payload = sum(PADDED[2:])
    expected = (payload - 182.2) / 329.65
    assert expected == pytest.approx(2 * 30 + 4, abs=3)
    assert seen.tokens.count.tolist() == pytest.approx([expected])
    assert [seen.tokens.low[0], seen.tokens.high[0]] == pytest.approx([expected - 4, expected + 4])
    assert seen.tokens.per_second.tolist() == pytest.approx([expected / (0.025 * 43)])
    assert NAMES[seen.tokens.profile[0]] == PROFILES[0].name


def test_headers_do_not_change_the_count() -> None:
    """A later turn of a connection has no handshake in front."""
    assert sized(PADDED[2:]).tokens.count == sized(PADDED).tokens.count


def test_lost_events_count() -> None:
    """What is missing in the capture, or came late, is counted by its sequence numbers."""
    ends = 2**32 - 9000 + np.cumsum(PADDED)
    packets = [
        Segment((400 + 25 * i) * MS, False, int(end) - size, size)
        for i, (end, size) in enumerate(zip(ends.tolist(), PADDED, strict=True))
        if i not in {20, 30}
    ]
    late = packets[35]._replace(ns=packets[36].ns + 1)
    packets[35:37] = [packets[36], late]
    seen = felt(tcp_batch([[REQUEST, *packets]]))
    assert seen.tokens.count.tolist() == pytest.approx(sized(PADDED).tokens.count.tolist())


def test_another_connection_on_the_ports_is_no_loss() -> None:
    """Sequence numbers that begin elsewhere add what was sent, not the step between them."""
    half = len(PADDED) // 2
    at = [5000 + sum(PADDED[:i]) + (1 << 30) * (i >= half) for i in range(len(PADDED))]
    packets = [
        Segment((400 + 25 * i) * MS, False, at[i], size, 1300) for i, size in enumerate(PADDED)
    ]
    assert over_tcp(*packets).tokens.count == pytest.approx(sized(PADDED).tokens.count)


@pytest.mark.parametrize(
    "sizes",
    [
        [655] * 40,  # all of one size: a clock, not a ladder
        [58, 75, 61, 52, 58, 117] * 8,  # an event for each token, no padding
        [500 + 90 * i for i in range(40)],  # the reply so far, again and again
        [1400] * 60,
        [655, 968, 655, 968],  # too few
        [29, 2] * 20,  # what writes leave, without the events
    ],
)
def test_unknown_framings_get_no_count(sizes: list[int]) -> None:
    """No profile, no estimate: it is null, and nothing is guessed from bytes."""
    seen = sized(sizes)
    t = seen.tokens
    assert np.isnan([t.count[0], t.low[0], t.high[0], t.per_second[0]]).all()
    assert NAMES[t.profile[0]] == ""


def test_profiles_are_of_tcp() -> None:
    """Over QUIC a datagram's size is not that of a write."""
    assert math.isnan(sized(PADDED, UDP).tokens.count[0])


# -- reading -------------------------------------------------------------------------------------


def test_a_stream_at_the_readers_pace_is_never_waited_for() -> None:
    """Five chunks a second, each at least a token: nothing to wait for, QoE 1."""
    r = drip([200] * 9).reading
    assert r.rebuffer.tolist() == [0]
    assert r.qoe.tolist() == [1]
    assert r.qos.tolist() == pytest.approx([10 / 1.8 - 0.4])


def test_a_slow_stream_makes_the_reader_wait() -> None:
    """Every chunk comes 200 ms late: that is the rebuffering, and it costs QoE."""
    r = drip([400] * 9).reading
    assert r.rebuffer.tolist() == pytest.approx([1.8])
    times = [0.4 + 0.4 * i for i in range(10)]
    late = sum(max(0, t - (1 + 0.2 * i)) for i, t in enumerate(times))
    assert r.qoe.tolist() == pytest.approx([1 - late / sum(times)])
    assert r.qos.tolist() == pytest.approx([10 / 3.6 - 0.4 - 1.8])


def test_the_reader_knows_tokens_where_a_profile_speaks() -> None:
    """Many tokens in a chunk outlast a pause in which one chunk's worth would not."""
    sent = [Sent((400 + 25 * i) * MS, False, size) for i, size in enumerate(PADDED)]
    later = [Sent((3400 + 25 * i) * MS, False, 655) for i in range(10)]
    seen = felt(make_batch([Talk(TCP, [Sent(0, True, 300), *sent, *later])]))
    assert seen.tokens.count[0] > 70
    assert seen.reading.rebuffer.tolist() == [0]


def test_short_replies_are_not_read_and_requests_are_needed_for_judgement() -> None:
    """Null below 8 chunks; without a request only the rebuffering is known."""
    r = drip([50] * 6).reading
    assert np.isnan([r.rebuffer[0], r.qoe[0], r.qos[0]]).all()
    r = drip([50] * 7, request=False).reading
    assert r.rebuffer.tolist() == [0]
    assert np.isnan([r.qoe[0], r.qos[0]]).all()
