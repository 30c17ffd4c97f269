"""pcap and pcapng framing: formats, and going on behind damage."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.capture.account import DAMAGED_RECORD, TRUNCATED_CAPTURE, PacketAccount
from llmflow.capture.columns import PacketColumns
from llmflow.capture.framing import Records, open_framer
from llmflow.capture.reader import read_packets, read_records
from llmflow.errors import CaptureError

START = 1_700_000_000
FRAME = bytes(range(12)) + b"\x08\x00" + struct.pack(
    ">BBHHHBBHIIHHHH", 0x45, 0, 40, 1, 0, 64, 17, 0, 0x0A000001, 0x0A000002, 4000, 53, 20, 0
) + bytes(12)  # fmt: skip
COUNT = 12


def frames(count: int = COUNT) -> list[bytes]:
    return [FRAME + bytes([7] * number) for number in range(count)]


def pcap(
    packets: list[bytes], *, order: str = "<", magic: int = 0xA1B2C3D4, more: bytes = b"",
    head: bytes = b"",
) -> bytes:  # fmt: skip
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1) + head
    for number, frame in enumerate(packets):
        length = len(frame)
        data += struct.pack(order + "IIII", START + number, 5, length, length) + more + frame
    return data


def block(kind: int, body: bytes, order: str = "<", trailer: int | None = None) -> bytes:
    body += bytes(-len(body) % 4)
    length = len(body) + 12
    end = struct.pack(order + "I", length if trailer is None else trailer)
    return struct.pack(order + "II", kind, length) + body + end


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order: str = "<", options: bytes = b"", snaplen: int = 0) -> bytes:
    return block(1, struct.pack(order + "HHI", 1, 0, snaplen) + options, order)


def enhanced(frame: bytes, number: int, order: str = "<", port: int = 0) -> bytes:
    ticks = (START + number) * 1_000_000
    head = struct.pack(
        order + "IIIII", port, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame)
    )
    return block(6, head + frame, order)


def pcapng(packets: list[bytes], order: str = "<") -> bytes:
    parts = [enhanced(frame, number, order) for number, frame in enumerate(packets)]
    return section(order) + interface(order) + b"".join(parts)


def write(folder: Path, data: bytes) -> Path:
    path = folder / "capture"
    path.write_bytes(data)
    return path


def read(path: Path, block_bytes: int = 1 << 20) -> tuple[list[bytes], list[int], PacketAccount]:
    """Frames, times, account."""
    account = PacketAccount()
    found: list[bytes] = []
    times: list[int] = []
    for data, records, position in read_records([path], account, block_bytes=block_bytes):
        assert position == len(found)
        for offset, captured in zip(
            records.offset.tolist(), records.captured.tolist(), strict=True
        ):
            found.append(data[offset : offset + captured])
        times += records.time.tolist()
    return found, times, account


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("magic", "tick", "more", "head"),
    [
        (0xA1B2C3D4, 1000, b"", b""),
        (0xA1B23C4D, 1, b"", b""),
        (0xA1B2CD34, 1000, bytes(8), b""),
        (0x1C0001AC, 1, b"", bytes(4)),
        (0x1C0001AB, 1000, b"", bytes(4)),
    ],
)
def test_pcap_headers(
    tmp_path: Path, order: str, magic: int, tick: int, more: bytes, head: bytes
) -> None:
    """Byte orders, time units, patched record headers, a size behind the file header."""
    path = write(tmp_path, pcap(frames(), order=order, magic=magic, more=more, head=head))
    found, times, account = read(path)
    assert found == frames()
    assert times[3] == (START + 3) * 10**9 + 5 * tick
    assert not account.damaged


@pytest.mark.parametrize("order", "<>")
def test_pcapng_blocks(tmp_path: Path, order: str) -> None:
    """Unknown blocks are passed over; sections begin anew; interfaces have names."""
    name = struct.pack(order + "HH", 2, 4) + b"eth0" + bytes(4)
    odd = b"".join(block(kind, b"abcd", order) for kind in (4, 5, 9, 10, 0xBAD, 0x12345678))
    data = section(order) + interface(order, name) + odd + enhanced(FRAME, 0, order) + odd
    found, _, account = read(write(tmp_path, data + pcapng(frames(), order)))
    assert found == [FRAME, *frames()]
    assert [name for name in account.interfaces if name] == ["eth0"]


def test_a_block_whose_second_length_is_wrong_is_read_where_another_follows(
    tmp_path: Path,
) -> None:
    """Other readers ignore the second length; here the next block must prove the first one."""
    head = section() + interface()
    wrong = struct.pack("<IIIII", 0, 0, 0, len(FRAME), len(FRAME)) + FRAME
    data = head + block(6, wrong, trailer=99) + enhanced(FRAME, 1) + block(6, wrong, trailer=99)
    found, _, account = read(write(tmp_path, data))
    assert found == [FRAME] * 3
    assert not account.damaged


def test_packets_of_unknown_interfaces_are_counted_one_by_one(tmp_path: Path) -> None:
    """The blocks are whole, so nothing else is lost."""
    data = section() + interface() + enhanced(FRAME, 0) + enhanced(FRAME, 1, port=3)
    found, _, account = read(write(tmp_path, data + enhanced(FRAME, 2)))
    assert len(found) == 2
    assert account.skipped == {DAMAGED_RECORD: 1}
    simple = struct.pack("<I", len(FRAME)) + FRAME
    assert read(write(tmp_path, section() + block(3, simple)))[2].skipped == {DAMAGED_RECORD: 1}


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
    found, _, account = read(write(tmp_path, bytes(data)), block_bytes)
    assert found == frames()[:hit] + frames()[hit + 1 :]
    assert account.skipped == {DAMAGED_RECORD: 1}
    assert account.packets == COUNT


def test_a_length_that_would_swallow_other_records_is_found_out(tmp_path: Path) -> None:
    """Captured bytes above the wire's are believed only where they lead to another record."""
    data = bytearray(pcap(frames()))
    (place,) = struct.unpack("<I", data[32:36])
    data[24 + 16 + place + 8 : 24 + 16 + place + 12] = struct.pack("<I", 300)
    found, _, account = read(write(tmp_path, bytes(data)))
    assert found == frames()[:1] + frames()[2:]
    assert account.skipped == {DAMAGED_RECORD: 1}


@pytest.mark.parametrize("form", [pcap, pcapng])
@pytest.mark.parametrize("block_bytes", [64, 1 << 20])
def test_missing_bytes_are_one_damaged_place(
    tmp_path: Path, form: object, block_bytes: int
) -> None:
    """A hole in the file: what lies behind it is found again."""
    assert callable(form)
    data = form(frames(40))
    hole = len(data) // 2
    found, _, account = read(write(tmp_path, data[:hole] + data[hole + 301 :]), block_bytes)
    assert account.skipped.total() == 1
    assert 25 <= len(found) < 40
    assert found[-1] == frames(40)[-1]


def test_a_cut_end_is_counted_once(tmp_path: Path) -> None:
    """Whatever the last record lost."""
    for form in (pcap, pcapng):
        data = form(frames())
        for cut in (1, 15, 50):
            found, _, account = read(write(tmp_path, data[:-cut]))
            assert found == frames()[:-1]
            assert account.skipped == {TRUNCATED_CAPTURE: 1}


def test_garbage_ends(tmp_path: Path) -> None:
    """Nothing that proves itself behind the damage: the rest is given up, quickly."""
    junk = np.random.default_rng(1).integers(0, 256, 1 << 20, np.uint8).tobytes()
    for head in (pcap(frames()), pcapng(frames())):
        found, _, account = read(write(tmp_path, head + b"\xff" * 64 + junk))
        assert found[:COUNT] == frames()
        assert account.damaged


def _columns(path: Path, block_bytes: int) -> tuple[list[list[int]], PacketAccount]:
    account = PacketAccount()
    parts = list(read_packets([path], account, block_bytes=block_bytes))
    packets = PacketColumns.concat(parts) if parts else PacketColumns.from_rows([])
    return [column.tolist() for column in packets.columns()], account


BASES = (pcap(frames()), pcapng(frames()), pcap(frames(), order=">"), pcapng(frames(), ">"))
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["set", "delete", "insert", "zero"]),
        st.integers(0, 255),
    ),
    max_size=6,
)


def mutate(data: bytes, edits: list[tuple[float, str, int]]) -> bytes:
    for place, what, value in edits:
        at = 24 + int(place * max(len(data) - 24, 0))
        if what == "set":
            data = data[:at] + bytes([value]) + data[at + 1 :]
        elif what == "delete":
            data = data[:at] + data[at + value :]
        elif what == "insert":
            data = data[:at] + bytes([value]) * value + data[at:]
        else:
            data = data[:at] + bytes(value) + data[at + value :]
    return data


@settings(max_examples=300, deadline=None)
@given(base=st.sampled_from(BASES), edits=EDITS, block_bytes=st.integers(1, 300))
def test_damage_never_breaks_the_account_and_blocks_change_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    base: bytes,
    edits: list[tuple[float, str, int]],
    block_bytes: int,
) -> None:
    """Any damage: every packet in the account, and the same answer however the file is read."""
    path = write(tmp_path_factory.getbasetemp(), mutate(base, edits))
    try:
        whole, account = _columns(path, 1 << 20)
    except CaptureError:
        return
    assert account.packets == account.ip_packets + account.skipped.total()
    assert account.ip_packets == len(whole[0])
    pieces, other = _columns(path, block_bytes)
    assert pieces == whole
    assert (other.packets, other.skipped) == (account.packets, account.skipped)


@pytest.mark.parametrize("name", ["mixed", "voip", "quic-drip"])
@settings(max_examples=25, deadline=None)
@given(edits=EDITS)
def test_real_traffic_survives_damage(
    tmp_path_factory: pytest.TempPathFactory, name: str, edits: list[tuple[float, str, int]]
) -> None:
    """A few wrong bytes in a capture of the project cost a few packets, not the capture."""
    data = (Path(__file__).parents[2] / "pcaps" / f"{name}.pcap").read_bytes()[:60_000]
    path = write(tmp_path_factory.getbasetemp(), data)
    _, before = _columns(path, 1 << 20)
    path = write(tmp_path_factory.getbasetemp(), mutate(data, edits))
    _, after = _columns(path, 1 << 20)
    assert after.packets == after.ip_packets + after.skipped.total()
    assert after.ip_packets >= before.ip_packets - 60 * max(len(edits), 1)


def test_an_unknown_format_is_refused() -> None:
    """By the first bytes, in a sentence."""
    with pytest.raises(CaptureError, match="not a pcap or pcapng"):
        open_framer(b"\0" * 24, "x")


def test_no_records_are_no_error() -> None:
    """An empty block has empty columns."""
    assert len(Records.from_rows([])) == 0
