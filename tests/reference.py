"""Slow, obvious references: every feature once more, from its formula, in plain Python.

Nothing here shares code with the kernels. Times are exact fractions of a second, so that a gap of
exactly twice the median is exactly that; rounding is the kernels' problem.

Also here: flows made by hand or from random bytes, for the tests that compare.
"""

from __future__ import annotations

import itertools
import statistics
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from llmflow.capture.columns import ACK, FIN, HINT_CLIENT_HELLO, PSH, SYN, TCP, UDP
from llmflow.flows.batch import FlowBatch, FlowColumns, FlowPackets
from llmflow.flows.turns import Data, Turns

CHUNK_GAP = Fraction(5, 1000)
WINDOWS = {"turn": None, "5s": 5, "2s": 2, "flow": None}
START = 1_700_000_000_000_000_000  # ns since the epoch, of flows made here


# -- segments ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Packet:
    """One packet of a segment; ``new`` counts application bytes that were not sent before."""

    seconds: Fraction
    up: bool
    new: int
    ack: bool


@dataclass
class Chunk:
    """Downlink data packets at most 5 ms apart."""

    start: Fraction
    last: Fraction
    size: int


@dataclass(frozen=True)
class Turn:
    """A turn of a flow: when it was asked, and when downlink data of its reply came."""

    request: Fraction
    request_bytes: float | None
    reply: list[Fraction]

    @property
    def duration(self) -> Fraction:
        return self.reply[-1] - self.reply[0]


@dataclass(frozen=True)
class Flow:
    """How long a flow lasted, and its turns."""

    duration: Fraction
    turns: list[Turn]


@dataclass(frozen=True)
class Segment:
    """The packets of a segment, and what is known of its turn and flow."""

    turn: int
    packets: list[Packet]
    two_way: bool
    request_bytes: float | None
    wait: float | None
    flow: Flow

    @cached_property
    def down(self) -> list[Packet]:
        return [packet for packet in self.packets if not packet.up and packet.new > 0]

    @cached_property
    def up(self) -> list[Packet]:
        return [packet for packet in self.packets if packet.up]

    @cached_property
    def up_data(self) -> list[Packet]:
        return [packet for packet in self.up if packet.new > 0]

    @cached_property
    def acks(self) -> list[Packet]:
        return [packet for packet in self.up if packet.ack]

    @cached_property
    def chunks(self) -> list[Chunk]:
        found: list[Chunk] = []
        for packet in self.down:
            if found and packet.seconds - found[-1].last <= CHUNK_GAP:
                found[-1].last = packet.seconds
                found[-1].size += packet.new
            else:
                found.append(Chunk(packet.seconds, packet.seconds, packet.new))
        return found

    @cached_property
    def sizes(self) -> list[int]:
        return [chunk.size for chunk in self.chunks]

    @cached_property
    def gaps(self) -> list[Fraction]:
        starts = [chunk.start for chunk in self.chunks]
        return [later - sooner for sooner, later in itertools.pairwise(starts)]

    @cached_property
    def bursts(self) -> list[int]:
        """Bytes of the uplink bursts."""
        found: list[int] = []
        before = None
        for packet in self.packets:
            if packet.new == 0:
                continue
            if packet.up:
                if before is None or not before.up or packet.seconds - before.seconds > 1:
                    found.append(0)
                found[-1] += packet.new
            before = packet
        return found

    @cached_property
    def duration(self) -> Fraction:
        return self.chunks[-1].start - self.chunks[0].start


def reference_segments(batch: FlowBatch, data: Data, turns: Turns, scale: str) -> list[Segment]:
    """Cut the replies of all turns into segments of one scale."""
    time, up = batch.packets.time.tolist(), batch.packets.up.tolist()
    new, ack, flow_of = data.new.tolist(), data.ack.tolist(), data.flow.tolist()
    two_way = {flow for flow, is_up in zip(flow_of, up, strict=True) if is_up}
    stretches: list[tuple[int, int, int]] = []  # turn, first row, last row
    for turn, (first, last) in enumerate(
        zip(turns.reply.tolist(), turns.reply_last.tolist(), strict=True)
    ):
        same_flow = bool(stretches) and flow_of[stretches[-1][1]] == flow_of[first]
        if scale == "flow" and same_flow:
            stretches[-1] = (*stretches[-1][:2], last)
        else:
            stretches.append((turn, first, last))
    flows = _reference_flows(batch, data, turns)
    segments = []
    for turn, first, last in stretches:
        windows: dict[int, list[Packet]] = {}
        for row in range(first, last + 1):
            since = Fraction(time[row] - time[first], 10**9)
            length = WINDOWS[scale]
            window = 0 if length is None else since // length
            packet = Packet(since, up[row], new[row], ack[row])
            windows.setdefault(window, []).append(packet)
        for _, packets in sorted(windows.items()):
            if any(not packet.up and packet.new > 0 for packet in packets):
                segments.append(
                    Segment(
                        turn,
                        packets,
                        flow_of[first] in two_way,
                        _or_none(float(turns.request_bytes[turn])),
                        _or_none(float(turns.wait[turn])),
                        flows[flow_of[first]],
                    )
                )
    return segments


def _reference_flows(batch: FlowBatch, data: Data, turns: Turns) -> dict[int, Flow]:
    seconds = [Fraction(ns, 10**9) for ns in batch.packets.time.tolist()]
    down = data.down.tolist()
    flows = {}
    for number, (first, packets) in enumerate(
        zip(batch.flows.first.tolist(), batch.flows.packets.tolist(), strict=True)
    ):
        flows[number] = Flow(seconds[first + packets - 1] - seconds[first], [])
    for turn in range(len(turns)):
        rows = range(int(turns.reply[turn]), int(turns.reply_last[turn]) + 1)
        flows[int(turns.flow[turn])].turns.append(
            Turn(
                seconds[int(turns.request[turn])],
                _or_none(float(turns.request_bytes[turn])),
                [seconds[row] for row in rows if down[row]],
            )
        )
    return flows


def _or_none(value: float) -> float | None:
    return value if value == value else None  # noqa: PLR0124 - NaN is not itself


# -- features ------------------------------------------------------------------------------------

Value = float | Fraction | None
Reference = Callable[[Segment], Value]
REFERENCES: dict[str, Reference] = {}


def reference(definition: Reference) -> Reference:
    REFERENCES[definition.__name__] = definition
    return definition


def _percentile(values: Sequence[int | Fraction], tenth: int) -> Fraction:
    exact = [Fraction(value) for value in values]
    if len(exact) == 1:
        return exact[0]
    return statistics.quantiles(exact, n=10, method="inclusive")[tenth - 1]


def _share(values: Sequence[object], total: Sequence[object]) -> Fraction:
    return Fraction(len(values), len(total))


@reference
def chunks(s: Segment) -> Value:
    return float(len(s.chunks))


@reference
def duration(s: Segment) -> Value:
    return s.duration


@reference
def chunk_rate(s: Segment) -> Value:
    return len(s.gaps) / s.duration if s.gaps else None


@reference
def gap_p50(s: Segment) -> Value:
    return statistics.median(s.gaps) if s.gaps else None


@reference
def gap_p10_ratio(s: Segment) -> Value:
    return _percentile(s.gaps, 1) / statistics.median(s.gaps) if len(s.gaps) >= 2 else None


@reference
def gap_p90_ratio(s: Segment) -> Value:
    return _percentile(s.gaps, 9) / statistics.median(s.gaps) if len(s.gaps) >= 2 else None


@reference
def gap_cv(s: Segment) -> Value:
    if len(s.gaps) < 2:
        return None
    return float(statistics.pstdev(s.gaps)) / float(statistics.mean(s.gaps))


@reference
def gap_steady_share(s: Segment) -> Value:
    if len(s.gaps) < 2:
        return None
    middle = statistics.median(s.gaps)
    return _share([gap for gap in s.gaps if middle / 2 <= gap <= 2 * middle], s.gaps)


@reference
def gap_clock_share(s: Segment) -> Value:
    if len(s.gaps) < 2:
        return None
    middle = statistics.median(s.gaps)
    return _share([gap for gap in s.gaps if abs(gap - middle) <= middle / 10], s.gaps)


@reference
def gap_max_share(s: Segment) -> Value:
    return max(s.gaps) / s.duration if s.gaps else None


@reference
def gap_long_share(s: Segment) -> Value:
    return sum(gap for gap in s.gaps if gap > 1) / s.duration if s.gaps else None


@reference
def gap_lag1(s: Segment) -> Value:
    if len(s.gaps) < 3 or len(set(s.gaps)) == 1:
        return None
    mean = statistics.mean(s.gaps)
    off = [gap - mean for gap in s.gaps]
    together = sum(this * following for this, following in itertools.pairwise(off))
    return together / sum(value**2 for value in off)


@reference
def gap_local_variation(s: Segment) -> Value:
    if len(s.gaps) < 2:
        return None
    return statistics.mean(((b - a) / (b + a)) ** 2 for a, b in itertools.pairwise(s.gaps))


@reference
def gap_multiple_share(s: Segment) -> Value:
    if len(s.gaps) < 2:
        return None
    middle = statistics.median(s.gaps)
    most = int(max(s.gaps) / middle) + 2
    ticks = [
        gap for gap in s.gaps
        if any(abs(gap - times * middle) <= middle / 10 for times in range(1, most))
    ]  # fmt: skip
    return _share(ticks, s.gaps)


@reference
def gap_200ms_share(s: Segment) -> Value:
    if not s.gaps:
        return None
    return _share([gap for gap in s.gaps if Fraction(18, 100) <= gap <= Fraction(22, 100)], s.gaps)


@reference
def gap_500ms_share(s: Segment) -> Value:
    return sum(gap for gap in s.gaps if gap > Fraction(1, 2)) / s.duration if s.gaps else None


@reference
def gap_2s_share(s: Segment) -> Value:
    return sum(gap for gap in s.gaps if gap > 2) / s.duration if s.gaps else None


@reference
def steady_run_share(s: Segment) -> Value:
    if not s.gaps:
        return None
    longest = run = Fraction(0)
    for gap in s.gaps:
        run = run + gap if gap <= Fraction(7, 10) else Fraction(0)
        longest = max(longest, run)
    return longest / s.duration


@reference
def chunk_size_p50(s: Segment) -> Value:
    return float(statistics.median(s.sizes))


@reference
def chunk_size_p10_ratio(s: Segment) -> Value:
    return float(_percentile(s.sizes, 1)) / statistics.median(s.sizes)


@reference
def chunk_size_p90_ratio(s: Segment) -> Value:
    return float(_percentile(s.sizes, 9)) / statistics.median(s.sizes)


@reference
def chunk_size_cv(s: Segment) -> Value:
    return statistics.pstdev(s.sizes) / statistics.mean(s.sizes)


@reference
def chunk_size_mode_share(s: Segment) -> Value:
    ((_, times),) = Counter(s.sizes).most_common(1)
    return Fraction(times, len(s.sizes))


@reference
def chunk_size_growth(s: Segment) -> Value:
    if len(s.sizes) < 3 or len(set(s.sizes)) == 1:
        return None
    ordered = sorted(s.sizes)
    # Equal sizes share the mean of the places they take.
    ranks = [(bisect_left(ordered, x) + bisect_right(ordered, x) - 1) / 2 for x in s.sizes]
    return statistics.correlation(ranks, list(range(len(ranks))))


@reference
def packets_per_chunk(s: Segment) -> Value:
    return _share(s.down, s.chunks)


@reference
def full_packet_share(s: Segment) -> Value:
    return _share([packet for packet in s.down if packet.new >= 1200], s.down)


@reference
def small_packet_share(s: Segment) -> Value:
    return _share([packet for packet in s.down if packet.new < 400], s.down)


@reference
def down_byte_rate(s: Segment) -> Value:
    return sum(packet.new for packet in s.down) / s.duration if s.gaps else None


@reference
def chunk_size_rise_share(s: Segment) -> Value:
    rises = [1 for before, size in itertools.pairwise(s.sizes) if size > before]
    return _share(rises, s.gaps) if s.gaps else None


@reference
def gap_size_correlation(s: Segment) -> Value:
    sizes = s.sizes[1:]
    if len(s.gaps) < 3 or len(set(s.gaps)) == 1 or len(set(sizes)) == 1:
        return None
    return statistics.correlation([float(gap) for gap in s.gaps], sizes)


@reference
def chunk_size_repeat(s: Segment) -> Value:
    return _equal_pairs(s.sizes)


@reference
def chunk_size_distinct(s: Segment) -> Value:
    return Fraction(len(set(s.sizes)), len(s.sizes))


@reference
def size_mod8_share(s: Segment) -> Value:
    ((_, times),) = Counter(packet.new % 8 for packet in s.down).most_common(1)
    return Fraction(times, len(s.down))


@reference
def size_mod16_share(s: Segment) -> Value:
    ((_, times),) = Counter(packet.new % 16 for packet in s.down).most_common(1)
    return Fraction(times, len(s.down))


@reference
def packet_size_repeat(s: Segment) -> Value:
    return _equal_pairs([packet.new for packet in s.down])


def _equal_pairs(values: list[int]) -> Value:
    """Chance that two different places hold the same value."""
    if len(values) < 2:
        return None
    pairs = list(itertools.combinations(values, 2))
    return _share([1 for one, other in pairs if one == other], pairs)


def _two_sizes(s: Segment) -> list[int]:
    """The most frequent packet sizes, two at most; of equally frequent ones the smaller first."""
    times = Counter(packet.new for packet in s.down)
    return sorted(times, key=lambda size: (-times[size], size))[:2]


@reference
def packet_size_two_share(s: Segment) -> Value:
    two = _two_sizes(s)
    return _share([1 for p in s.down if p.new in two], s.down) if len(two) == 2 else None


@reference
def packet_size_ladder_share(s: Segment) -> Value:
    two = _two_sizes(s)
    if len(two) < 2 or abs(two[0] - two[1]) < 16:
        return None
    return _share([1 for p in s.down if (p.new - two[0]) % abs(two[0] - two[1]) == 0], s.down)


@reference
def up_packet_share(s: Segment) -> Value:
    return _share(s.up, s.up + s.down) if s.two_way else None


@reference
def up_payload_share(s: Segment) -> Value:
    if not s.two_way:
        return None
    sent, received = sum(p.new for p in s.up), sum(p.new for p in s.down)
    return Fraction(sent, sent + received)


@reference
def up_data_per_chunk(s: Segment) -> Value:
    return _share(s.up_data, s.chunks) if s.two_way else None


@reference
def up_ack_share(s: Segment) -> Value:
    return _share(s.acks, s.up) if s.two_way and s.up else None


@reference
def acks_per_packet(s: Segment) -> Value:
    return _share(s.acks, s.down) if s.two_way else None


@reference
def up_byte_rate(s: Segment) -> Value:
    return sum(p.new for p in s.up) / s.duration if s.two_way and s.gaps else None


@reference
def up_data_rate(s: Segment) -> Value:
    return len(s.up_data) / s.duration if s.two_way and s.gaps else None


@reference
def answer_share(s: Segment) -> Value:
    if not s.two_way:
        return None
    ways = [packet.up for packet in s.packets if packet.new > 0]
    answers = [1 for before, up in itertools.pairwise(ways) if before and not up]
    return _share(answers, s.chunks)


@reference
def up_full_share(s: Segment) -> Value:
    if not s.two_way or not s.up_data:
        return None
    return _share([packet for packet in s.up_data if packet.new >= 1200], s.up_data)


@reference
def byte_symmetry(s: Segment) -> Value:
    sent, received = sum(p.new for p in s.up), sum(p.new for p in s.down)
    return Fraction(min(sent, received), max(sent, received)) if s.two_way else None


@reference
def packet_symmetry(s: Segment) -> Value:
    sent, received = len(s.up_data), len(s.down)
    return Fraction(min(sent, received), max(sent, received)) if s.two_way else None


@reference
def up_burst_rate(s: Segment) -> Value:
    return len(s.bursts) / s.duration if s.two_way and s.gaps else None


@reference
def up_burst_max(s: Segment) -> Value:
    return float(max(s.bursts)) if s.bursts else None


@reference
def request_bytes(s: Segment) -> Value:
    return s.request_bytes


@reference
def wait(s: Segment) -> Value:
    return s.wait


@reference
def turns(s: Segment) -> Value:
    return float(len(s.flow.turns)) if s.two_way else None


@reference
def stream_life_share(s: Segment) -> Value:
    if not s.two_way or s.flow.duration == 0:
        return None
    gaps = [b - a for turn in s.flow.turns for a, b in itertools.pairwise(turn.reply)]
    return sum(gap for gap in gaps if gap <= 2) / s.flow.duration


@reference
def request_growth_share(s: Segment) -> Value:
    sizes = [turn.request_bytes for turn in s.flow.turns if turn.request_bytes is not None]
    pairs = list(itertools.pairwise(sizes))
    if not s.two_way or not pairs:
        return None
    return _share([1 for before, size in pairs if size > before], pairs)


@reference
def think_p50(s: Segment) -> Value:
    pauses = [b.request - a.reply[-1] for a, b in itertools.pairwise(s.flow.turns)]
    return statistics.median(pauses) if s.two_way and pauses else None


@reference
def reply_duration_cv(s: Segment) -> Value:
    durations = [turn.duration for turn in s.flow.turns]
    if not s.two_way or len(durations) < 2 or not any(durations):
        return None
    return float(statistics.pstdev(durations)) / float(statistics.mean(durations))


# -- flows to compare on -------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """A packet to be made: ``again`` bytes of its payload were sent before (TCP)."""

    ns: int
    up: bool
    payload: int
    again: int = 0
    flags: int = ACK
    hint: int = 0


@dataclass(frozen=True)
class Talk:
    """A flow to be made."""

    protocol: int
    packets: list[Sent]


def make_batch(talks: Sequence[Talk]) -> FlowBatch:
    """Flows as they leave the flow room: packet times count from ``START``."""
    filled = [talk for talk in talks if talk.packets]
    rows: list[tuple[int, ...]] = []
    for talk in filled:
        is_tcp = talk.protocol == TCP
        following = {True: 2**32 - 2000, False: 2**32 - 5000}  # they wrap
        for sent in talk.packets:
            begin = following[sent.up] - sent.again
            following[sent.up] = max(following[sent.up], begin + sent.payload)
            rows.append(
                (
                    START + sent.ns,
                    sent.up,
                    talk.protocol,
                    sent.flags if is_tcp else 0,
                    sent.hint,
                    sent.payload + (40 if is_tcp else 28),
                    sent.payload,
                    begin % 2**32 if is_tcp else 0,
                    0,
                    0,
                )
            )
    kinds = (
        np.int64,
        np.bool_,
        np.uint8,
        np.uint8,
        np.uint8,
        np.int64,
        np.int64,
        *[np.uint32] * 2,
        np.uint16,
    )
    table = list(zip(*rows, strict=True)) if rows else [()] * len(kinds)
    packets = FlowPackets(*(np.array(c, kind) for c, kind in zip(table, kinds, strict=True)))
    n = len(filled)
    count = np.array([len(talk.packets) for talk in filled], np.int64)
    first = np.cumsum(count) - count
    start = packets.time[first]
    address = np.arange(1, n + 1).astype(np.uint64)
    port = np.full(n, 443, np.uint16)
    flows = FlowColumns(
        first=first,
        packets=count,
        a_high=np.zeros(n, np.uint64),
        a_low=address,
        a_port=np.full(n, 50000, np.uint16),
        b_high=np.zeros(n, np.uint64),
        b_low=address + np.uint64(1000),
        b_port=port,
        protocol=np.array([talk.protocol for talk in filled], np.uint8),
        client_is_a=np.ones(n, np.bool_),
        basis=np.ones(n, np.uint8),
        origin=start,
        slice_no=np.zeros(n, np.int64),
        ended=packets.time[first + count - 1],
        end_reason=np.ones(n, np.uint8),
    )
    return FlowBatch(flows, packets)


_MS = 1_000_000
_GAPS = [
    *[0, 0, _MS, 5 * _MS, 5 * _MS, 6 * _MS, 50 * _MS, 50 * _MS],
    *[50 * _MS, 50 * _MS, 300 * _MS, 300 * _MS, 1000 * _MS, 1000 * _MS, 2000 * _MS, 3000 * _MS],
]
_JITTER = [0] * 9 + [11_003, 11_003, 250_007, 1_000_003, 4_000_009, 5_000_000, 90_000_017]
_SIZES = [1, 39, 40, 60, 60, 60, 90, 90, 200, 250, 399, 400, 700, 1199, 1200, 1400]


def talk_from(recipe: bytes) -> Talk:
    """A random flow from random bytes: one for the flow, then two a packet.

    Gaps lie at and around the limits that the definitions name, sizes repeat, and there are
    retransmissions, acknowledgements, handshakes and flows of one direction.
    """
    head = recipe[0] if recipe else 0
    protocol = UDP if head & 1 else TCP
    one_way, jumpy = head & 14 == 2, bool(head & 16)
    now, packets = 0, []
    for how, what in zip(recipe[1::2], recipe[2::2], strict=False):
        now += _GAPS[how & 15] + (_JITTER[how >> 4] if jumpy else 0)
        size, kind = _SIZES[what & 15], what >> 4
        if kind < 8:
            packet = Sent(now, up=False, payload=size)
        elif kind < 10:
            packet = Sent(now, up=False, payload=size, again=size if kind == 8 else 50)
        elif kind < 12:
            packet = Sent(now, up=True, payload=size, flags=ACK | PSH)
        elif kind == 12:
            packet = Sent(now, up=True, payload=size, again=1 if size == 1 else size)
        elif kind == 13:
            handshake = SYN if size == 1 else FIN | ACK
            packet = Sent(now, up=True, payload=0, flags=handshake)
        elif kind == 14 and size > 1000:
            packet = Sent(now, up=True, payload=size, hint=HINT_CLIENT_HELLO)
        else:
            packet = Sent(now, up=True, payload=0)
        if not (packet.up and one_way):
            packets.append(packet)
    return Talk(protocol, packets)
