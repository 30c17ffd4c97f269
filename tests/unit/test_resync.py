"""Going on behind damage: what is found again, and that reading in blocks changes nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.capture.account import DAMAGED_RECORD, PacketAccount
from llmflow.capture.chains import Chain
from llmflow.capture.columns import UDP, PacketColumns
from llmflow.capture.reader import read_packets, read_records
from llmflow.errors import CaptureError
from tests import builders
from tests.builders import (
    SECOND,
    START,
    block,
    ethernet,
    interface,
    ipv4,
    ipv6,
    obsolete,
    section,
    simple,
    tcp,
    udp,
)
from tests.hostile import EDITS, Edit, mutate

FRAME = ethernet(ipv4(udp(bytes(12), sport=4000, dport=53), protocol=UDP))
COUNT = 12


def frames(count: int = COUNT) -> list[bytes]:
    return [FRAME + bytes([7] * number) for number in range(count)]


def pcap(packets: list[bytes], order: str = "<") -> bytes:
    stamped = [(START + number * SECOND + 5000, frame) for number, frame in enumerate(packets)]
    return builders.pcap(stamped, order=order)


def enhanced(frame: bytes, number: int, order: str = "<", port: int = 0) -> bytes:
    return builders.enhanced((START + number * SECOND) // 1000, frame, order=order, port=port)


def pcapng(packets: list[bytes], order: str = "<") -> bytes:
    parts = [enhanced(frame, number, order) for number, frame in enumerate(packets)]
    return section(order=order) + interface(order=order) + b"".join(parts)


def write(folder: Path, data: bytes) -> Path:
    path = folder / "capture"
    path.write_bytes(data)
    return path


def read(path: Path, block_bytes: int = 1 << 20) -> tuple[list[bytes], PacketAccount]:
    """Frames and account."""
    account = PacketAccount()
    found: list[bytes] = []
    for data, records, position in read_records([path], account, block_bytes=block_bytes):
        assert position == len(found)
        for offset, captured in zip(
            records.offset.tolist(), records.captured.tolist(), strict=True
        ):
            found.append(data[offset : offset + captured])
    return found, account


def test_a_block_whose_second_length_is_wrong_is_read_where_another_follows(
    tmp_path: Path,
) -> None:
    """Other readers ignore the second length; here the next block must prove the first one."""
    head = section() + interface()
    wrong = enhanced(FRAME, 0)[:-4] + struct.pack("<I", 99)
    data = head + wrong + enhanced(FRAME, 1) + wrong
    found, account = read(write(tmp_path, data))
    assert found == [FRAME] * 3
    assert not account.damaged


def test_packets_of_unknown_interfaces_are_counted_one_by_one(tmp_path: Path) -> None:
    """The blocks are whole, so nothing else is lost."""
    data = section() + interface() + enhanced(FRAME, 0) + enhanced(FRAME, 1, port=3)
    found, account = read(write(tmp_path, data + enhanced(FRAME, 2)))
    assert len(found) == 2
    assert account.skipped == {DAMAGED_RECORD: 1}
    assert read(write(tmp_path, section() + simple(FRAME)))[1].skipped == {DAMAGED_RECORD: 1}


def starts(data: bytes, first: int, lengths: list[int]) -> list[int]:
    at, places = first, []
    for length in lengths:
        places.append(at)
        at += length
    assert at == len(data)
    return places


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
@pytest.mark.parametrize("hit", [0, 1, 5, COUNT - 2])
@pytest.mark.parametrize("block_bytes", [64, 1 << 20])
def test_reading_goes_on_behind_a_damaged_record(
    tmp_path: Path, form: str, hit: int, block_bytes: int
) -> None:
    """One impossible length costs one record, wherever it is and however the file is read."""
    if form == "pcap":
        data = bytearray(pcap(frames()))
        places = starts(bytes(data), 24, [16 + len(frame) for frame in frames()])
        data[places[hit] + 8 : places[hit] + 12] = b"\xff\xff\xff\x7f"
    else:
        data = bytearray(pcapng(frames()))
        sizes = [len(enhanced(frame, 0)) for frame in frames()]
        places = starts(bytes(data), len(section() + interface()), sizes)
        data[places[hit] + 4 : places[hit] + 8] = b"\xff\xff\xff\x7f"
    found, account = read(write(tmp_path, bytes(data)), block_bytes)
    assert found == frames()[:hit] + frames()[hit + 1 :]
    assert account.skipped == {DAMAGED_RECORD: 1}
    assert account.packets == COUNT


def test_a_length_that_would_swallow_other_records_is_found_out(tmp_path: Path) -> None:
    """Captured bytes above the wire's are believed only where they lead to another record."""
    data = bytearray(pcap(frames()))
    (place,) = struct.unpack("<I", data[32:36])
    data[24 + 16 + place + 8 : 24 + 16 + place + 12] = struct.pack("<I", 300)
    found, account = read(write(tmp_path, bytes(data)))
    assert found == frames()[:1] + frames()[2:]
    assert account.skipped == {DAMAGED_RECORD: 1}


@pytest.mark.parametrize("form", [pcap, pcapng])
@pytest.mark.parametrize("block_bytes", [64, 1 << 20])
def test_missing_bytes_are_one_damaged_place(
    tmp_path: Path, form: Callable[[list[bytes]], bytes], block_bytes: int
) -> None:
    """A hole in the file: what lies behind it is found again."""
    data = form(frames(40))
    hole = len(data) // 2
    found, account = read(write(tmp_path, data[:hole] + data[hole + 301 :]), block_bytes)
    assert account.skipped.total() == 1
    assert 25 <= len(found) < 40
    assert found[-1] == frames(40)[-1]


def test_a_swarm_of_damaged_places_takes_time_in_proportion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chains are not begun all over the block again behind each damaged place."""
    chains: list[int] = []
    lockstep = Chain._lockstep

    def counted(*given: Any) -> Any:
        chains.append(len(given[2]))
        return lockstep(*given)

    monkeypatch.setattr(Chain, "_lockstep", counted)
    bad = struct.pack("<IIII", START // SECOND, 0, 0xFFFFFFFF, 1)
    few = pcap(frames())[24:] + bad
    _, account = read(write(tmp_path, pcap([]) + few * 1000))
    assert account.packets == (COUNT + 1) * 1000
    assert account.places == 1000
    assert sum(chains) < 5 * 1000


def test_garbage_ends(tmp_path: Path) -> None:
    """Nothing that proves itself behind the damage: the rest is given up, quickly."""
    junk = np.random.default_rng(1).integers(0, 256, 1 << 20, np.uint8).tobytes()
    for head in (pcap(frames()), pcapng(frames())):
        found, account = read(write(tmp_path, head + b"\xff" * 64 + junk))
        assert found[:COUNT] == frames()
        assert account.damaged


# Several kinds of packets; below, in every kind of block.
MIXED = [
    ethernet(ipv4(tcp(b"x" * 10))),
    ethernet(bytes(28), ethertype=0x0806),
    ethernet(ipv6(tcp(b"y" * 20)), ethertype=0x86DD, tags=[3, 4]),
    ethernet(ipv4(bytes(50), protocol=UDP, offset=9)),
    ethernet(ipv6(bytes([6, 0]) + bytes(6) + tcp(b"w"), protocol=60), ethertype=0x86DD),
    ethernet(ipv4(bytes(40), protocol=1)),
]
BASES = (
    pcap(frames()),
    pcapng(frames()),
    pcap(frames(), ">"),
    pcapng(frames(), ">"),
    pcapng(MIXED)
    + section(order=">")
    + interface(order=">", resolution=9)
    + b"".join(obsolete(START + n, frame, order=">") for n, frame in enumerate(MIXED))
    + simple(MIXED[0], order=">")
    + block(5, b"1234", order=">"),
    builders.pcap([(START + n, frame) for n, frame in enumerate(MIXED)], nano=True, snaplen=60),
)


@settings(max_examples=600, deadline=None)
@given(
    base=st.sampled_from(BASES),
    edits=EDITS,
    first=st.sampled_from([0, 24]),
    block_bytes=st.integers(1, 3000),
)
def test_damage_never_breaks_the_account_and_blocks_change_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    base: bytes,
    edits: list[Edit],
    first: int,
    block_bytes: int,
) -> None:
    """Any damage: a full account or a CaptureError, the same however the file is read."""
    path = write(tmp_path_factory.getbasetemp(), mutate(base, edits, first))
    results: list[object] = []
    for size in (1 << 20, block_bytes):
        account = PacketAccount()
        parts = [PacketColumns.from_rows([])]
        error = ""
        try:
            parts += read_packets([path], account, block_bytes=size)
        except CaptureError as refused:
            error = str(refused)
        packets = PacketColumns.concat(parts)
        assert account.packets == account.ip_packets + account.skipped.total()
        assert account.ip_packets == len(packets)
        assert (packets.payload >= 0).all()
        assert (packets.ip_bytes >= packets.payload).all()
        assert (packets.time >= 0).all()
        results.append(([column.tolist() for column in packets.columns()], account, error))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", ["mixed", "voip", "quic-drip"])
@settings(max_examples=25, deadline=None)
@given(edits=EDITS.map(lambda edits: [edit for edit in edits if edit[1] != "end"]))
def test_real_traffic_survives_damage(
    tmp_path_factory: pytest.TempPathFactory, name: str, edits: list[Edit]
) -> None:
    """A few wrong bytes in a capture of the project cost a few packets, not the capture."""
    data = (Path(__file__).parents[2] / "pcaps" / f"{name}.pcap").read_bytes()[:60_000]
    before, after = PacketAccount(), PacketAccount()
    for content, account in ((data, before), (mutate(data, edits, 24), after)):
        path = write(tmp_path_factory.getbasetemp(), content)
        list(read_packets([path], account))
    assert after.packets == after.ip_packets + after.skipped.total()
    assert after.ip_packets >= before.ip_packets - 60 * max(len(edits), 1)
