"""Reading captures: sources, order of several, blocks, and the account of every packet."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.capture.account import (
    DAMAGED_RECORD,
    NOT_IP,
    TRUNCATED_CAPTURE,
    UNKNOWN_LINK_TYPE,
    PacketAccount,
)
from llmflow.capture.columns import UDP, PacketColumns
from llmflow.capture.reader import BLOCK_BYTES, read_packets
from llmflow.errors import CaptureError
from tests.builders import (
    SECOND,
    START,
    block,
    enhanced,
    ethernet,
    frame,
    interface,
    ipv4,
    ipv6,
    obsolete,
    pcap,
    section,
    simple,
    tcp,
    udp,
)

ARP = ethernet(bytes(28), ethertype=0x0806)
FRAMES = [
    frame(b"x" * 10),
    ARP,
    ethernet(ipv6(tcp(b"y" * 20)), ethertype=0x86DD, tags=[3, 4]),
    ethernet(ipv4(udp(b"z" * 30), protocol=UDP)),
    ethernet(ipv4(bytes(50), protocol=UDP, offset=9)),
    ethernet(ipv6(bytes([6, 0]) + bytes(6) + tcp(b"w"), protocol=60), ethertype=0x86DD),
    ethernet(ipv4(bytes(40), protocol=1)),
]
RECORDS = [(START + i * SECOND, data) for i, data in enumerate(FRAMES)]
PCAP = pcap(RECORDS)
PCAPNG = (
    section()
    + interface()
    + b"".join(enhanced(time // 1000, data) for time, data in RECORDS)
    + section(order=">")
    + interface(order=">", resolution=9)
    + b"".join(obsolete(time, data, order=">") for time, data in RECORDS)
    + simple(FRAMES[0], order=">")
)


def read(*paths: Path | str, block_bytes: int = BLOCK_BYTES) -> tuple[PacketColumns, PacketAccount]:
    """All packets of captures, and the account."""
    account = PacketAccount()
    parts = list(read_packets(paths, account, block_bytes=block_bytes))
    return PacketColumns.concat([PacketColumns.from_rows([]), *parts]), account


def read_bytes(data: bytes, block_bytes: int = BLOCK_BYTES) -> tuple[PacketColumns, PacketAccount]:
    """The same for a capture on standard input."""
    with mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(data))):
        return read("-", block_bytes=block_bytes)


def same(one: PacketColumns, other: PacketColumns) -> bool:
    """Whether all columns are equal to the bit."""
    pairs = zip(one.columns(), other.columns(), strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


def adds_up(account: PacketAccount) -> bool:
    """The promise of the account."""
    return account.packets == account.ip_packets + account.skipped.total()


def test_file_and_its_account(tmp_path: Path) -> None:
    """Every record of a file is a row or counted under its reason."""
    path = tmp_path / "a.pcap"
    path.write_bytes(PCAP)
    packets, account = read(path)
    assert packets.position.tolist() == [0, 2, 3, 5, 6]
    assert packets.time.tolist() == [RECORDS[i][0] for i in (0, 2, 3, 5, 6)]
    assert (account.packets, account.ip_packets) == (7, 5)
    assert account.skipped == {NOT_IP: 1, "later-fragment": 1}
    assert account.link_types == {1: 7}
    assert (account.damaged, account.notes) == (False, [])
    assert account.summary() == "7 packets, 5 decoded; not decoded: 1 later-fragment, 1 not-ip"


def test_standard_input(tmp_path: Path) -> None:
    """``-`` reads standard input and gives what the file gives."""
    path = tmp_path / "a.pcapng"
    path.write_bytes(PCAPNG)
    from_file, from_stdin = read(path), read_bytes(PCAPNG)
    assert same(from_file[0], from_stdin[0])
    assert from_file[1] == from_stdin[1]
    assert len(from_file[0]) == 11


@pytest.mark.parametrize("data", [PCAP, PCAPNG])
@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1000])
def test_block_size_does_not_matter(data: bytes, block_bytes: int) -> None:
    """Any block size gives the same columns and the same account."""
    whole, small = read_bytes(data), read_bytes(data, block_bytes)
    assert same(whole[0], small[0])
    assert whole[1] == small[1]


def test_capture_larger_than_the_first_read(tmp_path: Path) -> None:
    """Records that straddle the reader's own buffers are framed like any other."""
    records = [(START + i * 1000, frame(bytes(i % 1400))) for i in range(600)]
    path = tmp_path / "large.pcap"
    path.write_bytes(pcap(records))
    packets, account = read(path, block_bytes=4096)
    assert packets.payload.tolist() == [i % 1400 for i in range(600)]
    assert packets.position.tolist() == list(range(600))
    assert account.packets == 600


@pytest.mark.parametrize("block_bytes", [1000, BLOCK_BYTES])
@pytest.mark.parametrize("size", [100, 300_000])
def test_progress_adds_up_to_the_size(tmp_path: Path, size: int, block_bytes: int) -> None:
    """The bytes reported as read are the bytes of the file, for a progress bar that fills."""
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap([(START, frame(bytes(1000)))] * (size // 1000) + RECORDS))
    steps: list[int] = []
    list(read_packets([path], PacketAccount(), block_bytes=block_bytes, progress=steps.append))
    assert sum(steps) == path.stat().st_size


def test_several_captures_are_read_in_order_of_time(tmp_path: Path) -> None:
    """A rotated set is one stream in order of time, whatever the names and their order."""
    names = ["c.pcap", "a.pcap", "b.pcap"]
    for i, name in enumerate(names):
        records = [(START + (10 * i + k) * SECOND, frame(bytes(10 * i + k))) for k in range(3)]
        (tmp_path / name).write_bytes(pcap(records))
    for order in (names, names[::-1], sorted(names)):
        packets, account = read(*(tmp_path / name for name in order))
        assert packets.payload.tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22]
        assert packets.position.tolist() == list(range(9))
        assert account.packets == 9


def test_captures_of_different_formats_are_one_stream(tmp_path: Path) -> None:
    """pcap and pcapng, both byte orders, order by time together."""
    (tmp_path / "0").write_bytes(
        section() + interface() + enhanced(START // 1000 + 2, frame(b"ab"))
    )
    (tmp_path / "1").write_bytes(pcap([(START + 1000, frame(b"a"))], order=">"))
    assert read(tmp_path / "0", tmp_path / "1")[0].payload.tolist() == [1, 2]


def test_split_capture_equals_the_joined_one(tmp_path: Path) -> None:
    """A capture cut into files at any record gives the columns of the whole."""
    (tmp_path / "whole").write_bytes(PCAP)
    whole, _ = read(tmp_path / "whole")
    for cut in range(1, len(RECORDS)):
        (tmp_path / "x").write_bytes(pcap(RECORDS[:cut]))
        (tmp_path / "y").write_bytes(pcap(RECORDS[cut:]))
        assert same(read(tmp_path / "y", tmp_path / "x")[0], whole)


@pytest.mark.parametrize("front", ["large packet", "large block"])
def test_order_of_captures_that_begin_with_something_large(tmp_path: Path, front: str) -> None:
    """The first packet's time is found though more than 64 KiB come before its end."""
    if front == "large packet":  # offloaded segments on a loopback interface
        late = pcap([(START + 10 * SECOND, frame(bytes(65_495))), (START + 11 * SECOND, frame())])
    else:  # decryption secrets of a long capture
        late = section() + interface() + block(10, bytes(1 << 17))
        late += enhanced((START + 10 * SECOND) // 1000, frame(bytes(65_495)))
        late += enhanced((START + 11 * SECOND) // 1000, frame())
    (tmp_path / "late").write_bytes(late)
    (tmp_path / "early").write_bytes(pcap([(START, frame(b"first"))]))
    packets, _ = read(tmp_path / "late", tmp_path / "early")
    assert packets.payload.tolist() == [5, 65_495, 0]


def test_capture_without_packets(tmp_path: Path) -> None:
    """A file header alone is a capture without packets, no error."""
    (tmp_path / "none.pcap").write_bytes(pcap([]))
    packets, account = read(tmp_path / "none.pcap")
    assert (len(packets), account.packets, account.damaged) == (0, 0, False)


def test_cut_capture_is_counted(tmp_path: Path) -> None:
    """A capture that ends inside a record keeps the rest, counts one lost packet, says where."""
    path = tmp_path / "cut.pcap"
    path.write_bytes(PCAP[:-5])
    packets, account = read(path)
    assert len(packets) == 4
    assert (account.packets, account.skipped[TRUNCATED_CAPTURE]) == (7, 1)
    assert account.damaged
    assert len(account.notes) == 1
    assert str(path) in account.notes[0]


def test_damaged_capture_is_counted(tmp_path: Path) -> None:
    """A length that cannot be costs one record: what lies behind it is read, and the next file."""
    (tmp_path / "a").write_bytes(PCAP + struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 1) + PCAP[24:])
    (tmp_path / "b").write_bytes(pcap([(START + 100 * SECOND, frame(b"next"))]))
    packets, account = read(tmp_path / "a", tmp_path / "b")
    one = [10, 20, 30, 1, 0]
    assert packets.payload.tolist() == [*one, *one, 4]
    assert packets.position.tolist() == [0, 2, 3, 5, 6, 7, 9, 10, 12, 13, 14]
    assert (account.packets, account.ip_packets) == (16, 11)
    assert account.skipped[DAMAGED_RECORD] == 1
    assert (account.damaged, account.places) == (True, 1)
    place = f"{tmp_path / 'a'}: at byte {len(PCAP) - 24} of the records"
    assert account.notes == [f"{place}: a record claims {0xFFFFFFFF} bytes"]
    assert adds_up(account)


def test_missing_file(tmp_path: Path) -> None:
    """A path that leads nowhere is named."""
    with pytest.raises(CaptureError, match=r"gone\.pcap: no such file"):
        read(tmp_path / "gone.pcap")


def test_folder(tmp_path: Path) -> None:
    """A folder is no capture."""
    with pytest.raises(CaptureError, match="is a folder"):
        read(tmp_path)


def test_unreadable(tmp_path: Path) -> None:
    """Any other failure of the system to open a file is told in its words."""
    (tmp_path / "file").write_bytes(PCAP)
    with pytest.raises(CaptureError, match="cannot be read"):
        read(tmp_path / "file" / "below")


@pytest.mark.parametrize("data", [b"", b"GIF89a and so on, no capture", PCAP[:20]])
def test_no_capture(tmp_path: Path, data: bytes) -> None:
    """Empty files, other files and half a file header are refused with the file's name."""
    (tmp_path / "odd").write_bytes(data)
    with pytest.raises(CaptureError, match=r"odd: "):
        read(tmp_path / "odd")
    with pytest.raises(CaptureError, match="standard input: "):
        read_bytes(data)


def test_bad_capture_among_several_is_found_first(tmp_path: Path) -> None:
    """One that cannot be used stops a set before anything comes out of the others."""
    (tmp_path / "a").write_bytes(PCAP)
    (tmp_path / "b").write_bytes(b"")
    account = PacketAccount()
    with pytest.raises(CaptureError, match="b: the file is empty"):
        next(read_packets([tmp_path / "a", tmp_path / "b"], account))
    assert account.packets == 0


def test_standard_input_is_no_part_of_a_set(tmp_path: Path) -> None:
    """Standard input cannot be put in order of time, so it stands alone."""
    (tmp_path / "a").write_bytes(PCAP)
    with pytest.raises(CaptureError, match="several captures"):
        read(tmp_path / "a", "-")


def test_only_unknown_link_types() -> None:
    """A capture of which nothing can be decoded is an error, not an empty result."""
    data = pcap(RECORDS, link=147)
    account = PacketAccount()
    with (
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(data))),
        pytest.raises(CaptureError, match="link type 147 is not supported"),
    ):
        list(read_packets(["-"], account))
    assert account.skipped == {UNKNOWN_LINK_TYPE: 7}


def test_some_unknown_link_types() -> None:
    """Packets of an unknown link among known ones are counted; the others are read."""
    data = section() + interface(link=147) + interface() + enhanced(1, b"?")
    packets, account = read_bytes(data + enhanced(2, frame(), port=1))
    assert packets.position.tolist() == [1]
    assert account.skipped == {UNKNOWN_LINK_TYPE: 1}
    assert account.link_types == {147: 1, 1: 1}
    assert account.damaged


@settings(max_examples=300)
@given(
    st.sampled_from(FRAMES),
    st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(1, 255)), min_size=1, max_size=4),
    st.integers(0, 100),
)
def test_damaged_packets_never_break_the_lane(
    data: bytes, flips: list[tuple[int, int]], kept: int
) -> None:
    """Packets with flipped bits and short captures are rows or counted, one by one."""
    broken = bytearray(data)
    for place, value in flips:
        broken[place % len(data)] ^= value
    packets, account = read_bytes(pcap([(START, bytes(broken))], snaplen=kept))
    assert account.packets == 1
    assert len(packets) + account.skipped.total() == 1
