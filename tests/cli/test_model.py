"""`llmflow model` and `llmflow drift`: what a folder holds, whether it is sound, when it is old."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llmflow.cli import main

PCAPS = Path(__file__).parents[2] / "pcaps"
FAST = ["--trees", "4", "--folds", "3", "--workers", "1"]
STREAMS = ("drip", "blob", "quic-drip", "burst-pause")
OTHERS = ("ssh-typing", "voip", "ticker", "download")


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def write_manifest(path: Path, names: tuple[str, ...]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["capture", "label"])
        for name in names:
            label = "llm-stream" if name in STREAMS else "other"
            writer.writerow([PCAPS / f"{name}.pcap", label])
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model."""
    folder = tmp_path_factory.mktemp("model")
    manifest = write_manifest(folder / "m.csv", STREAMS + OTHERS)
    assert invoke("train", manifest, "-o", folder / "model", *FAST).exit_code == 0
    return folder / "model"


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(trained, tmp_path / "model")
    return tmp_path / "model"


def test_a_model_is_shown(model: Path) -> None:
    """Identity, training data with its days, operating point and limits; the same as JSON."""
    text = invoke("model", "show", model).output
    for part in ("scikit_learn", "trees: 4", "positive", "threshold", "forest.npz"):
        assert part in text
    found = json.loads(invoke("model", "show", model, "--json").output)
    assert found["training"]["captures"] == found["training"]["groups"] == 8
    assert len(found["training"]["days"]) == 2
    assert found["operating_points"][0]["false_positive_rate"] == 0.01
    assert len(found["limits"]) > 3
    assert json.loads((model / "card.json").read_text())["model_id"] == found["model"]


def test_a_sound_model_passes(model: Path) -> None:
    """Every step is told."""
    result = invoke("model", "verify", model)
    assert result.exit_code == 0, result.output
    assert result.output.count("sound:") == 6


def _edit(model: Path, **changes: object) -> None:
    about = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(about | changes))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("card.json", "card.json does not match its checksum"),
        ("estimator.skops", "estimator.skops does not match its checksum"),
        ("reference.npz", "reference.npz does not match its checksum"),
    ],
)
def test_changed_files_are_found(model: Path, name: str, says: str) -> None:
    """One byte more is too much."""
    (model / name).write_bytes((model / name).read_bytes() + b" ")
    result = invoke("model", "verify", model)
    assert (result.exit_code, says in result.output) == (1, True), result.output


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema_hash": "0" * 64}, "trained on other features"),
        ({"threshold": 0.123}, "model.json says it were"),
        ({"sha256": {"../x": ""}}, "lies outside of the folder"),
        ({"sha256": 3}, "is not that of a model"),
        ({"sha256": {}}, "lacks or garbles"),
        ({"scikit_learn": "0.1.0"}, "fitted with scikit-learn 0.1.0"),
    ],
)
def test_unsound_models_are_refused(model: Path, changes: dict[str, object], says: str) -> None:
    """What does not fit is told in a sentence."""
    _edit(model, **changes)
    result = invoke("model", "verify", model)
    assert (result.exit_code, says in result.output) == (1, True), result.output


def test_other_trees_in_the_estimator_are_found(model: Path, tmp_path: Path) -> None:
    """Checksums may be right, and the files still of two models."""
    manifest = write_manifest(tmp_path / "m.csv", STREAMS + OTHERS)
    other = tmp_path / "other"
    assert invoke("train", manifest, "-o", other, "--seed", "7", *FAST).exit_code == 0
    shutil.copy(other / "estimator.skops", model)
    sums = [json.loads((x / "model.json").read_text())["sha256"] for x in (model, other)]
    _edit(model, sha256=sums[0] | {"estimator.skops": sums[1]["estimator.skops"]})
    result = invoke("model", "verify", model)
    assert (result.exit_code, "different trees" in result.output) == (1, True), result.output
    apart = invoke("model", "diff", model, other)
    assert apart.exit_code == 3
    assert "options.seed: 1 -> 7" in apart.output
    same = invoke("model", "diff", model, model)
    assert (same.exit_code, same.output) == (0, "no difference\n")


def test_drift_compares_and_advises(model: Path, tmp_path: Path) -> None:
    """The training set itself has not drifted; a model without reference says what to do."""
    manifest, target = write_manifest(tmp_path / "m.csv", STREAMS + OTHERS), tmp_path / "d.json"
    result = invoke("drift", manifest, "--model", model, "-o", target, "--workers", "1")
    assert result.exit_code == 0, result.output
    found = json.loads(target.read_text())
    assert found["groups"] == 8
    assert found["sides"]  # a model of so few captures may call nothing a stream
    for side in found["sides"].values():
        assert set(side["distances"]) > {"gap_p50", "score"}
    sums = json.loads((model / "model.json").read_text())["sha256"]
    del sums["reference.npz"]
    _edit(model, sha256=sums)
    result = invoke("drift", manifest, "--model", model)
    assert (result.exit_code, "the model has no reference.npz; train" in result.output) == (1, True)
