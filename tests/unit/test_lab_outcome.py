"""What a run leaves of its logs, without any network: a capture of made-up streams stands in."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from llmflow.errors import LabError
from llmflow.lab.net import doctor
from llmflow.lab.outcome import write_outcome
from llmflow.lab.records import append_records, read_records
from llmflow.lab.run import run_lab, run_virtual_lab
from llmflow.lab.scenario import read_scenario
from llmflow.lab.script import Session
from llmflow.lab.truth import captured_flows
from llmflow.lab.verify import verify

PCAPS = Path(__file__).parents[2] / "pcaps"
SESSIONS = [
    Session(0, "probe-drip", "h1", "uvicorn", "httpx", "fibre", 0.0, 4.0, 11),
    Session(1, "ssh", "program", "program", "program", "fibre", 0.0, 4.0, 12),
    Session(2, "probe-drip", "h1", "uvicorn", "httpx", "fibre", 0.0, 4.0, 13),
]
NOWHERE: dict[str, Any] = {
    "client_ip": None,
    "client_port": None,
    "server_ip": None,
    "server_port": None,
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three sessions: a stream with late writes, a failed visit, one that never was."""
    folder, work = tmp_path / "run", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    shutil.copy(PCAPS / "drip.pcap", folder / "capture.pcap")
    seen = captured_flows(folder / "capture.pcap")[0]
    (client_ip, client_port), (server_ip, server_port) = seen.key[1:]
    ends = {"protocol": "tcp", "client_ip": client_ip, "client_port": client_port}
    ends |= {"server_ip": server_ip, "server_port": server_port}
    span = {"start": seen.start, "end": seen.end, "error": None}
    said = asdict(SESSIONS[0]) | {"label": "llm-stream", "category": "probe"}
    asked = {"number": 0, "exchange": 0, "events": 2}
    append_records(
        work / "fibre.client.jsonl",
        [
            said | ends | span,
            ends | span | asked,
            said | span | {"number": 2, "client_port": 0, "error": "refused"},
        ],
    )
    visit = {"number": 1, "kind": "ssh", "protocol": None, "error": "ended with 255"}
    append_records(work / "fibre.visits.jsonl", [visit | NOWHERE | {"start": 1.0, "end": 2.0}])
    due = [seen.start, seen.start + 1.0]
    sent = [seen.start, seen.start + 1.5]
    served = asked | ends | {"due": due, "sent": sent, "size": [10, 10]}
    append_records(work / "uvicorn.server.jsonl", [served])
    report = {"capture": "capture.pcap", "dropped": 0, "offload": False}
    write_outcome(folder, work, SESSIONS, {}, report)
    return folder


def test_late_sessions_failed_visits_and_those_that_never_were_are_told_apart(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    assert report["rejected"] == [0]
    assert [visit["error"] for visit in report["visits_failed"]] == ["ended with 255"]
    assert report["unplayed"] == [2]
    (flow,) = read_records([run / "flows.jsonl"])
    assert (flow["label"], flow["rejected"], flow["witness"]) == (
        "llm-stream",
        True,
        ["client", "server"],
    )
    (request,) = read_records([run / "requests.jsonl"])
    assert request["content_type"] == "text/event-stream"
    assert request["late"] == pytest.approx(0.495)


def test_verify_says_what_failed(run: Path) -> None:
    checks = {check.name: check.ok for check in verify(run)}
    assert not checks["every session was played"]
    assert not checks["visits of programs that failed are few"]
    assert checks["client, server and kernel agree"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("report.json", "[]"),
        ("report.json", "[" * 100_000),
        ("report.json", '{"capture": "capture.pcap"}'),
        ("report.json", '{"capture": 7}'),
        ("flows.jsonl", "{}\n"),
        ("flows.jsonl", '{"witness": 3, "agree": true}\n'),
        ("requests.jsonl", '{"error": null}\n'),
        ("requests.jsonl", "\xff\n"),
    ],
)
def test_a_run_that_somebody_damaged_is_refused(run: Path, file: str, text: str) -> None:
    (run / file).write_bytes(text.encode("latin-1"))
    with pytest.raises(LabError, match=r"is no (finished run|JSON object)"):
        verify(run)


def test_a_machine_that_lacks_something_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = doctor.Check("uvloop", "servers and clients", True, False)
    monkeypatch.setattr(doctor, "checks", lambda: [lacking])
    with pytest.raises(LabError, match="the lab lacks uvloop; `llmflow lab doctor`"):
        run_lab(read_scenario("smoke"), tmp_path / "x", seed=1, piece=(1, 1), talk=print)
    assert not (tmp_path / "x").exists()


def test_virtual_time_without_its_package_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aioquic", None)
    with pytest.raises(LabError, match=r"needs aioquic; pip install"):
        run_virtual_lab(read_scenario("smoke"), tmp_path / "x", seed=1, piece=(1, 1), talk=print)
    assert not (tmp_path / "x").exists()
