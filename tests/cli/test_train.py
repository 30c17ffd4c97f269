"""`llmflow train`, `evaluate` and `features` on the captures of pcaps/."""

from __future__ import annotations

import csv
import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from llmflow.cli import main
from llmflow.errors import OutputError
from llmflow.features.extract import FEATURES
from llmflow.learn.model import default_model_path, load_estimator, load_model, save_model
from llmflow.learn.protocols import PROTOCOLS

PCAPS = Path(__file__).parents[2] / "pcaps"
CONTRADICTION = """\
capture,label,protocol,client_ip,client_port,server_ip,server_port
a.pcap,other,tcp,192.0.2.1,1,192.0.2.2,2
a.pcap,llm-stream,tcp,192.0.2.2,2,192.0.2.1,1
"""
FAST = ["--trees", "8", "--folds", "4", "--workers", "1"]


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One manifest of all label files of pcaps/."""
    path = tmp_path_factory.mktemp("labels") / "manifest.csv"
    found = []
    for labels in sorted(PCAPS.glob("*.labels.csv")):
        with labels.open() as file:
            found += [
                {**row, "capture": str(PCAPS / row["capture"])} for row in csv.DictReader(file)
            ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)
    return path


def test_training_is_deterministic_and_usable(manifest: Path, tmp_path: Path) -> None:
    """Same labels, same bytes in every file of the model; classify takes the result."""
    for name in ("a", "b"):
        result = invoke("train", manifest, "-o", tmp_path / name, *FAST)
        assert result.exit_code == 0, result.output
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == [
        "CARD.md", "card.json", "estimator.skops", "forest.npz", "model.json", "reference.npz",
    ]  # fmt: skip
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    result = invoke("classify", PCAPS / "drip.pcap", "-f", "jsonl", "--model", tmp_path / "a")
    # Too few captures for a threshold that means anything.
    assert json.loads(result.stdout)["score"] > 0.5


def test_shipped_estimator_and_arrays_are_the_same_trees() -> None:
    """skops file and forest.npz of the shipped model agree on real segments."""
    model, estimator = load_model(), load_estimator(default_model_path())
    rng = np.random.default_rng(0)
    values = rng.lognormal(0, 2, (200, estimator.n_features_in_))
    values[rng.random(values.shape) < 0.2] = np.nan
    expected = estimator.predict_proba(values)[:, 1]
    assert np.abs(model.forest.probability(values) - expected).max() < 1e-12


def test_evaluation_counts_every_labelled_connection(manifest: Path, tmp_path: Path) -> None:
    """Confusion adds up to the labels; the JSON holds the numbers, the picture is drawn."""
    target, plot = tmp_path / "evaluation.json", tmp_path / "evaluation.svg"
    result = invoke("evaluate", manifest, "-o", target, "--plot", plot, *FAST)
    assert result.exit_code == 0, result.output
    numbers = json.loads(target.read_text())["results"]
    with manifest.open() as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    confusion = numbers["confusion"]
    assert sum(confusion.values()) == numbers["connections"] == len(labels)
    positive = confusion["true_positive"] + confusion["false_negative"]
    assert positive == labels.count("llm-stream")
    assert "<svg" in plot.read_text()
    assert (
        invoke("train", manifest, "-o", tmp_path / "m", "--evaluation", target, *FAST).exit_code
        == 0
    )
    assert "Nested cross-validation" in (tmp_path / "m" / "CARD.md").read_text()


def test_a_ready_model_can_be_evaluated(manifest: Path) -> None:
    """--model scores the given model and trains nothing."""
    shipped = Path(__file__).parents[2] / "models" / "llm-stream"
    result = invoke("evaluate", manifest, "--model", shipped, "--workers", "1")
    assert result.exit_code == 0
    assert load_model().model_id in result.output


def test_folders_named_after_labels(tmp_path: Path) -> None:
    """A folder per label is a training set too."""
    for label, names in {
        "llm-stream": ("drip", "blob", "quic-drip", "burst-pause"),
        "other": ("ssh-typing", "voip", "ticker", "download"),
    }.items():
        (tmp_path / "set" / label).mkdir(parents=True)
        for name in names:
            shutil.copy(PCAPS / f"{name}.pcap", tmp_path / "set" / label)
    result = invoke("train", tmp_path / "set", "-o", tmp_path / "model", *FAST)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("capture\nmixed.pcap\n", "no column label"),
        ("capture,label\n,other\n", "without capture or label"),
        ("capture,label,protocol\nmixed.pcap,other,tcp\n", "flow columns"),
        (CONTRADICTION, "one connection is labelled"),
        ("capture,label\n", "names no capture"),
        ("capture,label\nmissing.pcap,other\n", "no such file"),
        ("capture,label\na.pcap,other\na.pcap,web\n", "two rows label all"),
        ("capture,label,group\na.pcap,other,x\na.pcap,other,y\n", "in two groups"),
        (CONTRADICTION.replace(",2\n", ",999999\n"), "port 999999"),
        ("capture,label\na\0b.pcap,other\n", "the name of no file"),
    ],
)
def test_bad_labels_are_one_sentence(tmp_path: Path, content: str, says: str) -> None:
    """What is wrong with a manifest is said with its line; nothing is trained."""
    path = tmp_path / "manifest.csv"
    path.write_text(content)
    result = invoke("train", path, "-o", tmp_path / "model", *FAST)
    assert result.exit_code == 1
    assert says in result.output
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [("missing.csv", "no such file; check the path"), ("x" * 300, "cannot be read (File name too")],
)
def test_labels_that_cannot_be_opened_are_one_sentence(
    tmp_path: Path, name: str, says: str
) -> None:
    """What the system says, without its number and the name twice."""
    result = invoke("evaluate", tmp_path / name, *FAST)
    assert result.exit_code == 1
    assert says in result.output
    assert "Errno" not in result.output


def test_a_model_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of writing: no folder half full stays."""
    model = load_model(default_model_path())

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        save_model(model, load_estimator(default_model_path()), {}, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_too_few_groups_are_refused(tmp_path: Path) -> None:
    """A split needs a group of each class in every part."""
    path = tmp_path / "manifest.csv"
    path.write_text(
        f"capture,label\n{PCAPS / 'drip.pcap'},llm-stream\n{PCAPS / 'voip.pcap'},other\n"
    )
    result = invoke("train", path, "-o", tmp_path / "model", *FAST)
    assert result.exit_code == 1
    assert "folds need as many" in result.output


def test_train_does_not_replace_what_is_no_model(manifest: Path, tmp_path: Path) -> None:
    """A folder with other files is never deleted for a model."""
    (tmp_path / "precious").write_text("mine")
    result = invoke("train", manifest, "-o", tmp_path, *FAST)
    assert result.exit_code == 1
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("level", ["turn", "flow"])
def test_features_are_exported_with_units(tmp_path: Path, level: str) -> None:
    """One row per turn or flow, null where undefined, units in the schema."""
    target = tmp_path / "features.parquet"
    assert invoke("features", PCAPS / "mixed.pcap", "-o", target, "--level", level).exit_code == 0
    table = pyarrow.parquet.read_table(target)
    assert table.column_names[4:] == list(FEATURES)
    assert table.schema.field("gap_p50").metadata[b"unit"] == b"s"
    assert table["gap_p50"].null_count > 0
    keys = set(zip(table["flow_id"].to_pylist(), table["turn"].to_pylist(), strict=True))
    assert len(keys) == table.num_rows


def test_features_are_listed() -> None:
    """--list tells every definition without a capture."""
    result = invoke("features", "--list")
    assert all(name in result.output for name in FEATURES)


def test_damaged_and_missing_captures_end_in_three(manifest: Path, tmp_path: Path) -> None:
    """A training set that lost something says so with its exit code, and still trains."""
    (tmp_path / "cut.pcap").write_bytes((PCAPS / "voip.pcap").read_bytes()[:-5])
    extra = f"{tmp_path / 'cut.pcap'},other,,,,,,\n{tmp_path / 'none.pcap'},other,,,,,,\n"
    both = tmp_path / "manifest.csv"
    both.write_text(manifest.read_text() + extra)
    result = invoke("train", both, "-o", tmp_path / "model", *FAST)
    assert result.exit_code == 3
    assert "the file ends inside a record" in result.output
    assert "no such file" in result.output
    assert (tmp_path / "model" / "model.json").exists()


def test_the_label_is_known_in_any_case(manifest: Path, tmp_path: Path) -> None:
    """`LLM-Stream` is the positive label, not a negative one by accident."""
    path = tmp_path / "manifest.csv"
    path.write_text(manifest.read_text().replace("llm-stream", "LLM-Stream"))
    result = invoke("evaluate", path, "--model", default_model_path(), "--workers", "1")
    assert "| recall, all streams |" in result.output
    assert "recall, all streams | none" not in result.output


def test_a_picture_without_a_folder_is_refused_early(manifest: Path, tmp_path: Path) -> None:
    """A place that cannot be written is said before the work, not after."""
    result = invoke("evaluate", manifest, "--plot", tmp_path / "no" / "x.svg", *FAST)
    assert result.exit_code == 1
    assert "lies in no folder" in result.output


def test_protocols_are_run_and_written(manifest: Path, tmp_path: Path) -> None:
    """One JSON with the numbers of each protocol asked for; the command offers all there are."""
    target = tmp_path / "protocols.json"
    result = invoke(
        "evaluate", manifest, "-o", target, "--protocol", "permuted", "--protocol", "grouped", *FAST
    )
    assert result.exit_code == 0, result.output
    numbers = json.loads(target.read_text())["protocols"]
    assert list(numbers) == ["permuted", "grouped"]
    assert numbers["grouped"]["decidable"]["recall_at"][0]["of"] == numbers["grouped"]["positives"]
    assert "| grouped |" in result.output
    helped = invoke("evaluate", "--help").output
    assert all(name in helped.replace("\n", "").replace(" ", "") for name in PROTOCOLS)
