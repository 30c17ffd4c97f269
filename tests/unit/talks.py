"""Flows written down packet by packet, for the tests of data, turns and episodes."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmflow.capture.columns import ACK, SYN, TCP
from llmflow.flows.batch import FlowBatch
from llmflow.flows.data import Data, find_data
from llmflow.flows.turns import Turns, find_turns
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
