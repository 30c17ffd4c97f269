"""What counts as data: new bytes, acknowledgements, retransmissions."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.capture.columns import ACK, FIN, PSH, RST, SYN, UDP
from llmflow.flows.data import UDP_DATA_DOWN, UDP_DATA_UP, find_data
from tests.builders import CLIENT, SERVER, START, Packet, assemble
from tests.unit.talks import WRAP, Talk


def test_plain_data_is_new() -> None:
    """Payload that was not sent before is new, in its direction."""
    talk = Talk()
    talk.up(0, 300)
    talk.down(1, 100)
    talk.down(2, 50)
    data = talk.data()
    assert data.new.tolist() == [300, 100, 50]
    assert data.up.tolist() == [True, False, False]
    assert data.down.tolist() == [False, True, True]
    assert data.ack.tolist() == [False, False, False]


def test_retransmission_is_not_new() -> None:
    """Bytes that were sent before do not count again."""
    talk = Talk()
    talk.down(0, 100, seq=5000)
    talk.down(1, 100, seq=5100)
    talk.down(2, 100, seq=5000)
    talk.down(3, 100, seq=5100)
    talk.down(4, 100, seq=5200)
    data = talk.data()
    assert data.new.tolist() == [100, 100, 0, 0, 100]
    assert data.down.tolist() == [True, True, False, False, True]


def test_partial_overlap_counts_its_new_part() -> None:
    """Of a repacketized retransmission only the bytes beyond the highest count."""
    talk = Talk()
    talk.down(0, 100, seq=5000)
    talk.down(1, 150, seq=5050)
    talk.down(2, 250, seq=4990)
    assert talk.data().new.tolist() == [100, 100, 40]


def test_gap_is_not_counted() -> None:
    """Bytes that the capture missed are not made up, and a late filler of the hole is not new."""
    talk = Talk()
    talk.down(0, 100, seq=5000)
    talk.down(1, 100, seq=5300)
    talk.down(2, 200, seq=5100)
    assert talk.data().new.tolist() == [100, 100, 0]


def test_keep_alive_probe_is_not_new() -> None:
    """A probe repeats the last byte: no data."""
    talk = Talk()
    talk.up(0, 300, seq=1000)
    talk.up(45, 1, seq=1299)
    data = talk.data()
    assert data.new.tolist() == [300, 0]
    assert data.up.tolist() == [True, False]


def test_sequence_numbers_wrap() -> None:
    """Counting goes on beyond 2^32, in steps and in retransmissions across the border."""
    talk = Talk()
    for at, seq, size in [
        (0, WRAP - 150, 100),
        (1, WRAP - 50, 100),
        (2, WRAP + 50, 100),
        (3, WRAP - 50, 100),
        (4, WRAP + 100, 100),
    ]:
        talk.down(at, size, seq=seq)
    assert talk.data().new.tolist() == [100, 100, 100, 0, 50]


def test_directions_count_apart() -> None:
    """The two directions have their own sequence numbers."""
    talk = Talk()
    talk.up(0, 100, seq=WRAP - 10)
    talk.down(1, 100, seq=0)
    talk.up(2, 100, seq=90)
    talk.down(3, 100, seq=100)
    assert talk.data().new.tolist() == [100] * 4


def test_flows_count_apart() -> None:
    """The sequence numbers of one flow say nothing about another."""
    one, other = Talk(), Talk(sport=50001)
    one.down(0, 100, seq=9_000_000)
    other.down(0.5, 100, seq=10)
    one.down(1, 100, seq=9_000_100)
    batch = assemble(sorted(one.packets + other.packets))
    data = find_data(batch)
    assert data.new.tolist() == [100, 100, 100]
    assert sorted(data.flow.tolist()) in ([0, 0, 1], [0, 1, 1])


@pytest.mark.parametrize(
    ("flags", "ack"),
    [(ACK, True), (PSH | ACK, True), (SYN, False), (FIN | ACK, False), (RST, False)],
)
def test_pure_acknowledgement(flags: int, ack: bool) -> None:
    """An uplink TCP packet without payload is an acknowledgement unless it opens or closes."""
    talk = Talk()
    talk.up(0, 300)
    talk.up(1, 0, flags=flags)
    assert talk.data().ack.tolist() == [False, ack]


def test_downlink_acknowledgement_is_not_counted() -> None:
    """Only the client's acknowledgements are marked."""
    talk = Talk()
    talk.up(0, 300)
    talk.down(1, 0)
    assert talk.data().ack.tolist() == [False, False]


def test_retransmission_is_no_acknowledgement() -> None:
    """A packet that carries old bytes is neither data nor an acknowledgement."""
    talk = Talk()
    talk.up(0, 300, seq=1000)
    talk.up(1, 300, seq=1000)
    data = talk.data()
    assert (data.up.tolist(), data.ack.tolist()) == ([True, False], [False, False])


def test_small_quic_packets_only_acknowledge() -> None:
    """Below the smallest data size of its direction a UDP packet carries no data."""
    talk = Talk(protocol=UDP)
    talk.up(0, UDP_DATA_UP - 1)
    talk.up(1, UDP_DATA_UP)
    talk.down(2, UDP_DATA_DOWN - 1)
    talk.down(3, UDP_DATA_DOWN)
    data = talk.data()
    assert data.new.tolist() == [0, UDP_DATA_UP, 0, UDP_DATA_DOWN]
    assert data.ack.tolist() == [True, False, False, False]
    assert data.up.tolist() == [False, True, False, False]
    assert data.down.tolist() == [False, False, False, True]


SEGMENT = st.tuples(st.booleans(), st.integers(-400, 400), st.integers(0, 300))


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 2), SEGMENT), min_size=1, max_size=40),
    st.integers(0, WRAP - 1),
    st.sampled_from([0, WRAP - 1000, WRAP - 1, WRAP // 2]),
)
def test_new_bytes_equal_the_reference(
    segments: list[tuple[int, tuple[bool, int, int]]], up_start: int, down_start: int
) -> None:
    """New bytes are those above the highest sequence number so far, whatever came before."""
    packets: list[Packet] = []
    place: dict[tuple[int, bool], int] = defaultdict(int)
    for i, (flow, (up, jump, size)) in enumerate(segments):
        place[flow, up] += jump
        ends = (CLIENT, 50000 + flow, SERVER, 443) if up else (SERVER, 443, CLIENT, 50000 + flow)
        seq = ((up_start if up else down_start) + place[flow, up]) % WRAP
        packets.append(Packet(START + i, *ends, payload=size, seq=seq))

    expected = []
    highest: dict[tuple[str, int, str, int], int] = {}
    for packet in packets:
        key = packet[1:5]
        new = packet.payload
        if key in highest:
            ahead = (packet.seq - highest[key] + WRAP // 2) % WRAP - WRAP // 2
            new = max(0, min(packet.payload, ahead + packet.payload))
        if packet.payload:
            begin = packet.seq if key not in highest else highest[key] + max(ahead, 0)
            highest[key] = begin + new
        expected.append(new)

    batch = assemble(packets)
    order = sorted(range(len(packets)), key=batch.packets.time.tolist().__getitem__)
    data = find_data(batch)
    assert [int(data.new[row]) for row in order] == expected
    assert [bool(data.up[row]) for row in order] == [
        new > 0 and p.dport == 443 for new, p in zip(expected, packets, strict=True)
    ]
