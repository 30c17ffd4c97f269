"""The way between two ends: one link each way, and a tap that sees what passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from llmflow.lab.net.impairment import Link
from llmflow.lab.virtual.clock import Clock
from llmflow.lab.virtual.pcapng import HEADERS

Tap = Literal["client", "server"]


class Seen(NamedTuple):
    """A datagram that passed the tap, ``time`` in ns since 1970."""

    time: int
    up: bool
    data: bytes


class Wire:
    """Carries datagrams both ways.

    Parameters
    ----------
    clock : Clock
    up, down : Link
        From client to server, and back.
    tap : {"client", "server"}
        At which end packets are seen: before or behind what the links do to them.

    Attributes
    ----------
    seen : list of Seen
        What passed the tap, in order of sending.
    """

    def __init__(self, clock: Clock, up: Link, down: Link, tap: Tap) -> None:
        self.seen: list[Seen] = []
        self.clock = clock
        self._links, self._tap = (down, up), tap

    def send(self, deliver: Callable[[bytes], None], data: bytes, *, up: bool) -> None:
        """Take a datagram, and give it to ``deliver`` when it comes out, if it does."""
        clock = self.clock
        releases = self._links[up].offer(clock.now, HEADERS + len(data))
        for release in releases:
            clock.at(release, partial(deliver, data))
        at_source = (self._tap == "client") == up
        times = (clock.now,) if at_source else releases
        self.seen += (Seen(time, up, data) for time in times)
