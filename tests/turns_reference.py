"""Slow, obvious reference of turns and episodes: docs/definitions.md, packet by packet.

Nothing here shares code with the package but the numbers that the definitions name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from llmflow.capture.columns import HINT_CLIENT_HELLO, HINT_QUIC_LONG, UDP
from llmflow.flows.batch import FlowBatch
from llmflow.flows.data import Data

MS = 1_000_000
TurnRow = tuple[int, int, int, int, int, int, int, float, float]
EpisodeRow = tuple[int, int, int, int, int, int, int, int, int, int]


@dataclass(frozen=True)
class Seen:
    """One packet: its row in the batch, and what it carries."""

    row: int
    time: int
    up: bool
    new: int
    hello: bool
    quic: bool
    answers: bool = False  # carries data to the client that is no control frame

    @property
    def sends(self) -> bool:
        """Carries data to the client, be it a control frame."""
        return not self.up and self.new > 0


@dataclass
class Burst:
    """An uplink burst; ``before`` and ``answer`` are the server's data around it."""

    packets: list[Seen]
    before: Seen | None
    answer: Seen | None = None
    request: bool = False
    front: bool = False

    @property
    def first(self) -> Seen:
        """The first packet that is no control frame, if there is one."""
        return next((packet for packet in self.packets if packet.new >= 100), self.packets[0])

    @property
    def begin(self) -> int:
        return self.first.time

    @property
    def end(self) -> int:
        return self.packets[-1].time

    @property
    def hello(self) -> bool:
        return self.first.hello

    @property
    def silence(self) -> float:
        """Of the server around the burst."""
        assert self.answer is not None
        return self.answer.time - self.before.time if self.before else math.inf

    @property
    def size(self) -> int:
        return sum(packet.new for packet in self.packets)

    @property
    def plain(self) -> int:
        return sum(packet.new for packet in self.packets if not packet.hello)


def packets_of(batch: FlowBatch, data: Data) -> Iterator[list[Seen]]:
    """The packets of each flow."""
    p = batch.packets
    hello = (p.hint & (HINT_CLIENT_HELLO | HINT_QUIC_LONG) != 0).tolist()
    udp = (p.protocol == UDP).tolist()
    table = list(zip(p.time.tolist(), p.up.tolist(), data.new.tolist(), hello, udp, strict=True))
    for first, count in zip(batch.flows.first.tolist(), batch.flows.packets.tolist(), strict=True):
        latest: Seen | None = None
        flow = []
        for row in range(first, first + count):
            packet = Seen(row, *table[row])
            if packet.sends:
                soon = latest is not None and packet.time - latest.time <= 500 * MS
                control = packet.new <= 40 and latest is not None and latest.new >= 100 and soon
                packet = replace(packet, answers=not control)
            elif packet.new:
                latest = packet
            flow.append(packet)
        yield flow


def bursts_of(flow: list[Seen]) -> list[Burst]:
    """The answered bursts of at least 200 bytes."""
    bursts: list[Burst] = []
    waiting: list[Burst] = []  # for their answer
    before: Seen | None = None
    for packet in flow:
        if packet.up and packet.new:
            if waiting and packet.time - waiting[-1].end <= 1000 * MS:
                waiting[-1].packets.append(packet)
            else:
                waiting.append(Burst([packet], before))
        elif packet.answers:
            for burst in waiting:
                burst.answer = packet
            bursts += waiting
            waiting, before = [], packet
    return [burst for burst in bursts if burst.size >= 200]


def takes_turns(bursts: list[Burst]) -> bool:
    """The server rests around each burst, those right behind a handshake aside."""
    hello: Burst | None = None
    for burst in bursts:
        if burst.hello:
            hello = burst
        opening = hello is not None and burst.begin - hello.begin <= 2000 * MS
        if burst.silence < 300 * MS and not opening:
            return False
    return True


def in_silence(burst: Burst, bursts: list[Burst], flow: list[Seen]) -> bool:
    """The server was silent for long, or has heard the burst and thinks."""
    assert burst.answer is not None
    if burst.silence > 2000 * MS:
        return True
    heard = [
        packet.time
        for packet in flow
        if burst.first.row < packet.row < burst.answer.row and not packet.up
    ]
    if heard and heard[-1] > burst.end:
        least = 100 if takes_turns(bursts) else 300
        return burst.answer.time - heard[-1] >= least * MS
    return burst.answer.time - burst.end >= 400 * MS


def before_silence(burst: Burst, following: Burst | None, flow: list[Seen]) -> bool:
    """The server sends a notice, is then silent for long, like the client, and sends more."""
    assert burst.answer is not None
    runs: list[list[Seen]] = []  # the server's data from the answer on, cut at long silences
    for packet in flow:
        if packet.answers and packet.row >= burst.answer.row:
            if not runs or packet.time - runs[-1][-1].time > 2000 * MS:
                runs.append([])
            runs[-1].append(packet)
    if len(runs) < 2:
        return False
    notice, more = runs[:2]
    unasked = following is None or following.first.row > more[0].row
    soon = notice[-1].time - burst.end <= 500 * MS
    return soon and len(notice) <= 8 and len(more) > 8 and unasked


def requests_of(flow: list[Seen]) -> list[Burst]:
    """The bursts that are requests, or the front of one."""
    bursts = bursts_of(flow)
    for i, burst in enumerate(bursts):
        following = bursts[i + 1] if i + 1 < len(bursts) else None
        burst.request = in_silence(burst, bursts, flow) or before_silence(burst, following, flow)
    known = [burst.request for burst in bursts]
    for i, burst in enumerate(bursts):  # a handshake, and the first that asks behind it
        if not (known[i] and burst.hello):
            continue
        until = next((j for j in range(i + 1, len(bursts)) if known[j]), len(bursts))
        for quick in bursts[i + 1 : until]:
            if quick.plain >= 200 and quick.answer is not burst.answer:
                preface = until < len(bursts) and bursts[until].begin - quick.begin <= 1000 * MS
                quick.request = not preface
                break
    requests = [burst for burst in bursts if burst.request]
    requests = [  # of several in one silence the last
        burst
        for i, burst in enumerate(requests)
        if burst.answer not in [later.answer for later in requests[i + 1 : i + 2]]
    ]
    for burst, later in pairwise(requests):
        assert later.before is not None
        carries = burst.first.quic and burst.plain >= 200
        soon = later.before.time - burst.begin <= 2000 * MS
        burst.front = burst.hello and not carries and soon
    return requests


@dataclass
class Turn:
    """The packets of a turn."""

    packets: list[Seen]
    request: Burst | None = None


def cut_flow(flow: list[Seen]) -> list[Turn]:
    """Cut a flow where requests begin; without any uplink packet, at silences."""
    turns = [Turn([])]
    if not any(packet.up for packet in flow):
        latest: Seen | None = None
        for packet in flow:
            if packet.sends:
                if latest and packet.time - latest.time > 2000 * MS:
                    turns.append(Turn([]))
                latest = packet
            turns[-1].packets.append(packet)
        return turns
    requests = {burst.first.row: burst for burst in requests_of(flow)}
    begun = fronted = False
    for packet in flow:
        burst = requests.get(packet.row)
        if burst is not None:
            if begun and not fronted:
                turns.append(Turn([]))
            fronted = burst.front
            if not burst.front:
                turns[-1].request = burst
        begun |= packet.new > 0
        turns[-1].packets.append(packet)
    return turns


def measure(turn: Turn, flow: list[Seen]) -> TurnRow | None:
    """The turn's columns but flow and number; None where the server sent no data."""
    sent = [packet for packet in turn.packets if packet.sends]
    if not sent:
        return None
    row, stop = turn.packets[0].row, turn.packets[-1].row + 1
    if turn.request is None:
        return 0, 0, row, stop, row, sent[0].row, sent[-1].row, math.nan, math.nan
    answer = turn.request.answer
    assert answer is not None
    first = turn.request.first.row
    asked = [packet for packet in flow if first <= packet.row < answer.row and packet.up]
    asked = [packet for packet in asked if packet.new]
    size, wait = sum(packet.new for packet in asked), answer.time - asked[-1].time
    return 0, 0, row, stop, first, answer.row, sent[-1].row, float(size), wait / 10**9


def reference_turns(batch: FlowBatch, data: Data) -> list[TurnRow]:
    """The columns of the turns of all flows, row by row."""
    rows: list[TurnRow] = []
    for number, flow in enumerate(packets_of(batch, data)):
        measured = [measure(turn, flow) for turn in cut_flow(flow)]
        kept = [row for row in measured if row is not None]
        rows += [(number, i, *row[2:]) for i, row in enumerate(kept)]
    return rows


@dataclass
class Episode:
    """Downlink data packets without a silence of more than 2 s."""

    packets: list[Seen] = field(default_factory=list)

    def row(self, turn: int) -> EpisodeRow:
        """The episode's columns."""
        times = [packet.time for packet in self.packets]
        sizes = [packet.new for packet in self.packets]
        pairs = pairwise(self.packets)
        chunks = [self.packets[0], *(b for a, b in pairs if b.time - a.time > 5 * MS)]
        runs = [[chunks[0]]]
        for a, b in pairwise(chunks):
            if b.time - a.time > 700 * MS:
                runs.append([])
            runs[-1].append(b)
        steady = max(runs, key=lambda run: run[-1].time - run[0].time)
        total, full = sum(sizes), sum(size for size in sizes if size >= 1200)
        fast = total * 10**9 > 10**5 * (times[-1] - times[0])
        if len(chunks) <= 3 and max(sizes) < 200:
            kind = 3
        elif len(sizes) >= 8 and 2 * full >= total and fast:
            kind = 2
        elif len(steady) >= 8 and steady[-1].time - steady[0].time >= 1000 * MS:
            kind = 1
        else:
            kind = 0
        return (
            *(turn, self.packets[0].row, self.packets[-1].row),
            *(len(sizes), len(chunks), total),
            *(steady[0].row, steady[-1].row, len(steady), kind),
        )


def reference_episodes(batch: FlowBatch, data: Data) -> list[EpisodeRow]:
    """The columns of the episodes of all turns, row by row."""
    sent = {packet.row: packet for flow in packets_of(batch, data) for packet in flow}
    rows: list[EpisodeRow] = []
    for number, (*_, reply, last, _, _) in enumerate(reference_turns(batch, data)):
        packets = [sent[row] for row in range(reply, last + 1) if sent[row].sends]
        episodes = [Episode([packets[0]])]
        for a, b in pairwise(packets):
            if b.time - a.time > 2000 * MS:
                episodes.append(Episode())
            episodes[-1].packets.append(b)
        rows += [episode.row(number) for episode in episodes]
    return rows
