"""The decoded columns against what tshark prints for the same captures."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from llmflow.capture.account import PacketAccount
from llmflow.capture.columns import TCP, UDP, PacketColumns
from llmflow.capture.reader import read_packets
from tests.builders import number

CAPTURES = sorted((Path(__file__).parents[2] / "pcaps").glob("*.pcap*"))
FIELDS = (
    "frame.number",
    "frame.time_epoch",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "ip.proto",
    "ip.len",
    "ipv6.plen",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "tcp.len",
    "udp.length",
    "tcp.seq_raw",
    "tcp.ack_raw",
    "tcp.flags",
    "tcp.window_size_value",
)
Row = tuple[int, ...]

pytestmark = [
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed"),
    pytest.mark.skipif(not CAPTURES, reason="no captures to compare on"),
]


def nanoseconds(text: str) -> int:
    """Seconds with a decimal fraction as whole nanoseconds."""
    seconds, _, fraction = text.partition(".")
    return int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])


def wireshark_row(line: str) -> Row:
    """One packet as tshark prints it, in the order of :func:`our_rows`."""
    f = dict(zip(FIELDS, line.split("\t"), strict=True))
    tcp, udp = f["tcp.srcport"] != "", f["udp.srcport"] != ""
    length = int(f["ip.len"]) if f["ip.len"] else int(f["ipv6.plen"]) + 40
    payload = int(f["tcp.len"]) if tcp else int(f["udp.length"]) - 8 if udp else 0
    return (
        int(f["frame.number"]) - 1,
        nanoseconds(f["frame.time_epoch"]),
        number(f["ip.src"] or f["ipv6.src"]),
        number(f["ip.dst"] or f["ipv6.dst"]),
        int(f["tcp.srcport"] or f["udp.srcport"] or 0),
        int(f["tcp.dstport"] or f["udp.dstport"] or 0),
        TCP if tcp else UDP if udp else int(f["ip.proto"]),
        length,
        payload,
        int(f["tcp.seq_raw"] or 0),
        int(f["tcp.ack_raw"] or 0),
        int(f["tcp.flags"] or "0", 16) & 0xFF,
        int(f["tcp.window_size_value"] or 0),
    )


def our_rows(p: PacketColumns) -> list[Row]:
    """The same from packet columns."""
    halves = (p.src_hi.tolist(), p.src_lo.tolist(), p.dst_hi.tolist(), p.dst_lo.tolist())
    ends = [(a << 64 | b, c << 64 | d) for a, b, c, d in zip(*halves, strict=True)]
    columns = (p.src_port, p.dst_port, p.protocol, p.ip_bytes, p.payload, p.seq, p.ack, p.flags,
               p.window)  # fmt: skip
    rest = zip(*(column.tolist() for column in columns), strict=True)
    front = zip(p.position.tolist(), p.time.tolist(), ends, rest, strict=True)
    return [(position, time, *end, *row) for position, time, end, row in front]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_columns_equal_tshark(capture: Path) -> None:
    """Times, ends, lengths, sequence numbers and flags are those that Wireshark decodes."""
    command = ["tshark", "-n", "-r", str(capture), "-Y", "ip or ipv6", "-T", "fields"]
    options = [*(x for name in FIELDS for x in ("-e", name)), "-E", "occurrence=f"]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    theirs = [wireshark_row(line) for line in run.stdout.splitlines()]
    ours = our_rows(PacketColumns.concat(list(read_packets([capture], PacketAccount()))))
    assert ours == theirs
