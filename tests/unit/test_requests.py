"""Requests among what else clients send: telemetry, control frames, handshakes, fast loops."""

from __future__ import annotations

import pytest

from llmflow.capture.columns import HINT_CLIENT_HELLO, HINT_QUIC_LONG, HINT_SERVER_HELLO, TCP, UDP
from tests.unit.talks import Talk, times

RTT = 0.06


def upload(talk: Talk, at: float, count: int = 12) -> float:
    """Full packets with their acknowledgements; gives the time of the last packet."""
    for i in range(count):
        talk.up(at + i * 0.002, 1400)
        talk.down(at + i * 0.002 + RTT)
    talk.packets.sort()
    return at + (count - 1) * 0.002


def asks(talk: Talk) -> list[float]:
    """When the requests of the turns begin, seconds."""
    return times(talk, talk.turns().request.tolist())


# Telemetry


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


@pytest.mark.parametrize("pause", [0.6, 1.0, 1.9])
@pytest.mark.parametrize("rtt", [0.01, 0.1, 0.3])
def test_telemetry_in_a_pause_of_the_stream_does_not_cut(pause: float, rtt: float) -> None:
    """It is acknowledged and answered at once, however long the way to the server."""
    talk = Talk()
    talk.up(0, 1000)
    end = talk.stream(1, 30)
    talk.up(end + pause - rtt - 0.02, 6000)
    talk.down(end + pause - 0.02)
    talk.stream(end + pause, 30)
    assert asks(talk) == [0]


def test_a_burst_of_telemetry_per_token_does_not_cut() -> None:
    """Full packets up while tokens come down: more goes up than down."""
    talk = Talk()
    talk.up(0, 1000)
    end = talk.stream(1, 50, gap=0.2)
    for i in range(10):
        upload(talk, 1.05 + i)
    turns = talk.turns()
    assert len(turns) == 1
    assert times(talk, turns.reply_last.tolist()) == pytest.approx([end])


@pytest.mark.parametrize(("pause", "count"), [(0.299, 1), (0.3, 2)])
def test_a_request_waits_behind_its_acknowledgement(pause: float, count: int) -> None:
    """From the server's last packet to its answer it takes 0.3 s."""
    talk = Talk()
    talk.up(0, 1000)
    talk.stream(1, 3)
    talk.up(1.02, 1000)
    talk.up(1.2, 1000)
    talk.down(1.26)
    talk.down(1.26 + pause, 100)
    assert len(talk.turns()) == count


@pytest.mark.parametrize(("pause", "count"), [(0.099, 1), (0.1, 2)])
def test_where_nothing_is_uploaded_beside_streams_it_waits_less(pause: float, count: int) -> None:
    """The server rests around each burst, so that none can be telemetry inside of a stream."""
    talk = Talk()
    talk.up(0, 1000)
    talk.stream(1, 3)
    talk.up(1.4, 1000)
    talk.down(1.46)
    talk.down(1.46 + pause, 100)
    assert len(talk.turns()) == count


def test_control_frames_in_front_of_a_request_do_not_begin_it() -> None:
    """What a client sends just before, below 100 bytes, asks for nothing."""
    talk = Talk()
    talk.up(0, 31)
    talk.up(0.5, 1000)
    talk.stream(1, 20)
    assert asks(talk) == [0.5]


def test_a_request_in_the_datagrams_that_end_a_quic_handshake() -> None:
    """It is no front, though another request follows behind a short reply."""
    talk = Talk(protocol=UDP)
    talk.up(0, 1200, hint=HINT_QUIC_LONG)
    talk.down(0.03, 1200, hint=HINT_QUIC_LONG)
    talk.up(0.06, 1200, hint=HINT_QUIC_LONG)
    talk.up(0.061, 900)
    talk.down(0.09, 230)
    end = talk.stream(0.3, 20)
    talk.up(end + 2, 900)
    talk.stream(end + 3, 20)
    assert asks(talk) == pytest.approx([0.06, end + 2])


@pytest.mark.parametrize(("wait", "count"), [(0.399, 1), (0.4, 2)])
def test_a_request_without_acknowledgement_waits_longer(wait: float, count: int) -> None:
    """Where the server's acknowledgement was not seen, the round trip may be part of the wait."""
    talk = Talk()
    talk.up(0, 1000)
    talk.stream(1, 3)
    talk.up(1.2, 1000)
    talk.down(1.2 + wait, 100)
    assert len(talk.turns()) == count


@pytest.mark.parametrize(("silence", "count"), [(2.0, 1), (2.001, 2)])
def test_in_a_long_silence_a_request_may_be_answered_at_once(silence: float, count: int) -> None:
    """Nothing streams any more behind a silence of two seconds."""
    talk = Talk()
    talk.up(0, 1000)
    talk.down(1, 100)
    talk.up(1 + silence - 0.05, 1000)
    talk.down(1 + silence, 100)
    assert len(talk.turns()) == count


# Notices


def noticed(*, silence: float = 2.5, packets: int = 3, asked: bool = False) -> Talk:
    """A second request behind the first reply, acknowledged with data at once."""
    talk = Talk()
    talk.up(0, 1000)
    end = talk.stream(1, 20)
    talk.up(end + 0.3, 5000)
    for i in range(packets):
        talk.down(end + 0.4 + i * 0.01, 400)
    if asked:
        talk.up(end + 1.4, 5000)
    talk.stream(end + 0.4 + (packets - 1) * 0.01 + silence, 20)
    return talk


def test_a_request_may_be_noticed_at_once() -> None:
    """Response headers, a long silence, then the reply: the request is in front of the headers."""
    assert asks(noticed()) == pytest.approx([0, 2.25])


def test_a_short_silence_behind_a_notice_proves_nothing() -> None:
    """Telemetry, its answer, and the stream goes on."""
    assert asks(noticed(silence=2.0)) == [0]


@pytest.mark.parametrize(("packets", "count"), [(8, 2), (9, 1)])
def test_a_notice_is_short(packets: int, count: int) -> None:
    """What goes on for longer is the reply itself."""
    assert len(noticed(packets=packets).turns()) == count


@pytest.mark.parametrize(("packets", "count"), [(1, 1), (8, 1), (9, 2)])
def test_behind_a_notice_comes_a_reply(packets: int, count: int) -> None:
    """Telemetry at the end of a reply, its answer, and later a heartbeat: no request."""
    talk = noticed(packets=2)
    talk.packets = talk.packets[:-20]
    talk.stream(20, packets)
    assert len(talk.turns()) == count


def test_a_request_in_the_silence_takes_precedence() -> None:
    """Telemetry with its answer, then a request in the silence."""
    assert asks(noticed(asked=True)) == pytest.approx([0, 3.35])


# Control frames


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_control_frames_do_not_end_a_silence(protocol: int) -> None:
    """WINDOW_UPDATE during an upload is no answer, and the request is counted as a whole."""
    talk = Talk(protocol=protocol)
    talk.up(0, 1000)
    end = talk.stream(1, 20)
    for i in range(10):
        talk.up(end + 0.2 + i * 0.01, 1400)
        talk.down(end + 0.205 + i * 0.01, 40)
    talk.stream(end + 1, 20)
    turns = talk.turns()
    assert times(talk, turns.request.tolist()) == pytest.approx([0, end + 0.2])
    assert times(talk, turns.reply.tolist()) == pytest.approx([1, end + 1])
    assert turns.request_bytes.tolist() == [1000, 14000]


def test_what_is_typed_is_answered_by_its_echo() -> None:
    """Small packets down behind small packets up are data, no control frames."""
    talk = Talk()
    for i in range(60):
        talk.up(0.2 * i, 36)
        talk.down(0.2 * i + 0.03, 36)
    turns = talk.turns()
    assert len(turns) == 1
    assert times(talk, turns.reply.tolist()) == pytest.approx([0.03])


def test_small_tokens_are_no_control_frames() -> None:
    """Tokens of a few bytes, half a second behind the request."""
    talk = Talk()
    talk.up(0, 1000)
    talk.stream(0.6, 40, size=12)
    talk.up(20, 1000)
    talk.stream(20.6, 40, size=12)
    turns = talk.turns()
    assert times(talk, turns.request.tolist()) == [0, 20]
    assert times(talk, turns.reply.tolist()) == pytest.approx([0.6, 20.6])


def test_heartbeats_during_long_thinking_do_not_cut() -> None:
    """Small frames every 15 s without a request belong to the reply that is waited for."""
    talk = Talk()
    talk.up(0, 1000)
    talk.down(0.1, 500)
    for i in range(1, 6):
        talk.down(15.0 * i, 76)
        talk.up(15.0 * i + 0.02, 35)
    talk.stream(90, 40)
    assert asks(talk) == [0]


# Fast loops


@pytest.mark.parametrize("think", [0.0, 0.05, 0.2])
def test_fast_agent_loops(think: float) -> None:
    """A program asks again at once; the model needs a moment for each reply."""
    talk = Talk()
    at, expected = 0.0, []
    for _ in range(10):
        expected.append(at)
        end = upload(talk, at)
        at = talk.stream(end + RTT + 0.35, 6) + 0.01 + think
    talk.packets.sort()
    assert asks(talk) == pytest.approx(expected)


def test_two_replies_at_once_are_one_turn() -> None:
    """A second request while the first reply streams cannot be told from telemetry."""
    talk = Talk()
    talk.up(0, 1000)
    talk.stream(1, 60, gap=0.1)
    talk.up(2.03, 2000)
    talk.stream(3.55, 60, gap=0.1)
    talk.packets.sort()
    turns = talk.turns()
    assert len(turns) == 1
    assert times(talk, turns.reply_last.tolist()) == pytest.approx([9.45])


# The first request


def opened(protocol: int = TCP, *, thought: float = 0.1) -> Talk:
    """A handshake, the request 30 ms behind it, a reply of 2 s, and another turn."""
    talk = Talk(protocol=protocol)
    hello = HINT_CLIENT_HELLO if protocol == TCP else HINT_QUIC_LONG
    talk.up(0.0, 1200, hint=hello)
    talk.up(0.001, 600, hint=0 if protocol == TCP else hello)
    talk.down(0.03, 1300, hint=HINT_SERVER_HELLO if protocol == TCP else HINT_QUIC_LONG)
    talk.down(0.031, 1300)
    talk.up(0.033, 80, hint=hello if protocol == UDP else 0)
    talk.up(0.034, 1500)
    talk.stream(0.064 + thought, 40)
    talk.up(20, 900)
    talk.stream(21, 20)
    return talk


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_quick_request_behind_a_handshake(protocol: int) -> None:
    """It begins the first reply, without any silence; the handshake is the front of its turn."""
    talk = opened(protocol)
    turns = talk.turns()
    assert times(talk, turns.row.tolist()) == [0, 20]
    assert times(talk, turns.request.tolist()) == pytest.approx([0.034, 20])
    assert times(talk, turns.reply.tolist()) == pytest.approx([0.164, 21])
    assert turns.request_bytes.tolist() == [1500, 900]
    assert turns.wait[0] == pytest.approx(0.13)


def test_settings_in_front_of_a_request_are_none() -> None:
    """Of two bursts within a second behind a handshake the one that waits is the request."""
    talk = Talk()
    talk.up(0.0, 500, hint=HINT_CLIENT_HELLO)
    talk.down(0.03, 3000)
    talk.up(0.035, 300)
    talk.down(0.065, 150)
    talk.up(0.1, 2000)
    talk.stream(1, 20)
    assert asks(talk) == pytest.approx([0.1])


def test_a_reply_in_front_of_the_second_request_is_no_handshake() -> None:
    """Where the first request hides in the handshake's packets its reply is a turn of its own."""
    talk = Talk(protocol=UDP)
    talk.up(0.0, 1200, hint=HINT_QUIC_LONG)
    talk.down(0.03, 1200)
    talk.up(0.033, 1200, hint=HINT_QUIC_LONG)
    talk.stream(0.2, 60, gap=0.1)
    talk.up(20, 900)
    talk.stream(21, 20)
    assert asks(talk) == [0, 20]


def test_an_idle_connection_is_opened_once() -> None:
    """A handshake long before the first request is still its front."""
    talk = Talk()
    talk.up(0.0, 500, hint=HINT_CLIENT_HELLO)
    talk.down(0.03, 3000)
    talk.up(0.035, 80)
    talk.down(0.065, 300)
    talk.up(40, 1500)
    talk.stream(40.2, 20)
    turns = talk.turns()
    assert turns.row.tolist() == [0]
    assert times(talk, turns.request.tolist()) == [40]
