"""`llmflow lab`: what it says, and a whole run between namespaces where that is possible."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llmflow.cli import main
from llmflow.lab.net.doctor import checks


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["lab", *map(str, args)])


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the scenario `smoke`; skips where the machine does not allow one."""
    lacking = [check.name for check in checks() if check.required and not check.ok]
    if lacking:
        pytest.skip(f"the lab needs {', '.join(lacking)}")
    folder = tmp_path_factory.mktemp("lab") / "smoke"
    done = call("run", "smoke", "-o", folder)
    assert done.exit_code == 0, done.output
    return folder


def test_scenarios_and_kinds_are_listed() -> None:
    assert "training" in call("list").output
    listed = call("list", "--kinds").output
    assert "openai-chat" in listed
    assert "llm-stream" in listed


def test_doctor_names_what_it_looked_for() -> None:
    done = call("doctor")
    assert done.exit_code in (0, 3)
    assert "real-time scheduling" in done.output


@pytest.mark.parametrize("piece", ["0/2", "3/2", "2", "a/b"])
def test_a_piece_that_is_none_is_wrong_usage(piece: str, tmp_path: Path) -> None:
    assert call("run", "smoke", "-o", tmp_path / "x", "--piece", piece).exit_code == 2


def test_an_unknown_scenario_names_those_there_are(tmp_path: Path) -> None:
    done = call("run", "nothing", "-o", tmp_path / "x")
    assert done.exit_code == 1
    assert "smoke" in done.output


def test_what_is_no_run_cannot_be_verified(tmp_path: Path) -> None:
    done = call("verify", tmp_path)
    assert done.exit_code == 1
    assert "is no finished run" in done.output


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    assert call("run", "smoke", "-o", tmp_path).exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_all_sessions_are_played_captured_and_labelled(smoke: Path) -> None:
    report = json.loads((smoke / "report.json").read_text())
    assert not report["unplayed"]
    assert not report["lost"]
    assert report["labels"].keys() >= {"llm-stream", "other"}


def test_a_run_proves_its_labels(smoke: Path) -> None:
    done = call("verify", smoke)
    late = "99 % of the writes"  # hangs on what else this machine does
    assert [
        line for line in done.output.splitlines() if line[:2] == "NO" and late not in line
    ] == []


def test_classify_reads_what_the_lab_captured(smoke: Path) -> None:
    done = CliRunner().invoke(main, ["classify", str(smoke / "capture.pcapng"), "-f", "jsonl"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    report = json.loads((smoke / "report.json").read_text())
    assert len(rows) >= report["flows"]
