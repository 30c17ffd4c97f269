"""TCP analysis again, packet by packet and byte by byte: slow, and obvious from the definitions."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from llmflow.capture.columns import ACK, FIN, RST, SYN, TCP
from llmflow.flows.batch import FlowBatch
from tests.reference import Sent, Talk, make_batch

MS = 1_000_000


class Segment(NamedTuple):
    """A TCP packet: time in ns from the start of the capture."""

    ns: int
    up: bool
    seq: int
    payload: int = 0
    ack: int = 0
    flags: int = ACK
    window: int = 500


def tcp_batch(flows: Sequence[Sequence[Segment]], protocol: int = TCP) -> FlowBatch:
    """Flows of given segments, as they leave the flow room."""
    talks = [
        Talk(protocol, [Sent(s.ns, up=s.up, payload=s.payload, flags=s.flags) for s in flow])
        for flow in flows
    ]
    batch = make_batch(talks)
    every = [segment for flow in flows for segment in flow]
    packets = dataclasses.replace(
        batch.packets,
        seq=np.array([s.seq % 2**32 for s in every], np.uint32),
        ack=np.array([s.ack % 2**32 for s in every], np.uint32),
        window=np.array([s.window for s in every], np.uint16),
    )
    return FlowBatch(batch.flows, packets)


def signed(difference: int) -> int:
    """A difference of sequence numbers as a signed 32-bit number."""
    return (difference + 2**31) % 2**32 - 2**31


@dataclasses.dataclass(eq=False)
class Seen:
    """A packet, and what is known about it."""

    packet: Segment
    run: int
    begin: int
    end: int
    before: int
    fill: int  # bytes below `before` that nobody had brought
    previous: Seen | None  # of its direction
    latest: Seen | None  # of the other direction
    first: bool  # of its run
    marks: set[str] = dataclasses.field(default_factory=set)
    delivered: int = 0
    latest_delivered: int = 0

    @property
    def length(self) -> int:
        return self.end - self.begin

    @property
    def low_high(self) -> tuple[int, int]:
        return self.begin, min(self.end, self.before)


@dataclasses.dataclass
class Side:
    """One direction of a flow."""

    seen: list[Seen] = dataclasses.field(default_factory=list)
    runs: int = 0
    syn: int | None = None
    highest: int = 0
    base: int = 0
    owner: dict[tuple[int, int], Seen] = dataclasses.field(default_factory=dict)
    bases: list[int] = dataclasses.field(default_factory=list)

    def take(self, p: Segment, latest: Seen | None) -> Seen:
        """Put a packet on the line and note which bytes it is the first to bring."""
        previous = self.seen[-1] if self.seen else None
        new_syn = bool(p.flags & SYN) and p.seq % 2**32 != self.syn
        first = previous is None or new_syn
        if p.flags & SYN:
            self.syn = p.seq % 2**32
        begin = 0
        if previous is not None and not first:
            begin = previous.begin + signed(p.seq - previous.packet.seq)
        end = begin + p.payload + bool(p.flags & SYN) + bool(p.flags & FIN)
        if first:
            self.runs += 1
            self.highest = begin
            self.bases.append(begin)
        run, before = self.runs - 1, self.highest
        seen = Seen(p, run, begin, end, before, 0, previous, latest, first)
        if begin == before - 1 and p.payload <= 1 and not p.flags & (SYN | FIN):
            seen.marks.add("keep_alive")  # its byte is nothing new
        for byte in range(begin, end):
            if (run, byte) not in self.owner and not seen.marks:
                self.owner[run, byte] = seen
                seen.fill += byte < before
        self.highest = max(before, end)
        self.seen.append(seen)
        return seen


class Flow:
    """The state machine of one flow."""

    def __init__(self, packets: Sequence[Segment]) -> None:
        self.sides = {True: Side(), False: Side()}
        self.all: list[Seen | None] = []
        for p in packets:
            if p.flags & RST:
                self.all.append(None)
                continue
            other = self.sides[not p.up].seen
            self.all.append(self.sides[p.up].take(p, other[-1] if other else None))
        self.handshake()
        self.positions()
        mirrored = self.mirrored()
        for seen in filter(None, self.all):
            self.judge(seen, mirrored[seen.packet.up])
        self.times = [self.karn(up) for up in (True, False)]
        for side in self.sides.values():
            self.deliver(side)

    def handshake(self) -> None:
        up, down = self.sides[True].seen, self.sides[False].seen
        self.shake: list[tuple[int, Seen] | None] = [None, None]
        if not up or not down:
            return
        reply = down[0]
        syn = reply.latest
        if syn is None or reply.packet.flags & (SYN | ACK) != SYN | ACK:
            return
        if syn.packet.flags & (SYN | ACK) != SYN:
            return
        if not 0 <= (reply.packet.ack - syn.packet.seq - 1) % 2**32 <= syn.packet.payload:
            return
        self.shake[0] = (reply.packet.ns - syn.packet.ns, syn)
        following = up[up.index(syn) + 1 :]
        if not following:
            return
        after = following[0]
        if after.packet.flags & ACK and (after.packet.ack - reply.packet.seq) % 2**32 == 1:
            assert after.latest is not None
            self.shake[1] = (after.packet.ns - reply.packet.ns, after.latest)

    @property
    def round_trip(self) -> int | None:
        if self.shake[0] is None or self.shake[1] is None:
            return None
        return self.shake[0][0] + self.shake[1][0]

    def karn(self, up: bool) -> float | None:
        known = self.shake[0 if up else 1]
        if known is None or "retransmission" in known[1].marks:
            return None
        return known[0] / MS

    def positions(self) -> None:
        for s in filter(None, self.all):
            p, control = s.packet, bool(s.packet.flags & (SYN | FIN))
            if s.begin > s.before:
                s.marks.add("hole")
            if p.window == 0 and not control:
                s.marks.add("zero_window")

    def below(self, s: Seen) -> bool:
        return s.begin < s.before and s.length > 0 and "keep_alive" not in s.marks

    def repeats(self, s: Seen) -> bool:
        """Whether a packet without data acknowledges what the packet before it did."""
        if s.first or s.length or s.previous is None or not s.packet.flags & ACK:
            return False
        return s.packet.ack % 2**32 == s.previous.packet.ack % 2**32

    def identical(self, s: Seen, other: Seen) -> bool:
        gap = s.packet.ns - other.packet.ns
        if gap > 2 * MS or (self.round_trip is not None and gap >= self.round_trip):
            return False
        return s.packet._replace(ns=0, seq=s.packet.seq % 2**32) == other.packet._replace(
            ns=0, seq=other.packet.seq % 2**32
        )

    def copy(self, s: Seen) -> bool:
        """Whether a packet with data is an exact copy of the one that brought its last byte."""
        if not self.below(s) or s.fill or s.end > s.before or s.previous is None:
            return False
        return self.identical(s, s.previous) or self.identical(s, self.bringer(s, s.end))

    def bringer(self, s: Seen, end: int) -> Seen:
        """The first packet of a run with which its highest sequence number reached ``end``."""
        side = self.sides[s.packet.up].seen
        return next(o for o in side if o.run == s.run and max(o.before, o.end) >= end)

    def mirrored(self) -> dict[bool, bool]:
        found: dict[bool, bool | None] = {}
        for up, side in self.sides.items():
            segments = sum(s.length > 0 for s in side.seen)
            copies = sum(map(self.copy, side.seen))
            found[up] = 2 * copies >= segments - copies if segments else None
        if not any(self.copy(s) for s in filter(None, self.all)):
            return {True: False, False: False}
        return {
            up: bool(found[not up] if verdict is None else verdict) for up, verdict in found.items()
        }

    def judge(self, s: Seen, mirrored: bool) -> None:
        p = s.packet
        repeats = self.repeats(s)
        if mirrored and (
            self.copy(s) or (repeats and s.previous and self.identical(s, s.previous))
        ):
            s.marks = {"duplicate"}
            return
        if repeats and s.begin == s.before and p.window:
            assert s.previous is not None
            if p.window != s.previous.packet.window:
                s.marks.add("window_update")
            elif s.latest and "keep_alive" in s.latest.marks:
                s.marks.add("keep_alive_ack")
            else:
                s.marks.add("duplicate_ack")
        if self.below(s):
            self.loss(s)

    def loss(self, s: Seen) -> None:
        p = s.packet
        low, high = s.low_high
        if high - low == 1 and not s.fill and p.payload > 1:
            return
        answer = s.latest if s.latest and s.latest.packet.flags & ACK else None
        acks = 0
        spurious = fast = False
        if answer:
            # Packets since the acknowledgement last changed.
            acks = sum(1 for o in self.same_ack(answer) if "duplicate_ack" in o.marks)
            spurious = bool(p.payload) and signed(answer.packet.ack - p.seq) >= s.length
            close = p.ns - answer.packet.ns < 20 * MS
            asked = (answer.packet.ack - p.seq) % 2**32 == 0
            fast = acks >= 2 and close and asked and not spurious
        delay = p.ns - self.bringer(s, s.before).packet.ns
        limit = 3 * MS if self.round_trip is None else self.round_trip
        if delay < limit and s.fill == s.length and not spurious and not fast:
            s.marks.add("out_of_order")
        else:
            s.marks.add("retransmission")
            if not fast and not acks and delay >= 200 * MS:
                s.marks.add("timeout")
        s.marks |= {"fill"} if s.fill else set()
        s.marks |= {"fast"} if fast else set()
        s.marks |= {"spurious"} if spurious else set()

    @staticmethod
    def same_ack(s: Seen) -> Iterator[Seen]:
        at: Seen | None = s
        ack = s.packet.ack % 2**32
        while at and at.run == s.run:
            if at.packet.ack % 2**32 == ack or "duplicate_ack" not in at.marks:
                yield at
            else:
                return
            at = at.previous

    def deliver(self, side: Side) -> None:
        due: dict[tuple[int, int], Seen] = {
            key: owner
            for key, owner in side.owner.items()
            if key[1] >= side.bases[key[0]]
            and (key[1] >= owner.before or not owner.marks & {"spurious", "duplicate"})
        }
        for s in side.seen:
            s.delivered = s.packet.ns
            if s.length:
                mine = [o.packet.ns for (run, b), o in due.items() if run == s.run and b < s.end]
                s.delivered = max([s.packet.ns, *mine])
        for s in side.seen:
            if s.marks & {"retransmission", "out_of_order"} and "spurious" not in s.marks:
                for byte in range(max(s.low_high[0], side.bases[s.run]), s.low_high[1]):
                    due[s.run, byte] = s
        for s in side.seen:
            s.latest_delivered = s.packet.ns
            if s.length:
                mine = [o.packet.ns for (run, b), o in due.items() if run == s.run and b < s.end]
                s.latest_delivered = max([s.packet.ns, *mine])

    def round_trips(self, up: bool) -> list[int]:
        """Data of a direction to its acknowledgement, ns."""
        out = []
        moved = [s for s in self.sides[up].seen if s.marks & {"retransmission", "out_of_order"}]
        for a in self.sides[not up].seen:
            q, last = a.latest, a.previous
            if q is None or last is None or not a.packet.flags & last.packet.flags & ACK:
                continue
            gain = signed(a.packet.ack - last.packet.ack)
            end = q.begin + signed(a.packet.ack - q.packet.seq)
            base = self.sides[up].bases[q.run]
            if gain <= 0 or end <= base or end > max(q.before, q.end):
                continue
            sent = self.bringer(q, end)
            if sent.end != end or sent.begin < sent.before or not sent.packet.payload:
                continue
            lows = [m.low_high for m in moved if m.run == q.run]
            if not any(low < end and high > max(base, end - gain) for low, high in lows):
                out.append(a.packet.ns - sent.packet.ns)
        return out


class Expected(NamedTuple):
    """What an analysis of one flow should say."""

    marks: list[set[str]]
    delivered: list[int]
    delivered_latest: list[int]
    counts: dict[bool, Counter[str]]
    bytes_again: dict[bool, int]
    hole_bytes: dict[bool, int]
    round_trips: dict[bool, tuple[int, float, float] | None]
    handshake: list[float | None]


def analyse(packets: Sequence[Segment]) -> Expected:
    """Analyse one flow."""
    flow = Flow(packets)
    counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    again: dict[bool, int] = defaultdict(int)
    holes: dict[bool, int] = defaultdict(int)
    for s in filter(None, flow.all):
        counts[s.packet.up].update(s.marks)
        low, high = s.low_high
        if "retransmission" in s.marks:
            again[s.packet.up] += min(high - low, s.packet.payload)
        if "hole" in s.marks:
            holes[s.packet.up] += s.begin - s.before
    trips = {up: flow.round_trips(up) for up in (True, False)}
    return Expected(
        [s.marks if s else set() for s in flow.all],
        [s.delivered if s else p.ns for s, p in zip(flow.all, packets, strict=True)],
        [s.latest_delivered if s else p.ns for s, p in zip(flow.all, packets, strict=True)],
        counts,
        again,
        holes,
        {
            up: (len(t), min(t) / MS, statistics.median(t) / MS) if t else None
            for up, t in trips.items()
        },
        flow.times,
    )
