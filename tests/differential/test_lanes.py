"""Two lanes, one truth: the vectorised lane against the dpkt lane, column by column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.capture import dpkt_lane, lanes, numpy_lane
from llmflow.capture.dpkt_lane import Tunnels
from llmflow.capture.framing import open_framer
from llmflow.capture.records import Records
from tests.hostile import FRAMES

PCAPS = sorted((Path(__file__).parents[2] / "pcaps").glob("*.pcap"))
MODES: tuple[Tunnels, ...] = ("inner", "outer")


def frame(data: bytes) -> tuple[bytes, Records]:
    framer, skip = open_framer(data, "test")
    return data[skip:], framer.feed(data[skip:], last=True)[0]


def assert_same(block: bytes, records: Records) -> None:
    for tunnels in MODES:
        slow, slow_skipped = dpkt_lane.decode(block, records, 5, tunnels)
        fast, fast_skipped = lanes.decode(block, records, 5, tunnels)
        assert +slow_skipped == +fast_skipped
        for name, a, b in zip(slow.names(), slow.columns(), fast.columns(), strict=True):
            assert a.dtype == b.dtype, name
            assert np.array_equal(a, b), name


@pytest.mark.parametrize("path", PCAPS, ids=lambda path: path.stem)
def test_lanes_agree_on_the_captures(path: Path) -> None:
    """Both lanes give the same columns, and the fast one takes nearly all packets."""
    block, records = frame(path.read_bytes())
    assert_same(block, records)
    _, _, rest = numpy_lane.decode(block, records, 0)
    assert len(rest) <= len(records) // 20


HEADERS = [frame(path.read_bytes()) for path in PCAPS]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.integers(0, len(HEADERS) - 1),
    st.lists(st.tuples(st.integers(0, 59), st.integers(0, 200), st.integers(0, 255)), max_size=40),
    st.sampled_from([None, 10, 20, 34, 41, 54, 60, 70]),
)
def test_lanes_agree_on_mutated_headers(
    number: int, changes: list[tuple[int, int, int]], snaplen: int | None
) -> None:
    """Whatever stands in the headers, and wherever they are cut: the same columns and reasons."""
    block, records = HEADERS[number]
    records = records.take(slice(0, 201))
    changed = bytearray(block)
    for place, packet, value in changes:
        at = int(records.offset[packet % len(records)]) + place
        if at < len(changed):
            changed[at] = value
    if snaplen is not None:
        cut = np.minimum(records.captured, snaplen)
        records = Records(records.offset, cut, records.wire, records.time, records.link)
    assert_same(bytes(changed), records)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from(FRAMES),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=6),
    st.integers(0, 300),
)
def test_lanes_agree_on_every_link_type_and_tunnel(
    framed: tuple[int, bytes], changes: list[tuple[int, int]], cut: int
) -> None:
    """Whole, with other bytes in any of the headers, and cut by a snaplen or by nature."""
    link, frame = framed
    changed = bytearray(frame)
    for place, value in changes:
        changed[place % len(frame)] = value
    kept, size = min(cut, len(frame)), len(frame)
    rows = [(0, size, size, 0, link), (size, size, size, 1, link)]
    rows += [(size, kept, size, 2, link), (size, kept, kept, 3, link)]
    assert_same(frame + bytes(changed), Records.from_rows(rows))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(max_size=120), st.sampled_from([0, 1, 12, 101, 113, 147]))
def test_lanes_agree_on_noise(noise: bytes, link: int) -> None:
    """Packets of any bytes never get behind the end of the block, on either lane."""
    sizes = [len(noise), 0, min(len(noise), 14)]
    rows = [(len(noise) - size, size, size, 0, link) for size in sizes]
    assert_same(noise, Records.from_rows(rows))
