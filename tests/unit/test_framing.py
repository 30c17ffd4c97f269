"""Record framing: exact offsets, lengths, times and link types of every format."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmflow.capture.account import DAMAGED_RECORD, TRUNCATED_CAPTURE
from llmflow.capture.framing import NO_TIME, Damage, Framer, Records, open_framer
from llmflow.errors import CaptureError
from tests.builders import (
    SECOND,
    START,
    block,
    enhanced,
    frame,
    interface,
    obsolete,
    pcap,
    section,
    simple,
)

ORDERS = ["<", ">"]
FRAMES = [frame(b"a" * n) for n in (0, 1, 2, 3, 1400)]  # every padding
RECORDS = [(START + i * 1_000_003_000, data) for i, data in enumerate(FRAMES)]


def framer(data: bytes) -> tuple[Framer, bytes]:
    """The framer of a capture, and what it is fed."""
    found, skip = open_framer(data[:64], "test")
    return found, data[skip:]


def whole(data: bytes) -> tuple[list[tuple[int, bytes, int, int]], Damage | None]:
    """(time, captured bytes, wire length, link) of all records, fed at once; and the damage."""
    found, body = framer(data)
    records, _, damage = found.feed(body, last=True)
    return rows(records, body), damage


def rows(records: Records, body: bytes) -> list[tuple[int, bytes, int, int]]:
    """Records with the bytes they point at."""
    table = zip(*(column.tolist() for column in records.columns()), strict=True)
    return [(time, body[at : at + size], wire, link) for at, size, wire, time, link in table]


def pieces(data: bytes, cuts: list[int]) -> tuple[list[tuple[int, bytes, int, int]], str, int]:
    """The same records, fed in pieces; with the damage's reason and place in the capture."""
    found, body = framer(data)
    out: list[tuple[int, bytes, int, int]] = []
    pending, done = b"", 0
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    feeds = [(body[a:b], False) for a, b in pairwise(edges)]
    for piece, last in [*feeds, (b"", True)]:
        pending += piece
        records, used, damage = found.feed(pending, last=last)
        out += rows(records, pending)
        if damage:
            return out, damage.reason, done + damage.offset
        pending, done = pending[used:], done + used
    return out, "", 0


def expected(tick: int = 1) -> list[tuple[int, bytes, int, int]]:
    """What RECORDS must come out as, at a resolution of ``tick`` ns."""
    return [(time // tick * tick, data, len(data), 1) for time, data in RECORDS]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("nano", "tick"), [(False, 1000), (True, 1)])
def test_pcap(order: str, nano: bool, tick: int) -> None:
    """Micro- and nanosecond pcap in both byte orders give the same records."""
    stamped = [(time + 789, data) for time, data in RECORDS]
    out, damage = whole(pcap(stamped, order=order, nano=nano))
    times = [(time + 789) // tick * tick for time, _ in RECORDS]
    assert out == [(t, d, len(d), 1) for t, (_, d) in zip(times, RECORDS, strict=True)]
    assert damage is None


def test_pcap_offsets_are_exact() -> None:
    """Offsets count from the front of the block that was fed, record headers passed over."""
    found, body = framer(pcap([(START, b"abcd"), (START, b""), (START, b"xyz")]))
    records, used, _ = found.feed(body, last=True)
    assert records.offset.tolist() == [16, 36, 52]
    assert used == len(body) == 55


def test_pcap_snaplen_keeps_the_wire_length() -> None:
    """A frame cut by the snaplen says how long it was."""
    out, damage = whole(pcap([(START, bytes(1500))], snaplen=96))
    assert out == [(START, bytes(96), 1500, 1)]
    assert damage is None


@pytest.mark.parametrize("link", [1, 101, 276])
def test_pcap_link_type_without_fcs_bits(link: int) -> None:
    """The upper bits of the link type field tell of a frame check sequence, not of the link."""
    assert whole(pcap(RECORDS, link=link | 0x2400_0000))[0][0][3] == link


def test_pcap_times_reach_2106() -> None:
    """Seconds are unsigned: captures do not end in 2038."""
    late = ((1 << 32) - 1) * SECOND + 999_999_999
    assert whole(pcap([(late, b"x")], nano=True))[0][0][0] == late


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("packet", [enhanced, obsolete])
def test_pcapng(order: str, packet: Callable[..., bytes]) -> None:
    """Enhanced and obsolete packet blocks, both byte orders, microseconds by default."""
    data = section(order=order) + interface(order=order)
    data += b"".join(packet(time // 1000, frame, order=order) for time, frame in RECORDS)
    out, damage = whole(data)
    assert out == expected(1000)
    assert damage is None


@pytest.mark.parametrize(
    ("resolution", "ticks", "time"),
    [
        (None, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (0, 1_700_000_000, 1_700_000_000_000_000_000),
        (3, 1_700_000_000_123, 1_700_000_000_123_000_000),
        (6, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (9, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (10, 17_000_000_001_234_567_899, 1_700_000_000_123_456_789),
        (0x80 | 20, (1_700_000_000 << 20) + 1, 1_700_000_000_000_000_953),
        (0x80 | 32, (1_700_000_000 << 32) + (1 << 31), 1_700_000_000_500_000_000),
    ],
)
def test_pcapng_time_resolution(resolution: int | None, ticks: int, time: int) -> None:
    """if_tsresol in powers of ten and of two, exact to the nanosecond, rounded down."""
    data = section() + interface(resolution=resolution) + enhanced(ticks, b"x")
    assert whole(data)[0][0][0] == time


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("offset", [-3600, 0, 1_600_000_000])
def test_pcapng_time_offset(order: str, offset: int) -> None:
    """if_tsoffset is added in seconds, whatever the resolution."""
    port = interface(order=order, resolution=9, offset=offset)
    data = section(order=order) + port + enhanced(7200 * SECOND + 5, b"x", order=order)
    assert whole(data)[0][0][0] == (7200 + offset) * SECOND + 5


@pytest.mark.parametrize("offset", [-2, 1 << 40])
def test_pcapng_time_that_cannot_be(offset: int) -> None:
    """A time before 1970 or far beyond any clock is marked, not wrapped around."""
    data = section() + interface(offset=offset) + enhanced(1_000_000, b"x")
    assert whole(data)[0][0][0] == NO_TIME


def test_pcapng_interfaces_have_their_own_link_and_clock() -> None:
    """Packets of several interfaces interleave, each with its link type and resolution."""
    data = section() + interface(link=1, resolution=9) + interface(link=101)
    data += enhanced(5, b"a") + enhanced(5, b"b", port=1) + enhanced(6, b"c")
    out, _ = whole(data)
    assert [(t, d, link) for t, d, _, link in out] == [
        (5, b"a", 1),
        (5000, b"b", 101),
        (6, b"c", 1),
    ]


def test_pcapng_section_forgets_interfaces_and_byte_order() -> None:
    """A new section (files joined by cat) numbers its interfaces anew, in its own byte order."""
    data = section() + interface(link=1) + enhanced(1, b"a")
    data += section(order=">") + interface(link=113, order=">") + enhanced(2, b"b", order=">")
    data += section() + interface(link=276) + enhanced(3, b"c")
    out, damage = whole(data)
    assert [(d, link) for _, d, _, link in out] == [(b"a", 1), (b"b", 113), (b"c", 276)]
    assert damage is None


@pytest.mark.parametrize("order", ORDERS)
def test_pcapng_simple_packets(order: str) -> None:
    """Simple packet blocks: interface 0, its snaplen, and the time of the packet before."""
    data = section(order=order) + interface(order=order, link=101, snaplen=3)
    data += enhanced(9, b"", order=order) + simple(b"abc", wire=60, order=order)
    data += simple(b"xy", order=order)
    assert whole(data)[0][1:] == [(9000, b"abc", 60, 101), (9000, b"xy", 2, 101)]


def test_pcapng_simple_packet_without_snaplen() -> None:
    """A snaplen of 0 means no limit: the block's length says what was kept."""
    assert whole(section() + interface() + simple(b"abcd", wire=60))[0] == [(0, b"abcd", 60, 1)]


def test_pcapng_passes_over_other_blocks() -> None:
    """Name resolution, statistics, secrets and private blocks hold no packets."""
    others = b"".join(block(kind, b"12345678") for kind in (4, 5, 10, 0x80000001))
    data = section() + others + interface() + others + enhanced(1, b"a") + others
    out, damage = whole(data)
    assert [d for _, d, _, _ in out] == [b"a"]
    assert damage is None


@pytest.mark.parametrize(
    ("tail", "what"),
    [
        (struct.pack("<II", 6, 13) + bytes(20), "claims 13 bytes"),
        (struct.pack("<II", 6, 8) + bytes(20), "claims 8 bytes"),
        (struct.pack("<II", 6, 1 << 30) + bytes(20), f"claims {1 << 30} bytes"),
        (block(5, b"abcd")[:-4] + struct.pack("<I", 20), "16 bytes ends in the length 20"),
        (enhanced(1, b"x", port=1), "interface 1 of 1"),
        (block(6, struct.pack("<IIIII", 0, 0, 0, 999, 999) + b"abcd"), "999 bytes lies in 4"),
        (block(6, b"abcd"), "20 bytes"),
        (block(3, b""), "4 bytes"),
        (block(1, b"abcd"), "8 bytes"),
        (interface(resolution=0x7F), "time resolution 0x7f"),
        (block(0x0A0D0D0A, b"\0" * 16), "byte-order magic"),
    ],
)
def test_pcapng_damage_is_named(tail: bytes, what: str) -> None:
    """A block that contradicts itself stops the reading there, and says what is wrong."""
    front = section() + interface() + enhanced(1, b"a")
    out, damage = whole(front + tail + enhanced(2, b"b"))
    assert [d for _, d, _, _ in out] == [b"a"]
    assert damage is not None
    assert (damage.reason, damage.offset) == (DAMAGED_RECORD, len(front))
    assert what in damage.what


def test_pcap_damage_is_named() -> None:
    """A record longer than any packet is damage; what came before it is kept."""
    data = pcap(RECORDS[:2])
    out, damage = whole(data + struct.pack("<IIII", 0, 0, 1 << 25, 60) + bytes(500))
    assert len(out) == 2
    assert damage is not None
    assert (damage.reason, damage.offset) == (DAMAGED_RECORD, len(data) - 24)
    assert str(1 << 25) in damage.what


PCAP = pcap(RECORDS)
PCAPNG = section() + interface() + b"".join(enhanced(t // 1000, d) for t, d in RECORDS)
MIXED = (
    PCAPNG
    + section(order=">")
    + interface(order=">", link=101, resolution=9)
    + obsolete(START, b"abc", order=">")
    + simple(b"abcde", order=">")
    + block(5, b"1234", order=">")
)
ENDS = {
    "pcap": [24 + sum(16 + len(f) for f in FRAMES[:n]) for n in range(len(FRAMES) + 1)],
    "pcapng": [
        len(section() + interface()) + sum(len(enhanced(0, f)) for f in FRAMES[:n])
        for n in range(len(FRAMES) + 1)
    ],
}


@pytest.mark.parametrize(("name", "data"), [("pcap", PCAP), ("pcapng", PCAPNG)])
def test_truncated_anywhere(name: str, data: bytes) -> None:
    """Cut at any byte, the whole records in front of the cut are kept and the cut is reported."""
    ends = ENDS[name]
    for size in range(ends[0], len(data) + 1):
        out, damage = whole(data[:size])
        assert len(out) == sum(end <= size for end in ends) - 1
        assert (damage is None) == (size in ends)
        assert damage is None or damage.reason == TRUNCATED_CAPTURE


@given(st.sampled_from([PCAP, PCAPNG, MIXED]), st.lists(st.integers(0, 1 << 16), max_size=12))
def test_records_do_not_depend_on_the_feeds(data: bytes, cuts: list[int]) -> None:
    """Fed in any pieces, the records are the same."""
    assert pieces(data, cuts) == (whole(data)[0], "", 0)


@given(
    st.sampled_from([PCAP, PCAPNG, MIXED]),
    st.lists(st.integers(0, 1 << 16), max_size=6),
    st.integers(24, 4000),
    st.integers(0, 255),
    st.integers(24, 4000),
)
def test_damage_does_not_depend_on_the_feeds(
    data: bytes, cuts: list[int], place: int, value: int, size: int
) -> None:
    """A damaged capture, fed in any pieces, gives the same records, reason and place."""
    damaged = bytearray(data)
    damaged[place % len(data)] = value if place % len(data) >= 24 else damaged[place % len(data)]
    broken = bytes(damaged[:size])
    out, damage = whole(broken)
    assert pieces(broken, cuts) == (
        out,
        damage.reason if damage else "",
        damage.offset if damage else 0,
    )


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"", "empty"),
        (b"\x1f\x8b\x08\x00", "not a pcap or pcapng capture.*1f 8b 08 00"),
        (b"\xd4\xc3", "not a pcap or pcapng capture"),
        (PCAP[:23], "cut short at 23 of 24 bytes"),
        (b"\n\r\r", "not a pcap or pcapng capture"),
        (b"P", "not a pcap"),
    ],
)
def test_no_capture(head: bytes, message: str) -> None:
    """What is no capture is refused in words that name the file and the reason."""
    with pytest.raises(CaptureError, match=f"^somewhere: .*{message}"):
        open_framer(head, "somewhere")
