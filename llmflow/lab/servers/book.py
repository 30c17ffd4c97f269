"""What a server has to say, and what it remembers of having said it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from llmflow.lab.kinds import script
from llmflow.lab.plan import read_plan
from llmflow.lab.records import append_records
from llmflow.lab.script import Exchange, Session

_READY_BYTES = 1 << 28  # of scripts made before they are needed


@dataclass(slots=True)
class Played:
    """One exchange as a server plays it."""

    number: int
    index: int
    peer: tuple[str, int]
    exchange: Exchange
    start: float = 0.0
    sent: list[float] = field(default_factory=list)

    def record(self) -> dict[str, object]:
        """Give the ``server`` record: what was written, when it was due, when it went."""
        done = self.exchange.down[: len(self.sent)]
        return {
            "record": "server",
            "number": self.number,
            "exchange": self.index,
            "client_ip": self.peer[0],
            "client_port": self.peer[1],
            "due": [round(self.start + write.due, 6) for write in done],
            "sent": [round(moment, 6) for moment in self.sent],
            "size": [len(write.data) for write in done],
        }


class Book:
    """Scripts of the sessions that one server software plays, and the log of what was played.

    Parameters
    ----------
    plan : Path
        Plan file.
    software : str
        Only sessions of this front are known.
    """

    def __init__(self, plan: Path, software: str) -> None:
        found = sorted(read_plan(plan), key=lambda session: session.start)
        self._sessions = {item.number: item for item in found if item.front == software}
        self._scripts: dict[int, tuple[Exchange, ...]] = {}
        self._played: list[Played] = []

    def prepare(self) -> None:
        """Make scripts beforehand, as far as memory is given: it would hold up other sessions."""
        held = 0
        for session in self._sessions.values():
            exchanges = self._scripts[session.number] = script(session)
            held += sum(len(write.data) + 150 for item in exchanges for write in item.down)
            if held > _READY_BYTES:
                break
        # What stays for good needs no collector, and its pauses would be seen as lateness.
        gc.collect()
        gc.freeze()

    def session(self, number: int) -> Session:
        """Find a session by its number; KeyError if it is not of this server."""
        return self._sessions[number]

    def exchanges(self, number: int) -> tuple[Exchange, ...]:
        """Script of a session; KeyError if it is not of this server."""
        found = self._scripts.get(number)
        return script(self._sessions[number]) if found is None else found

    def turns(self, number: int, first: int, peer: tuple[str, int]) -> Iterator[Played]:
        """Exchanges of a connection that names itself once, noted down as they begin."""
        for index, _ in islice(enumerate(self.exchanges(number)), first, None):
            yield self.play(number, index, peer)

    def play(self, number: int, index: int, peer: tuple[str, int]) -> Played:
        """Note that an exchange begins; KeyError or IndexError if there is none."""
        if index < 0:
            raise IndexError(index)
        played = Played(number, index, peer, self.exchanges(number)[index])
        self._played.append(played)
        return played

    def write(self, log: Path) -> None:
        """Append the records to the log."""
        append_records(log, (played.record() for played in self._played))
        self._played.clear()
