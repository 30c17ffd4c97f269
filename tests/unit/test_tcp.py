"""Each mark of the TCP analysis, its counters and times, on flows of a few packets."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmflow.capture.columns import ACK, FIN, RST, SYN, UDP
from llmflow.flows.batch import FlowBatch
from llmflow.flows.tcp import DOWN, UP, TcpAnalysis, TcpFlag, analyse_tcp
from tests.builders import START
from tests.tcp_reference import MS, Segment, tcp_batch

WRAP = 2**32 - 100
TRIP = 20 * MS  # half of it on each side of the tap
SHAKE = [
    Segment(0, True, 999, flags=SYN),
    Segment(10 * MS, False, WRAP - 1, ack=1000, flags=SYN | ACK),
    Segment(TRIP, True, 1000, ack=WRAP),
]


def down(ms: float, at: int, size: int = 100, **other: int) -> Segment:
    """Downlink data; ``at`` counts from the first byte, and sequence numbers wrap after 100."""
    return Segment(int(ms * MS), False, WRAP + at, size, **{"ack": 1000, **other})


def up(ms: float, acked: int, **other: int) -> Segment:
    """An uplink acknowledgement of so many bytes."""
    return Segment(int(ms * MS), True, **{"seq": 1000, "ack": WRAP + acked, **other})


def marks(*packets: Segment) -> list[set[str]]:
    """The marks of the packets of one flow behind a handshake of 20 ms."""
    found = analyse_tcp(tcp_batch([[*SHAKE, *packets]])).flags[len(SHAKE) :]
    return [
        {name for bit, name in enumerate(TcpFlag.NAMES) if flags >> bit & 1}
        for flags in found.tolist()
    ]


def run(*packets: Segment) -> TcpAnalysis:
    return analyse_tcp(tcp_batch([[*SHAKE, *packets]]))


NOTHING: set[str] = set()
RETRANSMISSION, OUT_OF_ORDER = {"retransmission"}, {"out_of_order", "fill"}
LOST = {"retransmission", "fill"}


def test_data_in_order_over_a_wrap_has_no_marks() -> None:
    """Nothing is wrong with a clean flow, and nothing waits."""
    packets = [down(30, 0), down(31, 100), up(40, 200), down(50, 200)]
    assert marks(*packets) == [NOTHING] * 4
    found = run(*packets)
    assert (found.delivered - START).tolist() == [p.ns for p in [*SHAKE, *packets]]


def test_a_range_seen_before_is_a_retransmission() -> None:
    """Lost behind the tap: sooner than a minimal RTO without a cause, later by timeout."""
    first = down(30, 0)
    assert marks(first, down(90, 0)) == [NOTHING, RETRANSMISSION]
    assert marks(first, down(230, 0)) == [NOTHING, {"retransmission", "timeout"}]
    found = run(first, down(230, 0)).flows
    assert found.retransmitted_bytes.tolist() == [[0, 100]]
    assert found.counts["timeout"].tolist() == [[0, 1]]


def test_a_range_acknowledged_before_is_spurious() -> None:
    """The receiver had it."""
    packets = [down(30, 0), up(40, 100), down(90, 0)]
    assert marks(*packets)[-1] == {"retransmission", "spurious"}


def test_a_hole_filled_within_a_round_trip_was_reordered() -> None:
    """It was in the network all the time; later, it was lost in front of the tap and sent again."""
    front = [down(30, 0), down(31, 200)]
    assert marks(*front, down(32, 100)) == [NOTHING, {"hole"}, OUT_OF_ORDER]
    assert marks(*front, down(31 + 20, 100))[-1] == LOST
    found = run(*front, down(32, 100)).flows
    assert found.hole_bytes.tolist() == [[0, 100]]
    assert found.retransmitted_bytes.tolist() == [[0, 0]]


def test_without_a_handshake_three_milliseconds_tell_reordering() -> None:
    """Wireshark's default."""
    packets = [down(30, 0), down(31, 200), down(33.9, 100)]
    late = [*packets[:2], down(34, 100)]
    found = analyse_tcp(tcp_batch([packets, late])).flags.tolist()
    assert found[2] == TcpFlag.OUT_OF_ORDER | TcpFlag.FILL
    assert found[5] == TcpFlag.RETRANSMISSION | TcpFlag.FILL


def test_two_duplicate_acks_make_a_retransmission_fast() -> None:
    """As long as it comes soon behind the last of them, and brings what they ask for."""
    acks = [up(40, 100), up(41, 100), up(42, 100)]
    front = [down(30, 0), down(31, 200), down(31, 300), *acks]
    assert marks(*front)[4:] == [{"duplicate_ack"}] * 2
    assert marks(*front, down(50, 100))[-1] == {"retransmission", "fill", "fast"}
    assert marks(*front, down(62, 100))[-1] == LOST
    assert marks(*front[:-1], down(50, 100))[-1] == OUT_OF_ORDER
    assert marks(*front, down(300, 100))[-1] == LOST  # no timeout: duplicate ACKs were there


def test_partial_overlaps_count_their_old_bytes() -> None:
    """Old and new bytes in one packet; and a filled hole with old bytes around it."""
    found = run(down(30, 0), down(31, 60))
    assert found.flags[-1] == TcpFlag.RETRANSMISSION
    assert found.flows.retransmitted_bytes[0, DOWN] == 40
    assert marks(down(30, 0), down(31, 150), down(32, 50, 150))[-1] == LOST


def test_one_hole_filled_in_parts() -> None:
    """Each part is new once."""
    parts = [down(32, 100, 50), down(33, 150, 50), down(34, 100, 50)]
    found = marks(down(30, 0), down(31, 200), *parts)
    assert found[2:] == [OUT_OF_ORDER, OUT_OF_ORDER, RETRANSMISSION]


def test_what_came_behind_a_hole_is_delivered_when_it_is_filled() -> None:
    """Packets above wait for the last fill below their end, fills for the holes below them."""
    packets = [down(30, 0), down(31, 200), down(32, 400), down(33, 300), down(90, 100)]
    delivered = run(*packets, down(95, 500)).delivered[len(SHAKE) :] - START
    assert delivered.tolist() == [t * MS for t in (30, 90, 90, 90, 90, 95)]


def test_what_was_lost_behind_the_tap_is_delivered_when_it_is_sent_again() -> None:
    """At the latest: packets behind it wait, unless the receiver had acknowledged it."""
    lost = [down(30, 0), down(31, 100), down(90, 0), down(91, 200)]
    found = run(*lost)
    assert (found.delivered_latest[3:] - START).tolist() == [t * MS for t in (90, 90, 90, 91)]
    assert (found.delivered[3:] - START).tolist() == [p.ns for p in lost]
    had = run(lost[0], lost[1], up(50, 200), *lost[2:])
    assert (had.delivered_latest - had.delivered).tolist() == [0] * 8


@pytest.mark.parametrize("fill", [[], [up(50, 300), down(90, 100)]])
def test_nobody_waits_for_what_only_the_capture_missed(fill: list[Segment]) -> None:
    """A hole that never fills, or that the receiver had acknowledged before."""
    found = run(down(30, 0), down(31, 200), *fill)
    assert found.delivered[len(SHAKE) + 1] == START + 31 * MS


def test_keep_alives_and_their_acknowledgements() -> None:
    """One byte below the next, with one byte or none; the answer repeats the last ACK."""
    for size in (0, 1):
        packets = [down(30, 0), up(40, 100), down(5000, 99, size), up(5010, 100)]
        assert marks(*packets)[2:] == [{"keep_alive"}, {"keep_alive_ack"}]


def test_windows() -> None:
    """A closed window, the probe's byte sent again with more, and the opening."""
    packets = [
        *(down(30, 0), up(40, 100, window=0), up(300, 100, window=500)),
        *(down(310, 100, 1), down(320, 100)),
    ]
    assert marks(*packets)[1:] == [{"zero_window"}, {"window_update"}, NOTHING, NOTHING]


def test_syn_and_fin_take_a_sequence_number() -> None:
    """Sent again, they are retransmissions; a SYN with another number begins anew."""
    fin = down(50, 0, 0, flags=FIN | ACK)
    assert marks(fin, fin._replace(ns=60 * MS)) == [NOTHING, RETRANSMISSION]
    syn = Segment(0, True, 5, flags=SYN)
    again = analyse_tcp(tcp_batch([[syn, syn._replace(ns=1000 * MS), syn._replace(seq=77)]]))
    assert again.flags.tolist() == [0, TcpFlag.RETRANSMISSION | TcpFlag.TIMEOUT, 0]


def test_resets_are_left_alone() -> None:
    """Whatever sequence number they carry."""
    assert marks(down(30, 0), down(31, 7, flags=RST), down(32, 100)) == [NOTHING] * 3


def test_mirrored_packets_are_duplicates() -> None:
    """If it is the rule; one copy alone is a retransmission."""
    twice = [
        copy
        for packet in [*SHAKE, down(30, 0), down(31, 100), up(40, 200)]
        for copy in (packet, packet._replace(ns=packet.ns + 5000))
    ]
    found = analyse_tcp(tcp_batch([twice])).flags.tolist()
    assert found == [0, TcpFlag.DUPLICATE] * 6
    once = [down(30, 0), down(31, 100), down(32, 200), down(33, 200)]
    assert marks(*once)[-1] == RETRANSMISSION


def test_round_trips() -> None:
    """On both sides of the tap; what was sent again tells nothing."""
    found = run(
        *(down(30, 0), up(37, 100)),
        *(down(50, 100), down(51, 200), up(60, 300)),
        *(down(70, 300), down(290, 300), up(300, 400)),
        *(Segment(310 * MS, True, 1000, 50, WRAP + 400), down(315, 400, ack=1050)),
    ).flows
    assert found.handshake.tolist() == [[10.0, 10.0]]
    assert found.rtt_samples.tolist() == [[1, 2]]
    assert found.rtt_min.tolist() == [[5.0, 7.0]]
    assert found.rtt_median.tolist() == [[5.0, 8.0]]


def test_a_handshake_with_two_syns_is_ambiguous() -> None:
    """Karn's rule, for either side."""
    syn, answer, _ = SHAKE
    late = [p._replace(ns=p.ns + 900 * MS) for p in SHAKE]
    found = analyse_tcp(tcp_batch([[syn, *late], [syn, answer, late[1], late[2]]])).flows
    np.testing.assert_equal(found.handshake, [[math.nan, 10.0], [10.0, math.nan]])


def test_other_protocols_and_nothing_at_all() -> None:
    """Counts of 0, times of NaN, and a mask that says so."""
    batch = tcp_batch([[down(0, 0), down(1, 0)]], UDP)
    found = analyse_tcp(batch)
    assert found.flows.tcp.tolist() == [False]
    assert not found.flags.any()
    assert found.delivered.tolist() == batch.packets.time.tolist()
    assert np.isnan(found.flows.handshake).all()
    assert found.flows.rtt_samples[0, UP] == 0
    none = analyse_tcp(FlowBatch(batch.flows.take(slice(0)), batch.packets.take(slice(0))))
    assert none.flags.shape == (0,)
    assert none.flows.rtt_min.shape == (0, 2)
