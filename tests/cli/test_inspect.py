"""`llmflow inspect` as its users call it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

PCAPS = Path(__file__).parents[2] / "pcaps"
MIXED = PCAPS / "mixed.pcap"


def run(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmflow", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def facts(path: Path, code: int = 0) -> dict[str, Any]:
    done = run("inspect", path, "-f", "json")
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["packets"] == found["ip_packets"] + sum(found["skipped"].values())
    return found


def records(data: bytes) -> list[tuple[bytes, bytes]]:
    at, found = 24, []
    while at < len(data):
        (captured,) = struct.unpack_from("<I", data, at + 8)
        found.append((data[at : at + 16], data[at + 16 : at + 16 + captured]))
        at += 16 + captured
    return found


def tunnelled(port: int, ids: bytes) -> bytes:
    """The demo capture with every frame in VXLAN between two routers."""
    data = MIXED.read_bytes()
    out = data[:24]
    for head, frame in records(data):
        seconds, fraction, captured, wire = struct.unpack("<IIII", head)
        outer = bytes(12) + b"\x08\x00" + struct.pack(
            ">BBHHHBBHIIHHHH", 0x45, 0, 36 + wire, 1, 0, 64, 17, 0, 0x0A000001, 0x0A000002, 50000,
            port, 16 + wire, 0,
        ) + ids  # fmt: skip
        size = len(outer)
        out += struct.pack("<IIII", seconds, fraction, captured + size, wire + size) + outer + frame
    return out


def test_the_account_and_the_flows_of_a_capture() -> None:
    """The demo capture: Ethernet, all decoded, 18 flows, snaplen 96."""
    found = facts(MIXED)
    assert found["packets"] == found["ip_packets"] > 3000
    assert found["link_types"] == {"Ethernet": found["packets"]}
    assert found["flows_inner"] == found["flows_outer"] == found["flows_inner_with_ports"] == 18
    assert found["packets_inner_with_ports"] == found["packets"]
    assert found["cut_by_snaplen"] > 0
    assert (found["tunnels"], found["out_of_order"], found["above_mtu"]) == ({}, 0, 0)
    assert found["first"].startswith("2026-01-01T00:00:00.1")


def test_tunnels_are_named_and_opened(tmp_path: Path) -> None:
    """One flow outside, eighteen inside; classify sees the same flows as without the tunnel."""
    path = tmp_path / "vxlan.pcap"
    path.write_bytes(tunnelled(4789, struct.pack(">II", 8 << 24, 5 << 8)))
    found = facts(path)
    assert found["tunnels"] == {"vxlan": found["packets"]}
    assert (found["flows_outer"], found["flows_inner"]) == (1, 18)
    assert found["above_mtu"] > 0
    assert run("classify", path, "-f", "csv").stdout == run("classify", MIXED, "-f", "csv").stdout
    outer = run("classify", path, "--tunnels", "outer", "-f", "jsonl").stdout.splitlines()
    assert {json.loads(line)["server_port"] for line in outer} == {4789}
    target = tmp_path / "features.parquet"
    assert run("features", path, "--tunnels", "outer", "-o", target).returncode == 0
    metadata = pyarrow.parquet.read_metadata(target).metadata
    assert json.loads(metadata[b"llmflow.options"])["tunnels"] == "outer"


def test_one_way_disorder_and_offload_are_told(tmp_path: Path) -> None:
    """What biases the features is said in words."""
    data = MIXED.read_bytes()
    rows = records(data)
    ports = {struct.unpack(">HH", frame[34:38]) for _, frame in rows}
    one = min(ports)
    kept = [row for row in rows if struct.unpack(">HH", row[1][34:38]) == one]
    kept[1], kept[2] = kept[2], kept[1]
    path = tmp_path / "one-way.pcap"
    path.write_bytes(data[:24] + b"".join(head + frame for head, frame in kept))
    found = facts(path)
    assert (found["one_way_flows"], found["flows_inner"]) == (1, 1)
    assert found["out_of_order"] == 1
    assert found["largest_step_back_s"] > 0
    text = run("inspect", path).stdout
    assert "in one direction only" in text
    assert "earlier than the one before" in text


def test_text_is_for_people_and_has_the_account(tmp_path: Path) -> None:
    """Reasons with numbers, and the damage on standard error."""
    path = tmp_path / "cut.pcap"
    path.write_bytes(MIXED.read_bytes()[:-7])
    done = run("inspect", path)
    assert done.returncode == 3
    assert "truncated-capture" in done.stdout
    assert "Ethernet" in done.stdout
    assert "the file ends inside a record" in done.stderr


def test_unknown_link_types_are_shown_by_inspect_and_refused_by_classify(tmp_path: Path) -> None:
    """inspect prints its account (3); classify could not decode a packet (1)."""
    data = MIXED.read_bytes()
    path = tmp_path / "zigbee.pcap"
    path.write_bytes(data[:20] + struct.pack("<I", 195) + data[24:])
    found = facts(path, 3)
    assert found["skipped"] == {"unknown-link-type": found["packets"]}
    assert found["link_types"] == {"802.15.4": found["packets"]}
    done = run("classify", path)
    assert done.returncode == 1
    assert "llmflow inspect" in done.stderr


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, 1), (b"", 1), (b"GET / HTTP/1.1\r\n\r\n", 1), (MIXED.read_bytes()[:24], 0)],
)
def test_unusable_and_empty_captures(tmp_path: Path, content: bytes | None, code: int) -> None:
    """One sentence for what is no capture; zeros for a capture without packets."""
    path = tmp_path / "capture"
    if content is not None:
        path.write_bytes(content)
    done = run("inspect", path, "-f", "json")
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if code == 0:
        assert json.loads(done.stdout)["packets"] == 0
        assert run("inspect", path).returncode == 0


def test_wrong_usage_is_exit_code_two() -> None:
    """Usage errors are told apart from bad input."""
    assert run("inspect").returncode == 2
    assert run("inspect", MIXED, "-f", "xml").returncode == 2
    assert run("classify", MIXED, "--tunnels", "both").returncode == 2
