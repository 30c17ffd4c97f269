"""Record framing: exact offsets, lengths, times and link types of every format.

What is found behind damage is in ``test_resync``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmflow.capture.account import DAMAGED_RECORD, TRUNCATED_CAPTURE
from llmflow.capture.framing import open_framer
from llmflow.capture.pcapng import MOST_INTERFACES
from llmflow.capture.records import NO_TIME, Damage, Framer, Records
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


def whole(data: bytes) -> tuple[list[tuple[int, bytes, int, int]], list[Damage]]:
    """(time, captured bytes, wire length, link) of all records, fed at once; and the damage."""
    found, body = framer(data)
    records, _, damage = found.feed(body, last=True)
    return rows(records, body), damage


def rows(records: Records, body: bytes) -> list[tuple[int, bytes, int, int]]:
    """Records with the bytes they point at."""
    table = zip(*(column.tolist() for column in records.columns()), strict=True)
    return [(time, body[at : at + size], wire, link) for at, size, wire, time, link in table]


def pieces(data: bytes, cuts: list[int]) -> tuple[list[tuple[int, bytes, int, int]], list[Damage]]:
    """The same records, fed in pieces; and the damage, with its places in the capture."""
    found, body = framer(data)
    out: list[tuple[int, bytes, int, int]] = []
    places: list[Damage] = []
    pending, done = b"", 0
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    feeds = [(body[a:b], False) for a, b in pairwise(edges)]
    for piece, last in [*feeds, (b"", True)]:
        pending += piece
        records, used, damage = found.feed(pending, last=last)
        out += rows(records, pending)
        places += [Damage(d.reason, done + d.offset, d.what) for d in damage]
        pending, done = pending[used:], done + used
    return out, places


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
    assert not damage


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("magic", "tick", "record", "file"),
    [
        (0xA1B2CD34, 1000, 8, 0),  # Kuznetzov's libpcap: more in front of each frame
        (0x1C0001AC, 1, 0, 4),  # Ixia's: a size behind the file header
        (0x1C0001AB, 1000, 0, 4),
    ],
)
def test_pcap_with_larger_headers(
    order: str, magic: int, tick: int, record: int, file: int
) -> None:
    """Other writers' headers have more in them than the usual ones."""
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1) + bytes(file)
    for number, packet in enumerate(FRAMES):
        sizes = struct.pack(order + "IIII", 1_700_000_000 + number, 5, len(packet), len(packet))
        data += sizes + bytes(record) + packet
    times = [START + number * SECOND + 5 * tick for number in range(len(FRAMES))]
    assert whole(data) == ([(t, f, len(f), 1) for t, f in zip(times, FRAMES, strict=True)], [])


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
    assert not damage


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
    assert not damage


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
    assert not damage


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


@pytest.mark.parametrize("order", ORDERS)
def test_pcapng_interface_names(order: str) -> None:
    """Each name once, in order, though sections repeat them; pcap has none."""
    other = block(1, struct.pack(order + "HHIHH3s", 1, 0, 0, 2, 3, b"lo0"), order=order)
    usual = section(order=order) + interface(order=order)
    found, body = framer(usual + other + usual)
    found.feed(body, last=True)
    assert found.interfaces() == ["eth0", "lo0"]
    assert framer(PCAP)[0].interfaces() == []


def test_pcapng_passes_over_other_blocks() -> None:
    """Names, statistics, journal, secrets, custom, private and unknown blocks hold no packets."""
    kinds = 4, 5, 9, 10, 0xBAD, 0x80000001, 0x12345678
    others = b"".join(block(kind, b"12345678") for kind in kinds)
    data = section() + others + interface() + others + enhanced(1, b"a") + others
    out, damage = whole(data)
    assert [d for _, d, _, _ in out] == [b"a"]
    assert not damage


@pytest.mark.parametrize(
    ("tail", "what"),
    [
        (struct.pack("<II", 6, 13) + bytes(20), "claims 13 bytes"),
        (struct.pack("<II", 6, 8) + bytes(20), "claims 8 bytes"),
        (struct.pack("<II", 6, 1 << 30) + bytes(20), f"claims {1 << 30} bytes"),
        (
            block(5, b"abcd")[:-4] + struct.pack("<I", 20) + bytes(12),
            "16 bytes does not end in its length",
        ),
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
    """A block that contradicts itself is one damaged place, which says what is wrong."""
    front = section() + interface() + enhanced(1, b"a")
    out, damage = whole(front + tail + enhanced(2, b"b"))
    assert [d for _, d, _, _ in out] == [b"a", b"b"]
    assert [(d.reason, d.offset) for d in damage] == [(DAMAGED_RECORD, len(front))]
    assert what in damage[0].what


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ((0, 0, 1 << 25, 60), f"claims {1 << 25} bytes"),
        ((START // SECOND, 0, 60, 59), "leads to no other"),  # more captured than there was
        ((START // SECOND, 1_000_000, 60, 60), "leads to no other"),  # a fraction of a second
        ((START // SECOND + 90_000, 0, 60, 60), "leads to no other"),  # a day later
    ],
)
def test_pcap_damage_is_named(header: tuple[int, ...], what: str) -> None:
    """A record that cannot be, and leads nowhere, is damage; what came before it is kept."""
    data = pcap(RECORDS[:2])
    out, damage = whole(data + struct.pack("<IIII", *header) + b"\xff" * 500)
    assert len(out) == 2
    assert [(d.reason, d.offset) for d in damage] == [(DAMAGED_RECORD, len(data) - 24)]
    assert what in damage[0].what


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
        kept = sum(end <= size for end in ends) - 1
        skip = 24 if name == "pcap" else 0
        assert out == whole(data)[0][:kept]
        cut = [] if size in ends else [(TRUNCATED_CAPTURE, ends[kept] - skip)]
        assert [(d.reason, d.offset) for d in damage] == cut


@given(st.sampled_from([PCAP, PCAPNG, MIXED]), st.lists(st.integers(0, 1 << 16), max_size=12))
def test_records_do_not_depend_on_the_feeds(data: bytes, cuts: list[int]) -> None:
    """Fed in any pieces, the records are the same."""
    assert pieces(data, cuts) == (whole(data)[0], [])


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
    """A damaged capture, fed in any pieces, gives the same records, reasons and places."""
    damaged = bytearray(data)
    damaged[place % len(data)] = value if place % len(data) >= 24 else damaged[place % len(data)]
    broken = bytes(damaged[:size])
    assert pieces(broken, cuts) == whole(broken)


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


def test_a_damaged_interface_keeps_its_number() -> None:
    """Packets of a damaged interface are damage; those of the next keep their own link type."""
    data = section() + interface(resolution=0x7F) + interface(link=101)
    out, damage = whole(data + enhanced(1, b"eth", port=0) + enhanced(2, b"raw", port=1))
    assert [(captured, link) for _, captured, _, link in out] == [(b"raw", 101)]
    assert len(damage) == 2


def test_interfaces_without_end_are_damage() -> None:
    """Interface blocks pack a thousandfold, so what is kept of them has a limit."""
    more = 3
    found, data = framer(section() + interface() * (MOST_INTERFACES + more))
    _, used, damage = found.feed(data, last=True)
    assert used == len(data)
    assert [place.reason for place in damage] == [DAMAGED_RECORD] * more
