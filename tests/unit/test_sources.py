"""Compressed captures: told by content, unpacked piece by piece, damage counted."""

from __future__ import annotations

import gzip
import lzma
import struct
import zlib
from pathlib import Path

import pytest

from llmflow.capture.account import TRUNCATED_CAPTURE, PacketAccount
from llmflow.capture.reader import read_packets
from llmflow.errors import CaptureError
from tests.hostile import PACK

CAPTURE = Path(__file__).parents[2] / "pcaps" / "mixed.pcap"
PLAIN = CAPTURE.read_bytes()


def times(path: Path, account: PacketAccount | None = None, block: int = 70_000) -> list[int]:
    account = PacketAccount() if account is None else account
    found: list[int] = []
    for packets in read_packets([path], account, block_bytes=block):
        found += packets.time.tolist()
    return found


EXPECTED = times(CAPTURE)


@pytest.mark.parametrize("kind", PACK)
def test_packets_are_those_of_the_plain_capture(kind: str, tmp_path: Path) -> None:
    """The name of the file says nothing; its content is unpacked."""
    path = tmp_path / "capture.pcap"
    path.write_bytes(PACK[kind](PLAIN))
    taken: list[int] = []
    found: list[int] = []
    for packets in read_packets([path], PacketAccount(), progress=taken.append):
        found += packets.time.tolist()
    assert found == EXPECTED
    assert sum(taken) == path.stat().st_size


@pytest.mark.parametrize("kind", [kind for kind in PACK if kind != "bz2"])
def test_a_cut_stream_keeps_what_it_held(kind: str, tmp_path: Path) -> None:
    """A download that broke off gives its first packets, and the damage is counted."""
    packed = PACK[kind](PLAIN)
    path = tmp_path / "cut"
    path.write_bytes(packed[: len(packed) * 3 // 4])
    account = PacketAccount()
    found = times(path, account)
    assert 100 < len(found) < len(EXPECTED)
    assert found == EXPECTED[: len(found)]
    assert account.skipped[TRUNCATED_CAPTURE] >= 1
    assert "cannot be unpacked on" in account.notes[0]
    assert account.packets == account.ip_packets + sum(account.skipped.values())


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_stream_gives_the_same_whatever_is_read_at_once(
    kind: str, cut: bool, tmp_path: Path
) -> None:
    """Only what stands just in front of the damage is lost, not all of the block asked for."""
    plain = (
        PLAIN * 3 if kind == "bz2" else PLAIN
    )  # nothing of a bzip2 block of 900 kB cut comes out
    packed = PACK[kind](plain)
    place = len(packed) * 9 // 10
    path = tmp_path / "damaged"
    path.write_bytes(packed[:place] + (b"" if cut else bytes(8) + packed[place + 8 :]))
    results = []
    for block in (1000, 70_000, 4 << 20):
        account = PacketAccount()
        results.append((times(path, account, block), account))
    assert results[0] == results[1] == results[2]
    assert len(results[0][0]) > len(EXPECTED) * 3 // 4


def test_xz_streams_may_follow_each_other_with_zeros_between(tmp_path: Path) -> None:
    """As `cat a.xz b.xz` and block devices leave them; anything else behind is damage."""
    path = tmp_path / "padded"
    whole = lzma.compress(PLAIN[:99_999]) + bytes(100_000) + lzma.compress(PLAIN[99_999:])
    for tail, places in ((b"", 0), (bytes(8), 0), (b"junk", 1)):
        path.write_bytes(whole + tail)
        account = PacketAccount()
        assert times(path, account) == EXPECTED
        assert account.places == places


def test_an_xz_header_cannot_ask_for_gigabytes(tmp_path: Path) -> None:
    """The dictionary that a header claims takes memory as it fills: 4 GiB in a file of 100 kB."""
    packed = bytearray(lzma.compress(PLAIN, check=lzma.CHECK_NONE))
    end = 12 + (packed[12] + 1) * 4  # of the block header, whose last 4 bytes are its checksum
    packed[packed.index(b"\x21\x01", 12, end) + 2] = 40  # LZMA2, one byte: 4 GiB - 1
    packed[end - 4 : end] = struct.pack("<I", zlib.crc32(packed[12 : end - 4]))
    path = tmp_path / "huge"
    path.write_bytes(packed)
    with pytest.raises(CaptureError, match=r"cannot be unpacked \(Memory usage limit exceeded\)"):
        times(path)


@pytest.mark.parametrize("kind", PACK)
def test_a_stream_of_magic_alone_is_refused(kind: str, tmp_path: Path) -> None:
    """A few bytes of a compressed file are an error that names the file."""
    path = tmp_path / "magic"
    path.write_bytes(PACK[kind](PLAIN)[:7])
    with pytest.raises(CaptureError, match="magic: "):
        times(path)


def test_a_bomb_is_read_in_pieces(tmp_path: Path) -> None:
    """What unpacks to far more than a block passes through block by block."""
    record = (1_700_000_000).to_bytes(4, "little") + bytes(4) + (60).to_bytes(4, "little") * 2
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(PLAIN[:24] + (record + bytes(60)) * 200_000))
    account = PacketAccount()
    assert times(path, account, block=50_000) == []
    assert account.packets == 200_000
    assert path.stat().st_size < 100_000


def test_compressed_text_is_no_capture(tmp_path: Path) -> None:
    """What is unpacked must be a capture."""
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"GET / HTTP/1.1\r\n\r\n" * 10))
    with pytest.raises(CaptureError, match="not a pcap or pcapng"):
        times(path)
