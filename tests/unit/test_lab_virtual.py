"""HTTP/3 in virtual time: what was said arrives, when it should, and the capture is genuine."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import dpkt
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("aioquic", reason="needs the lab extra")

from llmflow.cli import main
from llmflow.errors import LabError
from llmflow.flows.stream import FlowStream
from llmflow.lab.kinds import script
from llmflow.lab.net.impairment import SECOND, Direction
from llmflow.lab.net.paths import PATHS, AccessPath
from llmflow.lab.script import Session
from llmflow.lab.virtual import run_virtual
from llmflow.lab.virtual.clock import Clock
from llmflow.lab.virtual.compare import compare
from llmflow.lab.virtual.pcapng import Address, Framer

LOSSY = AccessPath(
    "lossy", up=Direction(delay_s=0.02, loss=0.05), down=Direction(delay_s=0.02, loss=0.05)
)
ROUTES = (PATHS["fibre"], LOSSY)
KINDS = ("probe-drip", "probe-echo", "probe-page")
FILES = ("capture.pcapng", "keys.log", "virtual.client.jsonl", "virtual.server.jsonl")


def sessions(count: int = 18) -> list[Session]:
    return [
        Session(n, KINDS[n % 3], "h3", "hypercorn", "aioquic", ROUTES[n % 2].name, n / 8, 4.0, n)
        for n in range(count)
    ]


def records(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = (folder / f"virtual.{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("virtual")
    run_virtual(sessions(), ROUTES, folder, 7, workers=1)
    return folder


def test_all_of_a_reply_arrives_in_spite_of_losses(run: Path) -> None:
    exchanges = [one for one in records(run, "client") if one["record"] == "exchange"]
    said = {(one.number, at): x for one in sessions() for at, x in enumerate(script(one))}
    assert {(one["number"], one["exchange"]) for one in exchanges} == set(said)
    for one in exchanges:
        exchange = said[one["number"], one["exchange"]]
        assert one["error"] is None
        if exchange.abort is None:
            assert one["received_bytes"] == sum(len(write.data) for write in exchange.down)
        else:
            assert one["end"] - one["start"] == pytest.approx(exchange.abort, abs=1e-5)


def test_servers_write_on_time_and_after_the_request(run: Path) -> None:
    begun = {
        (one["number"], one["exchange"]): one["start"]
        for one in records(run, "client")
        if one["record"] == "exchange"
    }
    written = records(run, "server")
    assert sum(len(one["sent"]) for one in written) > 200
    for one in written:
        assert one["sent"] == pytest.approx(one["due"], abs=2e-6)
        assert all(sent > begun[one["number"], one["exchange"]] for sent in one["sent"])


def test_the_next_request_waits_for_the_reply_and_a_moment_to_think(run: Path) -> None:
    exchanges = [one for one in records(run, "client") if one["record"] == "exchange"]
    drips = [one for one in exchanges if KINDS[one["number"] % 3] == "probe-drip"]
    for first, second in zip(drips[::2], drips[1::2], strict=True):
        assert second["start"] - first["end"] == pytest.approx(0.05, abs=1e-5)


def test_another_number_of_processes_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    # Far apart in one plan, so that packets of several processes mix in time.
    many = [*sessions(), *sessions(40)[18:]]
    for workers in (1, 2):
        run_virtual(many[::-1], ROUTES, tmp_path / str(workers), 7, workers=workers)
    for name in FILES:
        one, two = (tmp_path / str(workers) / name for workers in (1, 2))
        assert one.read_bytes() == two.read_bytes(), name
        assert one.stat().st_size > (run / name).stat().st_size


def test_another_seed_gives_other_losses_and_keys(run: Path, tmp_path: Path) -> None:
    run_virtual(sessions(), ROUTES, tmp_path, 8, workers=1)
    assert (tmp_path / "keys.log").read_text() != (run / "keys.log").read_text()


def test_a_tap_at_the_client_sees_requests_before_they_are_lost(tmp_path: Path) -> None:
    count = {}
    for tap in ("client", "server"):
        run_virtual(sessions()[1::2], ROUTES, tmp_path / tap, 7, tap=tap, workers=1)
        stream = FlowStream([str(tmp_path / tap / "capture.pcapng")])
        up = np.concatenate([batch.packets.up for batch in stream.batches()])
        count[tap] = int(up.sum())
    assert count["client"] > count["server"]


def test_classify_reads_the_capture_without_a_note(run: Path) -> None:
    result = CliRunner().invoke(main, ["classify", str(run / "capture.pcapng"), "-f", "jsonl"])
    assert (result.exit_code, result.stderr) == (0, "")
    flows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(flows) == len(sessions())
    assert {flow["server_ip"] for flow in flows} == {"10.80.1.2", "10.81.1.2"}


@pytest.mark.skipif(not shutil.which("tshark"), reason="needs tshark")
def test_tshark_decrypts_it_and_finds_retransmissions(run: Path) -> None:
    def fields(wanted: str, *names: str) -> list[list[str]]:
        command = ["tshark", "-n", "-r", str(run / "capture.pcapng")]
        for option in (f"tls.keylog_file:{run / 'keys.log'}", "udp.check_checksum:TRUE"):
            command += ["-o", option]
        command += [
            "-Y",
            wanted,
            "-T",
            "fields",
            *(word for name in names for word in ("-e", name)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
        return [line.split("\t") for line in done.stdout.splitlines()]

    assert not fields("udp.checksum.status == 0 || ip.checksum.status == 0", "frame.number")
    replies = fields(
        "http3 && quic.stream.stream_id == 0 && udp.srcport == 443", "udp.dstport", "ip.dst"
    )
    assert len({tuple(row) for row in replies}) == len(sessions())
    pieces = fields(
        "quic.stream.stream_id == 0 && udp.srcport == 443", "ip.dst", "quic.stream.offset"
    )
    again = [row for row in pieces if row[0].startswith("10.81.")]
    assert len(again) > len({tuple(row) for row in again})  # the same offset sent twice


@pytest.mark.parametrize(
    ("change", "what"),
    [({"transport": "h2"}, "h2"), ({"path": "moon"}, "moon"), ({"front": "iis"}, "iis")],
)
def test_plans_that_cannot_be_played_are_refused(
    change: dict[str, Any], what: str, tmp_path: Path
) -> None:
    with pytest.raises(LabError, match=f"session 0: .*{what}"):
        run_virtual([replace(sessions(1)[0], **change)], ROUTES, tmp_path, 1)


def test_a_server_that_is_never_reached_ends_with_an_error(tmp_path: Path) -> None:
    dead = AccessPath("dead", up=Direction(loss=1.0), down=Direction())
    one = Session(0, "probe-drip", "h3", "caddy", "aioquic", "dead", 0.0, 2.0, 1)
    run_virtual([one], [dead], tmp_path, 1, tap="client", workers=1)
    (connection,) = records(tmp_path, "client")
    assert "ended" in connection["error"]


def test_the_clock_calls_in_order_and_never_goes_back() -> None:
    clock, calls = Clock(5 * SECOND), list[tuple[str, int]]()

    def note(name: str) -> None:
        calls.append((name, clock.now - clock.start))

    clock.after(2e-9, lambda: note("late"))
    clock.at(0, lambda: note("past"))
    clock.at(0, lambda: clock.at(0, lambda: note("nested")))
    clock.run()
    assert calls == [("past", 0), ("nested", 0), ("late", 2)]


@pytest.mark.parametrize("payload", [b"", b"a", b"ab", bytes(range(256)) * 5])
def test_headers_are_those_that_dpkt_would_write(payload: bytes) -> None:
    frame = Framer(Address("10.80.0.1", 40000), Address("10.80.1.1", 443), up=True).frame(payload)
    ethernet = dpkt.ethernet.Ethernet(frame)
    had = ethernet.data.sum, ethernet.data.data.sum
    ethernet.data.sum = ethernet.data.data.sum = 0
    again = dpkt.ethernet.Ethernet(bytes(ethernet))
    assert had == (again.data.sum, again.data.data.sum)
    assert bytes(again) == frame


def test_runs_are_compared_by_kind(run: Path, tmp_path: Path) -> None:
    for name, seconds in (("same", 4.0), ("faster", 0.4)):
        folder = tmp_path / name
        run_virtual([replace(one, seconds=seconds) for one in sessions()], ROUTES, folder, 9)
    for folder in (run, tmp_path / "same", tmp_path / "faster"):
        flows = [one for one in records(folder, "client") if one["record"] == "connection"]
        (folder / "flows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in flows))
    same, faster = (compare(run, tmp_path / name)["probe-drip"] for name in ("same", "faster"))
    assert compare(run, run)["probe-drip"][:2] == (0.0, 0.0)
    assert same.gaps < 0.35 < faster.gaps
    assert same.chunks > 50
