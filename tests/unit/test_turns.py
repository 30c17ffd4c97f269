"""Turns: where a request begins a new reply."""

from __future__ import annotations

import math

import pytest

from llmflow.capture.columns import (
    HINT_CLIENT_HELLO,
    HINT_QUIC_LONG,
    HINT_SERVER_HELLO,
    TCP,
    UDP,
)
from llmflow.flows.batch import FlowBatch
from llmflow.flows.data import find_data
from llmflow.flows.requests import REQUEST_BYTES
from llmflow.flows.turns import find_turns
from tests.builders import assemble
from tests.unit.talks import Talk, times


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
