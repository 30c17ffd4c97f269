"""The assembler against a slow, obvious one, and against itself on other cuts of the input."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.capture.columns import (
    ACK,
    FIN,
    HINT_CLIENT_HELLO,
    HINT_QUIC_LONG,
    RST,
    SYN,
    TCP,
    UDP,
)
from llmflow.flows.batch import EndReason, FlowBatch, FlowOptions
from llmflow.flows.direction import Basis, is_service
from tests.builders import SECOND, START, Packet, assemble

OPTIONS = FlowOptions(idle_timeout=12, active_timeout=14, closed_timeout=4, reorder=3)
IDLE, ACTIVE, CLOSED, LATE = (
    OPTIONS.ns(name) for name in ("idle_timeout", "active_timeout", "closed_timeout", "reorder")
)

End = tuple[int, int]
Key = tuple[End, End, int]
Numbered = tuple[int, Packet]  # position in the input, packet


class Slice(NamedTuple):
    """A flow, or one slice of it, as the reference sees it."""

    key: Key
    client: End
    basis: int
    origin: int
    number: int
    ended: int
    reason: int
    packets: tuple[tuple[int, bool], ...]  # position and whether uplink


def key_of(packet: Packet) -> Key:
    a, b = sorted([packet.source, packet.target])
    return a, b, packet.protocol


def epochs(packets: Sequence[Packet]) -> list[tuple[list[Numbered], int]]:
    """Runs of packets between large steps back of the clock, each with its last clock."""
    out: list[tuple[list[Numbered], int]] = []
    clock = None
    for position, packet in enumerate(packets):
        if clock is None or packet.time < clock - LATE:
            out.append(([], packet.time))
            clock = packet.time
        clock = max(clock, packet.time)
        out[-1] = ([*out[-1][0], (position, packet)], clock)
    return out


def shows_end(packet: Packet) -> bool:
    return packet.protocol == TCP and packet.flags & (FIN | RST) != 0


def opens(packet: Packet) -> bool:
    return packet.protocol == TCP and packet.flags & (SYN | ACK) == SYN


def flows_of_key(packets: list[Numbered]) -> list[list[Numbered]]:
    """Cut the packets of one key where a flow is over and another begins."""
    flows: list[list[Numbered]] = []
    for position, packet in packets:
        new = True
        if flows:
            flow = flows[-1]
            gap = packet.time - flow[-1][1].time
            closed = any(shows_end(p) for _, p in flow)
            new = gap >= IDLE or (closed and (gap >= CLOSED or opens(packet)))
        if new:
            flows.append([])
        flows[-1].append((position, packet))
    return flows


def initiator(packets: list[Packet]) -> tuple[End, int]:
    """Client and basis, by the rules in their order."""
    for p in packets:
        if p.protocol == TCP and p.flags & (SYN | ACK) == SYN:
            return p.source, Basis.SYN
        if p.protocol == TCP and p.flags & (SYN | ACK) == SYN | ACK:
            return p.target, Basis.SYN
    first = packets[0]
    for p in packets:
        if p.hint & HINT_CLIENT_HELLO or (p is first and p.hint & HINT_QUIC_LONG):
            return p.source, Basis.CLIENT_HELLO
    source, target = is_service(np.array([first.sport, first.dport], np.uint16)).tolist()
    if source != target:
        return (first.target if source else first.source), Basis.PORT
    return first.source, Basis.FIRST_PACKET


def slices_of_flow(
    key: Key, flow: list[Numbered], heir: int | None, seen_until: int
) -> list[Slice]:
    """Slices of one flow; ``heir`` is the start of the next flow of the key."""
    origin, last = flow[0][1].time, flow[-1][1].time
    closed = any(shows_end(p) for _, p in flow)
    over = last + (CLOSED if closed else IDLE)
    over = over if heir is None else min(over, heir)
    numbers = [(p.time - origin) // ACTIVE for _, p in flow]
    client, basis = initiator([p for (_, p), n in zip(flow, numbers, strict=True) if n == 0])
    out = []
    for number in sorted(set(numbers)):
        inside = [x for x, n in zip(flow, numbers, strict=True) if n == number]
        slice_end = origin + (number + 1) * ACTIVE
        ended = min(slice_end, over) if number == numbers[-1] else slice_end
        if ended == slice_end:
            reason = EndReason.ACTIVE
        else:
            reason = EndReason.END_OF_FLOW if closed else EndReason.IDLE
        if ended > seen_until and reason != EndReason.END_OF_FLOW:
            reason = EndReason.FORCED
        ways = tuple((x, p.source == client) for x, p in inside)
        out.append(Slice(key, client, basis, origin, number, ended, reason, ways))
    return out


def reference(packets: Sequence[Packet]) -> list[Slice]:
    """All slices, in the order in which they leave."""
    out: list[Slice] = []
    for run, clock in epochs(packets):
        by_key: dict[Key, list[Numbered]] = defaultdict(list)
        for position, packet in sorted(run, key=lambda x: (x[1].time, x[0])):
            by_key[key_of(packet)].append((position, packet))
        found: list[Slice] = []
        for key, mine in by_key.items():
            flows = flows_of_key(mine)
            for i, flow in enumerate(flows):
                heir = flows[i + 1][0][1].time if i + 1 < len(flows) else None
                found += slices_of_flow(key, flow, heir, clock)
        out += sorted(found, key=lambda s: (s.ended, s.origin, s.key))
    return out


def as_slices(batch: FlowBatch) -> list[Slice]:
    """A batch in the words of the reference; ``seq`` holds the packets' positions."""
    f = batch.flows
    halves = [column.tolist() for column in (f.a_high, f.a_low, f.b_high, f.b_low)]
    ends = [((ah << 64) | al, (bh << 64) | bl) for ah, al, bh, bl in zip(*halves, strict=True)]
    positions, up = batch.packets.seq.tolist(), batch.packets.up.tolist()
    out = []
    for i, (a_number, b_number) in enumerate(ends):
        a, b = (a_number, int(f.a_port[i])), (b_number, int(f.b_port[i]))
        begin, count = int(f.first[i]), int(f.packets[i])
        ways = tuple(zip(positions, up, strict=True))[begin : begin + count]
        rest = (f.basis, f.origin, f.slice_no, f.ended, f.end_reason)
        basis, origin, number, ended, reason = (int(column[i]) for column in rest)
        client = a if f.client_is_a[i] else b
        key = (a, b, int(f.protocol[i]))
        out.append(Slice(key, client, basis, origin, number, ended, reason, ways))
    return out


def settled(slices: list[Slice]) -> list[Slice]:
    """Without the end reasons, and without the direction of flows between equal ends."""
    return [
        s._replace(reason=0, packets=tuple((x, s.key[0] == s.key[1] or up) for x, up in s.packets))
        for s in slices
    ]


ENDS = [
    ("192.0.2.1", 50000, "198.51.100.1", 443),
    ("198.51.100.1", 443, "192.0.2.1", 50000),
    ("192.0.2.1", 50001, "198.51.100.1", 50002),
    ("198.51.100.1", 50002, "192.0.2.1", 50001),
    ("2001:db8::1", 9, "2001:db8::1", 9),
]
# Whole seconds make times meet the timeouts exactly; the nanoseconds pass just beside them.
GAPS = [0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 9, 11, 12, 13, 20, 21, -1, -1, -2, -3, -4, -20]
CLOSE = [0, 1, 2, 3]  # long flows, many slices
LATE_OFTEN = [-3, -2, -1, 1, 4, 5, 12, 13]  # packets that come behind the clock
BESIDE = [0, 0, 0, -1, 1]
PROTOCOLS = [TCP, TCP, TCP, UDP]
FLAGS = [ACK, ACK, ACK, ACK, ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST, SYN | FIN]
HINTS = [0, 0, 0, HINT_CLIENT_HELLO, HINT_QUIC_LONG]
Spec = tuple[tuple[int, int], tuple[str, int, str, int], int, int, int]


def packets_of(specs: list[Spec]) -> list[Packet]:
    """Packets at the running sum of the gaps; ``seq`` is the position."""
    out, time = [], START
    for position, ((gap, beside), ends, protocol, flags, hint) in enumerate(specs):
        time += gap * SECOND + beside
        payload = 10 * position
        out.append(Packet(time, *ends, protocol, flags, payload, position, hint))
    return out


@st.composite
def packet_lists(draw: st.DrawFn) -> list[Packet]:
    """Packets of few or many flows, with gaps and flags of one kind or of all."""
    gaps = draw(st.sampled_from([GAPS, CLOSE, LATE_OFTEN]))
    beside = draw(st.sampled_from([[0], BESIDE]))
    ends = draw(st.sampled_from([ENDS[:2], ENDS[:4], ENDS]))
    protocols = draw(st.sampled_from([[TCP], PROTOCOLS]))
    flags = draw(st.sampled_from([[ACK], [*[ACK] * 4, FIN | ACK, SYN], FLAGS]))
    packet = st.tuples(
        st.tuples(st.sampled_from(gaps), st.sampled_from(beside)),
        *(st.sampled_from(choices) for choices in (ends, protocols, flags, HINTS)),
    )
    return packets_of(draw(st.lists(packet, min_size=1, max_size=40)))


PACKETS = packet_lists()
CUTS = st.one_of(st.lists(st.integers(1, 39), max_size=8), st.just(list(range(1, 40))))


@settings(max_examples=300)
@given(PACKETS)
def test_assembler_equals_the_reference(packets: list[Packet]) -> None:
    """Cuts, slices, clients, directions and order are those of plain loops over the packets."""
    assert settled(as_slices(assemble(packets, OPTIONS))) == settled(reference(packets))


@settings(max_examples=200)
@given(PACKETS)
def test_end_reasons_equal_the_reference(packets: list[Packet]) -> None:
    """An end that the capture shows has its reason; only what lies beyond the clock is forced."""
    found = {(s.key, s.origin, s.number): s.reason for s in as_slices(assemble(packets, OPTIONS))}
    assert found == {(s.key, s.origin, s.number): s.reason for s in reference(packets)}


@settings(max_examples=300)
@given(PACKETS, CUTS, st.sampled_from([1, 1, 3, 1 << 18]))
def test_cuts_and_hold_do_not_matter(packets: list[Packet], cuts: list[int], hold: int) -> None:
    """Split into any blocks, held for any time: bit-equal flows and packets, in the same order."""
    whole = assemble(packets, OPTIONS)
    inside = [cut for cut in cuts if cut < len(packets)]
    other = assemble(packets, OPTIONS, hold=hold, cuts=inside)
    for one, two in ((whole.flows, other.flows), (whole.packets, other.packets)):
        for name, a, b in zip(one.names(), one.columns(), two.columns(), strict=True):
            assert a.dtype == b.dtype, name
            assert a.tolist() == b.tolist(), name


@settings(max_examples=100)
@given(PACKETS, CUTS, st.sampled_from([1, 3, 1 << 18]))
def test_every_packet_leaves_once(packets: list[Packet], cuts: list[int], hold: int) -> None:
    """No packet is lost or counted twice, whatever the flags, gaps and cuts."""
    inside = [cut for cut in cuts if cut < len(packets)]
    batch = assemble(packets, OPTIONS, hold=hold, cuts=inside)
    assert sorted(batch.packets.seq.tolist()) == list(range(len(packets)))
    assert batch.flows.packets.sum() == len(packets)
    order = np.argsort(batch.packets.seq)
    assert batch.packets.time[order].tolist() == [p.time for p in packets]
    assert batch.packets.payload[order].tolist() == [p.payload for p in packets]


def test_the_random_packets_reach_every_case() -> None:
    """The comparison would prove little if its packets met no timeout, slice, reuse or epoch."""
    pick = Random(7).choice
    reasons: set[int] = set()
    bases: set[int] = set()
    numbers: set[int] = set()
    several_epochs = reused = 0
    for _ in range(100):
        specs: list[Spec] = []
        for _ in range(40):
            gap = (pick(GAPS), pick(BESIDE))
            ends, protocol = pick(ENDS), pick(PROTOCOLS)
            flags, hint = pick(FLAGS), pick(HINTS)
            specs.append((gap, ends, protocol, flags, hint))
        packets = packets_of(specs)
        slices = reference(packets)
        assert settled(as_slices(assemble(packets, OPTIONS))) == settled(slices)
        several_epochs += len(epochs(packets)) > 1
        reasons |= {s.reason for s in slices}
        bases |= {s.basis for s in slices}
        numbers |= {s.number for s in slices}
        firsts = [packets[s.packets[0][0]] for s in slices]
        reused += any(
            opens(p) and s.number == 0 and any(o.key == s.key and o.ended == p.time for o in slices)
            for s, p in zip(slices, firsts, strict=True)
        )
    assert reasons == {1, 2, 3, 4}
    assert bases == {1, 2, 3, 4}
    assert {0, 1, 2} <= numbers
    assert several_epochs > 20
    assert reused > 20
