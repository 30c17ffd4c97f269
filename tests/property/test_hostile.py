"""Damaged captures of every kind: no crash, bounded memory, a full account, exit code 0, 1 or 3."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.capture.account import PacketAccount
from llmflow.capture.columns import PacketColumns
from llmflow.capture.dpkt_lane import Tunnels
from llmflow.capture.reader import read_packets
from llmflow.cli import main
from llmflow.errors import CaptureError
from tests.builders import pcap
from tests.hostile import EDITS, PACK, Edit, captures, mutate

CAPTURES = captures()
PCAPS = {
    path.stem: path.read_bytes() for path in (Path(__file__).parents[2] / "pcaps").glob("*.pcap")
}
Result = tuple[list[list[int]], PacketAccount, str]


def outcome(path: Path, block_bytes: int, tunnels: Tunnels = "inner") -> Result:
    """Columns, account and error of a capture; checks what holds for any of them."""
    account, error = PacketAccount(), ""
    parts = [PacketColumns.from_rows([])]
    try:
        parts += read_packets([path], account, block_bytes=block_bytes, tunnels=tunnels)
    except CaptureError as refused:
        error = str(refused)
    packets = PacketColumns.concat(parts)
    assert account.packets == account.ip_packets + account.skipped.total()
    assert account.ip_packets == len(packets)
    assert (packets.payload >= 0).all()
    assert (packets.ip_bytes >= packets.payload).all()
    assert (packets.time >= 0).all()
    return [column.tolist() for column in packets.columns()], account, error


def test_every_capture_is_whole_before_it_is_damaged(tmp_path: Path) -> None:
    """The damage would prove little if the captures held few packets that can be decoded."""
    for name, data in CAPTURES.items():
        (tmp_path / "capture").write_bytes(data)
        _, account, error = outcome(tmp_path / "capture", 1 << 20)
        assert (name, error, account.damaged) == (name, "", False)
        assert account.ip_packets == account.packets > 1


@settings(max_examples=400)
@given(
    name=st.sampled_from(sorted(CAPTURES)),
    pack=st.sampled_from(["", "", *PACK]),
    edits=EDITS,
    packed_edits=EDITS,
    first=st.sampled_from([0, 24]),
    block_bytes=st.integers(1, 3000),
    tunnels=st.sampled_from(["inner", "outer"]),
)
def test_damage_to_any_capture(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    pack: str,
    edits: list[Edit],
    packed_edits: list[Edit],
    first: int,
    block_bytes: int,
    tunnels: Tunnels,
) -> None:
    """Every format, link type, tunnel and compression, damaged before and after compression."""
    data = mutate(CAPTURES[name], edits, first)
    if pack:
        data = mutate(PACK[pack](data), packed_edits)
    path = tmp_path_factory.getbasetemp() / "capture"
    path.write_bytes(data)
    assert outcome(path, 1 << 20, tunnels) == outcome(path, block_bytes, tunnels)


@settings(max_examples=150)
@given(
    data=st.sampled_from([*CAPTURES.values(), *(data[:60_000] for data in PCAPS.values())]),
    edits=EDITS,
    first=st.sampled_from([0, 24]),
    command=st.sampled_from([
        ("classify", "-f", "jsonl"), ("classify", "--turns", "-f", "csv"), ("classify",),
        ("classify", "--tunnels", "outer", "-f", "jsonl"), ("features", "-f", "jsonl"),
        ("inspect",), ("inspect", "-f", "json"),
    ]),
)  # fmt: skip
def test_exit_codes(
    tmp_path_factory: pytest.TempPathFactory,
    data: bytes,
    edits: list[Edit],
    first: int,
    command: tuple[str, ...],
) -> None:
    """Whatever is in a capture, a command ends with 0, 1 or 3, and says why if not with 0."""
    path = tmp_path_factory.getbasetemp() / "capture"
    path.write_bytes(mutate(data, edits, first))
    done = CliRunner().invoke(main, [*command, str(path)])
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert done.exit_code in (0, 1, 3)
    assert done.exit_code == 0 or done.stderr.startswith("llmflow: ")


RECORD = struct.pack("<IIII", 1_700_000_000, 0, 65_536, 65_536) + bytes(65_536)
# What one part of a bomb unpacks to, how many of them follow each other, packets of them all.
PARTS = {
    "large packets": (RECORD * 256, 16, 4096),
    "packets of no bytes": (bytes(1 << 22), 2, 1 << 19),
    "damage": (b"\xff" * (1 << 24), 4, 1),
}
# Compressed files may be joined, so large ones need not be compressed whole.
JOINED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
    "zstd": PACK["zstd"], "lz4": PACK["lz4"],
}  # fmt: skip
MEASURED = """
import atexit, re, sys
from pathlib import Path
def peak():
    status = Path("/proc/self/status").read_text()
    print("peak", re.search(r"VmHWM:\\s+(\\d+)", status)[1], file=sys.stderr)
atexit.register(peak)
from llmflow.cli import main
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("pack", JOINED)
@pytest.mark.parametrize("content", PARTS)
def test_bombs_take_no_memory(pack: str, content: str, tmp_path: Path) -> None:
    """A small file that unpacks to a large one is read whole, in the memory of any other."""
    part, times, packets = PARTS[content]
    path = tmp_path / "bomb"
    path.write_bytes(JOINED[pack](pcap([])) + JOINED[pack](part) * times)
    assert path.stat().st_size < 2_000_000
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "inspect", "-f", "json", path],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode in (0, 3)
    assert json.loads(done.stdout)["packets"] == packets
    assert int(done.stderr.rpartition("peak ")[2]) < 200_000  # kB; llmflow alone takes a quarter
