"""Episodes: the parts of a reply, and what they are called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmflow.flows.batch import FlowBatch
from llmflow.flows.episodes import Episodes, Kind, find_episodes
from llmflow.flows.turns import find_turns
from tests.unit.talks import Talk, times


def episodes(talk: Talk) -> Episodes:
    """The episodes of a flow."""
    batch, data = talk.batch(), talk.data()
    return find_episodes(batch, data, find_turns(batch, data))


def kinds(talk: Talk) -> list[str]:
    """What they are."""
    return [Kind.NAMES[kind] for kind in episodes(talk).kind]


def asked() -> Talk:
    """A request at 0 s."""
    talk = Talk()
    talk.up(0, 1000)
    return talk


def page(talk: Talk, begin: float, packets: int = 300) -> float:
    """Full packets at line rate, in bursts of ten; gives the time of the last."""
    for i in range(packets):
        at = begin + i // 10 * 0.02 + i % 10 * 0.0001
        talk.down(at, 1400)
    return at


def test_a_reply_without_silence_is_one_episode() -> None:
    """Its packets, chunks and bytes are counted, and its steady run is all of it."""
    talk = asked()
    end = talk.stream(1, 30, gap=0.1)
    talk.down(end + 0.005, 80)
    found = episodes(talk)
    assert found.turn.tolist() == [0]
    assert times(talk, found.row.tolist()) == [1]
    assert times(talk, found.last.tolist()) == pytest.approx([end + 0.005])
    assert (found.packets.tolist(), found.chunks.tolist(), found.size.tolist()) == (
        [31],
        [30],
        [3680],
    )
    assert times(talk, found.steady_row.tolist()) == [1]
    assert times(talk, found.steady_last.tolist()) == pytest.approx([end])
    assert found.steady_chunks.tolist() == [30]
    assert kinds(talk) == ["stream"]


@pytest.mark.parametrize(("silence", "count"), [(2.0, 1), (2.001, 2)])
def test_a_silence_within_a_reply_begins_an_episode(silence: float, count: int) -> None:
    """Thinking between two parts of a reply, without a request: one turn, two episodes."""
    talk = asked()
    talk.stream(talk.stream(1, 30) + silence, 30)
    found = episodes(talk)
    assert found.turn.tolist() == [0] * count


def test_heartbeats_are_control() -> None:
    """Small frames every 15 s are episodes of their own, told from the stream behind them."""
    talk = asked()
    talk.down(0.2, 120)
    for i in range(1, 4):
        talk.down(15.0 * i, 76)
    talk.stream(60, 40)
    assert kinds(talk) == ["control"] * 4 + ["stream"]


def test_pages_and_images_are_bulk() -> None:
    """Full packets at line rate, behind a stream on the same connection."""
    talk = asked()
    end = talk.stream(1, 40)
    end = page(talk, end + 3)
    talk.stream(end + 3, 40)
    assert kinds(talk) == ["stream", "bulk", "stream"]


def test_large_chunks_at_a_trickle_are_a_stream() -> None:
    """Replies that are sent again as they grow come in full packets, too."""
    talk = asked()
    for i in range(60):
        for part in range(1 + i // 15):
            talk.down(1 + i * 0.12 + part * 0.0002, 1400)
    assert kinds(talk) == ["stream"]


def test_very_short_replies_are_short() -> None:
    """Seven chunks, or less than a second."""
    talk = asked()
    talk.stream(1, 7, gap=0.3)
    talk.up(20, 1000)
    talk.stream(21, 19)
    talk.up(40, 1000)
    talk.down(41, 900)
    assert kinds(talk) == ["short"] * 3
    assert len(talk.turns()) == 3


def test_the_steady_run_is_the_longest() -> None:
    """Headers and a pause in front of the tokens, a trailer behind."""
    talk = asked()
    talk.down(1, 500)
    end = talk.stream(2, 20, gap=0.1)
    talk.down(end + 0.701, 300)
    found = episodes(talk)
    assert len(found) == 1
    assert times(talk, found.steady_row.tolist()) == [2]
    assert times(talk, found.steady_last.tolist()) == pytest.approx([end])


def test_the_handshake_is_in_no_episode() -> None:
    """Episodes begin with the reply, not with the turn."""
    talk = Talk()
    talk.handshake()
    talk.up(0.1, 1000)
    talk.down(0.2, 35)  # a control frame in front of the answer
    talk.stream(1, 30)
    assert times(talk, episodes(talk).row.tolist()) == [1]


def test_no_turns_no_episodes() -> None:
    """An empty batch has none."""
    full = asked().batch()
    empty = FlowBatch(full.flows.take(slice(0, 0)), full.packets.take(slice(0, 0)))
    data = asked().data()
    none = type(data)(*(getattr(data, name)[:0] for name in ("new", "up", "down", "ack", "flow")))
    assert len(find_episodes(empty, none, find_turns(empty, none))) == 0


def test_a_huge_download_is_bulk() -> None:
    """More than 9.2 GB, which are more nanoseconds per byte than 64 bits hold."""
    talk = asked()
    end = page(talk, 1)
    batch, data = talk.batch(), talk.data()
    assert end < 3
    large = replace(data, new=np.where(data.down, 1 << 25, data.new))
    found = find_episodes(batch, large, find_turns(batch, large))
    assert found.size.sum() == 300 << 25
    assert [Kind.NAMES[kind] for kind in found.kind] == ["bulk"]
