from __future__ import annotations

import asyncio

import pytest

from llmflow.lab.pace import pace, until
from llmflow.lab.script import Write


class Clock:
    """A clock that goes on only where somebody waits or works."""

    def __init__(self, oversleeps: float = 0.0) -> None:
        self.now, self._oversleeps = 100.0, oversleeps

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds + self._oversleeps


def play(clock: Clock, due: list[float], work: float = 0.0) -> tuple[list[float], list[bytes]]:
    written: list[bytes] = []
    sent: list[float] = []

    async def write(data: bytes) -> None:
        clock.now += work
        written.append(data)

    writes = [Write(at, bytes([index])) for index, at in enumerate(due)]
    asyncio.run(pace(writes, 100.0, write, sent, clock, clock.sleep))
    return sent, written


def test_writes_leave_at_their_deadlines_in_order() -> None:
    sent, written = play(Clock(), [0.0, 0.25, 0.25, 1.5])
    assert sent == [100.0, 100.25, 100.25, 101.5]
    assert written == [b"\0", b"\1", b"\2", b"\3"]


def test_lateness_does_not_add_up() -> None:
    sent, _ = play(Clock(oversleeps=0.01), [0.1 * turn for turn in range(1, 50)])
    assert max(at - 100 - 0.1 * turn for turn, at in enumerate(sent, 1)) == pytest.approx(0.01)


def test_a_slow_write_delays_what_is_due_meanwhile_and_nothing_after() -> None:
    sent, _ = play(Clock(), [0.0, 0.1, 0.2, 2.0], work=0.5)
    assert sent == pytest.approx([100.0, 100.5, 101.0, 102.0])


def test_what_was_sent_is_known_after_a_cut() -> None:
    clock, sent = Clock(), list[float]()

    async def write(data: bytes) -> None:
        if data == b"b":
            raise ConnectionResetError

    writes = [Write(0, b"a"), Write(1, b"b"), Write(2, b"c")]
    with pytest.raises(ConnectionResetError):
        asyncio.run(pace(writes, 100.0, write, sent, clock, clock.sleep))
    assert sent == [100.0, 101.0]


def test_waiting_for_the_past_takes_no_time() -> None:
    clock = Clock()
    asyncio.run(until(99.0, clock, clock.sleep))
    assert clock.now == 100.0
