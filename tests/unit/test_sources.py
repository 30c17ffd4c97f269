"""Compressed captures: told by content, unpacked piece by piece, damage counted."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from llmflow.capture.account import TRUNCATED_CAPTURE, PacketAccount
from llmflow.capture.reader import read_packets
from llmflow.errors import CaptureError

CAPTURE = Path(__file__).parents[2] / "pcaps" / "mixed.pcap"
PLAIN = CAPTURE.read_bytes()


def arrow(kind: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, kind) as stream:
            stream.write(data)
        packed: bytes = sink.getvalue().to_pybytes()
        return packed

    return pack


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "gzip members": lambda data: gzip.compress(data[:99_999]) + gzip.compress(data[99_999:]),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": arrow("zstd"),
    "lz4": arrow("lz4"),
}


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
