"""Many blocks of pcapng at once against one by one: the same records, damage, bytes and names."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.arrays import I64
from llmflow.capture import chains, pcapng
from llmflow.capture.interfaces import Table
from llmflow.capture.pcapng import PcapngFramer
from tests.builders import block, enhanced, interface, obsolete, section, simple
from tests.hostile import EDITS, mutate

Build = Callable[[str], bytes]  # byte order -> blocks


class Plain(PcapngFramer):
    """The plain walk: every block by itself."""

    def _look_ahead(self, block: bytes, at: int, stop: int) -> tuple[dict[int, I64], int]:
        del at, stop
        return {}, len(block)


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Small captures have long runs and many chains, too."""
    with (
        patch.multiple(pcapng, _FEW=2, _NEAR=48),
        patch.multiple(chains, _STRETCH=128, _WINDOW=64, _LEAST_CHAINS=2),
    ):
        yield


def framed(framer: PcapngFramer, data: bytes, cuts: list[int]) -> list[object]:
    """All that comes out when the capture is fed in pieces."""
    out: list[object] = []
    pending = b""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for piece, last in [*((data[a:b], False) for a, b in pairwise(edges)), (b"", True)]:
        pending += piece
        records, used, damage = framer.feed(pending, last=last)
        assert all(column.dtype == np.int64 for column in records.columns())
        out += [[column.tolist() for column in records.columns()], used, damage]
        pending = pending[used:]
    return [*out, framer.interfaces(), framer.clock, framer.lost]


def assert_same(data: bytes, cuts: list[int]) -> None:
    assert framed(PcapngFramer(), data, cuts) == framed(Plain(), data, cuts)


OPTIONS = struct.pack("<HHI", 2, 4, 1) + bytes(4)  # epb_flags; any bytes do, nobody reads them
TICKS = st.one_of(st.integers(0, (1 << 64) - 1), st.integers(1 << 50, 1 << 51))
OFFSETS = st.one_of(st.none(), st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-5000, 5000))
PORTS = st.sampled_from([0, 0, 0, 1, 2, 70_000])
DATA = st.binary(max_size=70)


def packet(kind: int, port: int, ticks: int, data: bytes, tail: bytes, more: int) -> Build:
    """A block with a packet, options behind it, and a captured length that may be too large."""

    def build(order: str) -> bytes:
        sizes = len(data) + more, len(data) + 7
        stamp = ticks >> 32, ticks & 0xFFFFFFFF
        if kind == 6:
            head = struct.pack(order + "IIIII", port, *stamp, *sizes)
        elif kind == 2:
            head = struct.pack(order + "HHIIII", port & 0xFFFF, port >> 16, *stamp, *sizes)
        else:
            head = struct.pack(order + "I", len(data) + more)
        return block(kind, head + data + bytes(-len(data) % 4) + tail, order=order)

    return build


PACKETS = st.builds(
    packet,
    st.sampled_from([6, 6, 6, 3, 2]),
    PORTS,
    TICKS,
    DATA,
    st.sampled_from([b"", OPTIONS]),
    st.sampled_from([0, 0, 0, 0, 9, 1 << 31]),
)
OTHERS = st.builds(
    lambda kind, data: lambda order: block(kind, data, order=order),
    st.sampled_from([4, 5, 9, 10, 0xBAD, 0x40000BAD, 0x80000001, 0x12345678, 0, 1, 2, 3, 6]),
    DATA,
)


def unpadded(data: bytes, order: str) -> bytes:
    """A block whose lengths agree, but are no multiple of four."""
    length = struct.pack(order + "I", len(data) + 12)
    return struct.pack(order + "I", 6) + length + data + length


UNPADDED = st.builds(lambda data: lambda order: unpadded(data, order), DATA)
INTERFACES = st.builds(
    lambda link, snaplen, resolution, offset: (
        lambda order: interface(
            order=order, link=link, snaplen=snaplen, resolution=resolution, offset=offset
        )
    ),
    st.sampled_from([0, 1, 101, 65535]),
    st.sampled_from([0, 20, 1 << 18, (1 << 32) - 1]),
    st.one_of(st.none(), st.sampled_from([6, 9, 0x80 | 32]), st.integers(0, 255)),
    OFFSETS,
)
RUNS = st.builds(
    lambda builds, times: lambda order: b"".join(build(order) for build in builds) * times,
    st.lists(st.one_of(*[PACKETS] * 6, OTHERS, OTHERS, UNPADDED), min_size=1, max_size=5),
    st.integers(1, 6),
)
SECTIONS = st.builds(
    lambda order, ports, runs: (
        section(order=order) + b"".join(build(order) for build in [*ports, *runs])
    ),
    st.sampled_from("<>"),
    st.lists(INTERFACES, max_size=3),
    st.lists(st.one_of(RUNS, RUNS, RUNS, INTERFACES), max_size=6),
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(SECTIONS, min_size=1, max_size=3).map(b"".join),
    st.one_of(st.just([]), EDITS),
    st.lists(st.integers(0, 1 << 16), max_size=5),
)
def test_any_capture_gives_the_plain_walk(
    data: bytes, edits: list[tuple[float, str, int]], cuts: list[int]
) -> None:
    """Sections, interfaces and blocks of every kind, damaged and cut anywhere."""
    assert_same(mutate(data, edits), cuts)


@pytest.mark.parametrize("snaplen", [0, 8, 60, 400])
@pytest.mark.parametrize("order", "<>")
def test_simple_packets_are_cut_by_the_first_interface(order: str, snaplen: int) -> None:
    """Their captured length follows from the wire's, the snapshot length and the block's."""
    head = section(order=order) + interface(order=order, snaplen=snaplen) + interface(order=order)
    stamped = enhanced(7, b"x" * 30, order=order, port=1)
    packets = [simple(bytes(60), order=order, wire=wire) for wire in (3, 60, 300, 1 << 31)]
    assert_same(head + (stamped + b"".join(packets)) * 20, [])


@pytest.mark.parametrize("order", "<>")
def test_lengths_that_are_no_multiple_of_four_are_damage(order: str) -> None:
    """Also where both lengths agree and other blocks follow."""
    good = enhanced(5, b"x" * 9, order=order)
    head = section(order=order) + interface(order=order)
    data = head + (good * 9 + unpadded(bytes(33), order)) * 9
    assert_same(data, [300, 1000])
    assert len(PcapngFramer().feed(data, last=True)[2]) == 9


@pytest.mark.parametrize("order", "<>")
def test_wrong_second_lengths_do_not_part_the_lanes(order: str) -> None:
    """Blocks with two lengths are believed or not as when walked; the next ones are in step."""
    good = enhanced(5, b"x" * 9, order=order)
    wrong = good[:-4] + struct.pack(order + "I", 99)
    head = section(order=order) + interface(order=order)
    assert_same(head + (good * 9 + wrong) * 9 + wrong * 9, [300, 1000])


COMMON: dict[str, Build] = {
    "enhanced": lambda order: enhanced(1 << 50, b"abc" * 20, order=order),
    "obsolete": lambda order: obsolete(1 << 50, b"abc" * 20, order=order),
    "simple": lambda order: simple(b"abc" * 20, order=order),
    "between statistics": lambda order: (
        enhanced(1 << 50, b"abc" * 20, order=order) + block(5, bytes(40), order=order)
    ),
}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", COMMON)
def test_common_blocks_are_not_taken_one_by_one(order: str, name: str) -> None:
    """Per capture a few blocks are: the section, the interface, the end."""
    data = section(order=order) + interface(order=order) + COMMON[name](order) * 2000
    with patch.object(PcapngFramer, "_one", autospec=True, side_effect=PcapngFramer._one) as one:
        records, used, damage = PcapngFramer().feed(data, last=True)
    assert (len(records), used, damage) == (2000, len(data), [])
    assert one.call_count <= 4


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", COMMON)
def test_guesses_are_blocks(order: str, name: str) -> None:
    """Each stretch of a sound capture has a chain of its own, which begins where a block does."""
    piece = COMMON[name](order)
    data = piece * 200
    words = chains.unaligned(data, f"{order}u4")
    stride = 2 * len(piece)
    found = PcapngFramer(order)._guess(words, 4, stride, stride)
    assert len(found) > 90
    first = block(5, bytes(40)) if "statistics" in name else b""
    ends = {0, len(piece) - len(first)}
    assert {at % len(piece) for at in found.tolist()} <= ends


def test_damaged_packets_cost_only_themselves() -> None:
    """In a run, packets of unknown interfaces and impossible lengths are named in their order."""
    head = section() + interface()
    good, stray = enhanced(1, b"abc"), enhanced(2, b"abc", port=3)
    long = packet(6, 0, 3, b"abc", b"", 999)("<")
    data = head + good * 3 + stray + good + long + good * 3
    records, _, damage = PcapngFramer().feed(data, last=True)
    assert len(records) == 7
    assert [found.what for found in damage] == [
        "a packet names interface 3 of 1",
        "a packet of 1002 bytes lies in 4 bytes",
    ]
    assert_same(data, [])


@pytest.mark.parametrize(
    "piece",
    [
        struct.pack("<II", 0x77, 1 << 31) + b"x" + block(5, b"") * 3,
        struct.pack("<II", 0x77, 13) + b"x" + block(5, b"") * 3,
        # A block that ends in a wrong length, and chains up with others if it is believed.
        struct.pack("<9I", 5, 16, 0, 13, 0x99, 20, 0, 0, 0) + block(5, b"") * 2,
        section(order=">") + interface(order=">") + section() + interface() + enhanced(1, b"a"),
    ],
    ids=["impossible length", "odd length", "derailed", "changing byte order"],
)
def test_damage_does_not_make_looking_ahead_dear(piece: bytes) -> None:
    """What is looked at in vain stays in proportion to the capture."""
    data = section() + interface() + piece * 1000
    seen = 0
    look_ahead = PcapngFramer._look_ahead

    def counted(self: PcapngFramer, block: bytes, at: int, stop: int) -> tuple[dict[int, I64], int]:
        nonlocal seen
        seen += min(stop, len(block)) - at
        return look_ahead(self, block, at, stop)

    with patch.object(PcapngFramer, "_look_ahead", counted):
        PcapngFramer().feed(data, last=True)
    assert seen <= 6 * len(data)
    assert_same(data, [])


def test_more_interfaces_than_packets() -> None:
    """Runs shorter than the list of interfaces are walked: no table is made for each."""
    data = section() + interface() * 50 + (enhanced(1, b"a", port=49) * 5 + interface()) * 20
    assert_same(data, [])
    with patch.object(Table, "of", side_effect=Table.of) as table:
        records, _, damage = PcapngFramer().feed(data, last=True)
    assert (len(records), damage) == (100, [])
    assert not table.called
