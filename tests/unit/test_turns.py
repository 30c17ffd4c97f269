"""New data and turns: what counts as data, and where a request begins a new reply."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.capture.columns import (
    ACK,
    FIN,
    HINT_CLIENT_HELLO,
    HINT_QUIC_LONG,
    HINT_SERVER_HELLO,
    PSH,
    RST,
    SYN,
    TCP,
    UDP,
)
from llmflow.flows.batch import FlowBatch
from llmflow.flows.turns import (
    REQUEST_BYTES,
    UDP_DATA_DOWN,
    UDP_DATA_UP,
    Data,
    Turns,
    find_data,
    find_turns,
)
from tests.builders import CLIENT, SECOND, SERVER, START, Packet, assemble

WRAP = 1 << 32


@dataclass
class Talk:
    """One flow, written down packet by packet; sequence numbers count by themselves."""

    protocol: int = TCP
    sport: int = 50000
    packets: list[Packet] = field(default_factory=list)
    next_up: int = 1000
    next_down: int = 5000

    def up(
        self, at: float, size: int = 0, *, seq: int | None = None, flags: int = ACK, hint: int = 0
    ) -> None:
        """The client sends ``size`` bytes."""
        place = self.next_up if seq is None else seq
        self.next_up = max(self.next_up, place + size)
        ends = (CLIENT, self.sport, SERVER, 443)
        self._add(at, ends, flags, size, place, hint)

    def down(
        self, at: float, size: int = 0, *, seq: int | None = None, flags: int = ACK, hint: int = 0
    ) -> None:
        """The server sends ``size`` bytes."""
        place = self.next_down if seq is None else seq
        self.next_down = max(self.next_down, place + size)
        ends = (SERVER, 443, CLIENT, self.sport)
        self._add(at, ends, flags, size, place, hint)

    def _add(
        self, at: float, ends: tuple[str, int, str, int], flags: int, size: int, seq: int, hint: int
    ) -> None:
        time = START + round(at * SECOND)
        flags = flags if self.protocol == TCP else 0
        packet = Packet(time, *ends, self.protocol, flags, size, seq % WRAP, hint)
        self.packets.append(packet)

    def stream(self, begin: float, count: int, *, gap: float = 0.05, size: int = 120) -> float:
        """The server streams ``count`` chunks; gives the time of the last."""
        for i in range(count):
            self.down(begin + i * gap, size)
        return begin + (count - 1) * gap

    def handshake(self, at: float = 0.0) -> None:
        """TCP's three packets."""
        self.up(at, flags=SYN)
        self.down(at + 0.01, flags=SYN | ACK)
        self.up(at + 0.02)

    def batch(self) -> FlowBatch:
        """The flow as it comes out of the assembler."""
        batch = assemble(self.packets)
        assert len(batch.flows) == 1
        return batch

    def data(self) -> Data:
        """What the packets carry."""
        return find_data(self.batch())

    def turns(self) -> Turns:
        """The turns."""
        batch = self.batch()
        return find_turns(batch, find_data(batch))


def times(talk: Talk, rows: list[int]) -> list[float]:
    """Seconds of rows of the batch."""
    return [(int(talk.batch().packets.time[row]) - START) / SECOND for row in rows]


# What a packet carries


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


# Where turns begin


def test_one_request_one_reply() -> None:
    """A request and its reply are a turn: its bounds, request bytes and wait."""
    talk = Talk()
    talk.handshake()
    talk.up(0.1, 1000)
    talk.up(0.12, 500)
    talk.down(0.15)
    talk.stream(1.12, 20)
    talk.up(3)
    turns = talk.turns()
    assert len(turns) == 1
    assert (turns.flow[0], turns.number[0]) == (0, 0)
    assert times(talk, turns.request.tolist()) == [0.1]
    assert times(talk, turns.reply.tolist()) == [1.12]
    assert times(talk, turns.reply_last.tolist()) == [2.07]
    assert turns.stop.tolist() == [len(talk.packets)]
    assert turns.request_bytes.tolist() == [1500]
    assert turns.wait.tolist() == [1.0]


def test_ten_replies_on_one_connection() -> None:
    """A multiplexed connection with ten replies has ten turns, numbered, each with its request."""
    talk = Talk()
    talk.handshake()
    at = 1.0
    for i in range(10):
        talk.up(at, 1000 + i)
        at = talk.stream(at + 0.8, 30) + 20
    turns = talk.turns()
    assert turns.number.tolist() == list(range(10))
    assert turns.request_bytes.tolist() == [1000 + i for i in range(10)]
    assert turns.wait.tolist() == pytest.approx([0.8] * 10, abs=1e-9)
    assert turns.row[1:].tolist() == turns.stop[:-1].tolist()
    assert (turns.request[1:] == turns.row[1:]).all()


def test_turns_of_several_flows() -> None:
    """Turns are numbered flow by flow, and a flow's silence is its own."""
    one, other = Talk(), Talk(sport=50001)
    for talk, begin in ((one, 0.0), (other, 0.3)):
        for i in range(3):
            talk.up(begin + 10 * i, 700)
            talk.stream(begin + 10 * i + 1, 5)
    batch = assemble(sorted(one.packets + other.packets))
    turns = find_turns(batch, find_data(batch))
    assert turns.flow.tolist() == [0, 0, 0, 1, 1, 1]
    assert turns.number.tolist() == [0, 1, 2, 0, 1, 2]
    assert turns.request_bytes.tolist() == [700] * 6


def test_telemetry_while_the_reply_streams_does_not_cut() -> None:
    """Uploads without a silence of the server around them begin no turn."""
    talk = Talk()
    talk.up(0, 1000)
    for i in range(40):
        talk.down(1 + i * 0.1, 120)
        if i % 5 == 2:
            talk.up(1 + i * 0.1 + 0.05, 900)
    turns = talk.turns()
    assert len(turns) == 1
    assert turns.request_bytes.tolist() == [1000]


@pytest.mark.parametrize(("silence", "count"), [(0.499, 1), (0.5, 2)])
def test_silence_around_a_request(silence: float, count: int) -> None:
    """A request needs half a second of downlink silence around it."""
    talk = Talk()
    talk.up(0, 1000)
    talk.down(1, 100)
    talk.up(1.1, 1000)
    talk.down(1 + silence, 100)
    assert len(talk.turns()) == count


@pytest.mark.parametrize(("size", "count"), [(REQUEST_BYTES - 1, 1), (REQUEST_BYTES, 2)])
def test_small_uploads_are_no_request(size: int, count: int) -> None:
    """PING and WINDOW_UPDATE frames begin no turn, however long the silence."""
    talk = Talk()
    talk.up(0, 1000)
    talk.stream(1, 5)
    talk.up(10, size)
    talk.stream(20, 5)
    assert len(talk.turns()) == count


def test_request_in_several_packets_counts_as_one_burst() -> None:
    """Small packets of one burst together make a request."""
    talk = Talk()
    talk.up(0, 1000)
    talk.stream(1, 5)
    for i in range(4):
        talk.up(10 + 0.2 * i, REQUEST_BYTES // 4)
    talk.stream(12, 5)
    turns = talk.turns()
    assert turns.request_bytes.tolist() == [1000, REQUEST_BYTES]
    assert times(talk, turns.request.tolist()) == [0, 10]


def test_last_burst_in_a_silence_is_the_request() -> None:
    """Of several uploads in one silence of the server the last is what it answers."""
    talk = Talk()
    talk.up(0, 1000)
    talk.stream(1, 5)
    talk.up(10, 3000)
    talk.up(15, 4000)
    talk.up(20, 500)
    talk.stream(21, 5)
    turns = talk.turns()
    assert len(turns) == 2
    assert times(talk, turns.request.tolist()) == [0, 20]
    assert turns.request_bytes.tolist() == [1000, 500]
    assert turns.wait.tolist() == [1, 1]


def test_retransmitted_request_is_no_second_one() -> None:
    """A request that is sent again carries no new data and begins no turn."""
    talk = Talk()
    talk.up(0, 1000, seq=1000)
    talk.stream(1, 5)
    talk.up(10, 1000, seq=1000)
    talk.stream(20, 5)
    assert len(talk.turns()) == 1


def test_request_without_a_reply_is_no_turn() -> None:
    """Uploads that the server never answers with data belong to no turn of their own."""
    talk = Talk()
    talk.up(0, 1000)
    talk.stream(1, 5)
    talk.up(10, 1000)
    talk.down(10.1)
    turns = talk.turns()
    assert len(turns) == 1
    assert turns.stop.tolist() == [len(talk.packets)]


def test_flow_without_downlink_data_has_no_turns() -> None:
    """Nothing the server sent, nothing to judge."""
    talk = Talk()
    talk.handshake()
    talk.up(1, 1000)
    assert len(talk.turns()) == 0


def secured(*, think: float = 2.0) -> Talk:
    """A TLS handshake, then a request and its reply."""
    talk = Talk()
    talk.handshake()
    talk.up(0.1, 517, hint=HINT_CLIENT_HELLO)
    talk.down(0.15, 3000, hint=HINT_SERVER_HELLO)
    talk.up(0.17, 80)
    talk.up(0.171, 1500)
    talk.down(0.2, 300)  # session tickets
    talk.up(0.25, 2500)
    talk.stream(0.25 + think, 20)
    return talk


def test_tls_handshake_is_the_front_of_the_first_turn() -> None:
    """The handshake is no turn of its own, and the request behind it is the request."""
    talk = secured()
    turns = talk.turns()
    assert len(turns) == 1
    assert (turns.row[0], turns.stop[0]) == (0, len(talk.packets))
    assert times(talk, turns.request.tolist()) == [0.25]


def test_request_behind_a_tls_handshake_is_measured() -> None:
    """The first turn of a TLS connection has its request bytes and its wait like any other."""
    turns = secured().turns()
    assert turns.request_bytes.tolist() == [2500]
    assert turns.wait.tolist() == pytest.approx([2.0], abs=1e-9)


def test_turns_behind_a_tls_handshake_count_from_zero() -> None:
    """The handshake does not shift the numbers of the turns."""
    talk = secured()
    talk.up(20, 900)
    talk.stream(21, 5)
    turns = talk.turns()
    assert turns.number.tolist() == [0, 1]
    assert turns.request_bytes.tolist()[1] == 900


def test_handshake_alone_is_the_request() -> None:
    """Where nothing but the handshake asks, the flow still is one turn."""
    talk = Talk()
    talk.handshake()
    talk.up(0.1, 517, hint=HINT_CLIENT_HELLO)
    talk.stream(0.15, 5)
    turns = talk.turns()
    assert len(turns) == 1
    assert turns.request_bytes.tolist() == [517]


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_handshake_in_the_middle_of_a_flow_begins_a_turn(protocol: int) -> None:
    """A handshake after a turn (behind a proxy's answer, a new QUIC connection) ends that turn."""
    talk = Talk(protocol=protocol)
    talk.up(0, 400)
    talk.down(1, 100)
    talk.up(10, 1200, hint=HINT_CLIENT_HELLO if protocol == TCP else HINT_QUIC_LONG)
    talk.down(10.7, 3000)
    talk.up(11, 1500)
    talk.stream(13, 10)
    turns = talk.turns()
    assert len(turns) == 2
    assert turns.number.tolist() == [0, 1]
    assert times(talk, turns.row.tolist()) == [0, 10]
    assert times(talk, turns.request.tolist()) == [0, 11]
    assert turns.request_bytes.tolist()[0] == 400


def test_one_way_capture_is_cut_at_silences() -> None:
    """Without any uplink packet the silences of the server are all there is to cut at."""
    talk = Talk()
    begin = 0.0
    for _ in range(3):
        begin = talk.stream(begin, 20) + 2.001
    turns = talk.turns()
    assert turns.number.tolist() == [0, 1, 2]
    assert all(math.isnan(x) for x in [*turns.request_bytes, *turns.wait])
    assert turns.request.tolist() == turns.row.tolist() == [0, 20, 40]


def test_one_way_capture_is_not_cut_at_short_silences() -> None:
    """Two seconds of silence are still within a reply."""
    talk = Talk()
    talk.stream(talk.stream(0, 20) + 2.0, 20)
    assert len(talk.turns()) == 1


def test_one_uplink_packet_makes_a_flow_two_way() -> None:
    """Where the client is seen at all, silences alone cut nothing."""
    talk = Talk()
    end = talk.stream(0, 20)
    talk.up(end + 0.1)
    talk.stream(end + 10, 20)
    assert len(talk.turns()) == 1


def test_start_in_mid_stream_has_no_request() -> None:
    """A reply whose request was not captured has neither request bytes nor a wait."""
    talk = Talk()
    talk.up(0)
    talk.stream(0.1, 30)
    talk.up(20, 1000)
    talk.stream(21, 30)
    turns = talk.turns()
    assert turns.number.tolist() == [0, 1]
    assert turns.request.tolist()[0] == turns.row.tolist()[0] == 0
    assert math.isnan(turns.request_bytes[0])
    assert math.isnan(turns.wait[0])
    assert (turns.request_bytes[1], turns.wait[1]) == (1000, 1)


def test_quic_turns() -> None:
    """Over QUIC small packets up and down cut nothing; requests do."""
    talk = Talk(protocol=UDP)
    at = 0.0
    for _ in range(3):
        talk.up(at, 1200)
        talk.up(at + 0.01, 800)
        for i in range(20):
            talk.down(at + 1 + i * 0.05, 90)
            talk.up(at + 1 + i * 0.05 + 0.02, 33)
        talk.down(at + 10, 30)
        at += 20
    turns = talk.turns()
    assert turns.request_bytes.tolist() == [2000] * 3
    assert turns.wait.tolist() == pytest.approx([0.99] * 3, abs=1e-9)


def test_no_flows_no_turns() -> None:
    """An empty batch has no data and no turns."""
    talk = Talk()
    talk.up(0, 10)
    full = talk.batch()
    empty = FlowBatch(full.flows.take(slice(0, 0)), full.packets.take(slice(0, 0)))
    data = find_data(empty)
    assert len(data.new) == 0
    assert len(find_turns(empty, data)) == 0
