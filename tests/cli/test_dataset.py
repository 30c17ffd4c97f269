"""`llmflow dataset`: kept features are the features, and only what changed is read again."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from llmflow.cli import main
from llmflow.learn import store
from llmflow.learn.extraction import Part
from llmflow.learn.perturb import VARIANTS
from llmflow.learn.store import extract_all

PCAPS = Path(__file__).parents[2] / "pcaps"
NAMES = ("drip", "blob", "quic-drip", "burst-pause", "ssh-typing", "voip", "ticker", "download")
STREAMS = NAMES[:4]
FAST = ["--trees", "8", "--folds", "4", "--workers", "1"]


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def write_manifest(folder: Path, **labels: str) -> Path:
    """A manifest of the captures in a folder, with some labels changed."""
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["capture", "label", "source"])
        for name in NAMES:
            label = "llm-stream" if name in STREAMS else "other"
            writer.writerow([f"{name}.pcap", labels.get(name, label), "synth"])
    return path


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    """A folder with captures of its own."""
    for name in NAMES:
        shutil.copy(PCAPS / f"{name}.pcap", tmp_path)
    return tmp_path


def test_only_what_changed_is_read_again(captures: Path) -> None:
    """New labels or bytes cost one capture each; the bytes of the result do not tell the way."""
    folder = captures / "set"
    assert (
        "8 captures (8 read now)"
        in invoke("dataset", "build", write_manifest(captures), "-o", folder).output
    )
    assert (
        "(0 read now)" in invoke("dataset", "build", write_manifest(captures), "-o", folder).output
    )
    changed = write_manifest(captures, voip="unknown", ticker="push")
    shutil.copy(captures / "drip.pcap", captures / "blob.pcap")
    result = invoke("dataset", "build", changed, "-o", folder)
    assert "8 captures (3 read now)" in result.output
    assert result.exit_code == 3  # voip gives nothing now
    assert invoke("dataset", "build", changed, "-o", captures / "fresh").exit_code == 3
    for path in sorted(folder.iterdir()):
        assert path.read_bytes() == (captures / "fresh" / path.name).read_bytes()


def test_a_data_set_trains_the_same_model_as_its_labels(captures: Path) -> None:
    """Kept features and fresh ones are the same, to the last bit that decides."""
    manifest = write_manifest(captures)
    invoke("dataset", "build", manifest, "-o", captures / "set")
    for source, name in ((manifest, "a"), (captures / "set", "b")):
        assert invoke("train", source, "-o", captures / name, *FAST).exit_code == 0
    for file in ("forest.npz", "model.json", "CARD.md"):
        assert (captures / "a" / file).read_bytes() == (captures / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "other"}, "holds other features than this llmflow computes"),
        ({"options": {}}, "cut by other timeouts"),
        ({"format": 99}, "dataset.json cannot be read"),
        ({"captures": [{}]}, "the data set is damaged"),
        ({"captures": []}, "rows of no capture"),
    ],
)
def test_what_does_not_fit_is_refused(captures: Path, change: dict[str, object], says: str) -> None:
    """A sentence says what is wrong and what to do."""
    folder = captures / "set"
    invoke("dataset", "build", write_manifest(captures), "-o", folder)
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(about | change))
    result = invoke("evaluate", folder, *FAST)
    assert result.exit_code == 1
    assert says in result.output


def test_damaged_tables_are_refused(captures: Path) -> None:
    """What is no Parquet is told of, not shown as a traceback."""
    folder = captures / "set"
    invoke("dataset", "build", write_manifest(captures), "-o", folder)
    (folder / "segments.parquet").write_bytes(b"PAR1")
    result = invoke("train", folder, "-o", captures / "model", *FAST)
    assert result.exit_code == 1
    assert "the data set is damaged" in result.output


def test_a_capture_of_two_sources_is_refused(captures: Path) -> None:
    """The same capture must not count twice."""
    manifest = write_manifest(captures)
    invoke("dataset", "build", manifest, "-o", captures / "set")
    result = invoke("evaluate", captures / "set", manifest, *FAST)
    assert "drip.pcap: is named by two sources" in result.output


def test_a_lab_run_is_a_source(captures: Path) -> None:
    """Its log labels the connections; two labels on one 5-tuple, or a rejected one, are none."""
    run = captures / "run"
    run.mkdir()
    shutil.copy(PCAPS / "mixed.pcap", run / "capture.pcapng")
    with (PCAPS / "mixed.labels.csv").open() as file:
        rows = [
            {**row, "number": number, "kind": "k", "transport": "h2", "front": "caddy"}
            for number, row in enumerate(csv.DictReader(file))
        ]
    del rows[1]["number"]  # known to the kernel alone
    rows.append({**rows[2], "number": 99})  # ports used again, for the same
    rows.append({**rows[0], "label": "llm-vpn"})
    rows[3]["rejected"] = True
    (run / "flows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert invoke("dataset", "build", run, "-o", captures / "set").exit_code == 0
    shown = invoke("dataset", "show", captures / "set").output
    assert f"{len(rows) - 4} connections" in shown
    assert "lab\t" in shown
    (run / "flows.jsonl").write_text('{"number": 1}\n')
    result = invoke("dataset", "build", run, "-o", captures / "set")
    assert "flows.jsonl:1: is no record of a connection" in result.output


def test_shared_tables_name_no_address(captures: Path, tmp_path: Path) -> None:
    """What they say of traffic stays; they train like the set they were made of."""
    folder = captures / "set"
    invoke("dataset", "build", write_manifest(captures), "-o", folder)
    tables = store.read_tables(folder)
    # Captures of one folder would share its name; runs of the lab have one each.
    one = store.Tables(dict(list(tables.parts.items())[:1]), tables.digests)
    shared = store.without_addresses(one)
    store.write_tables(tmp_path / "shared", shared, store.Rules())
    connections, segments = store.read_tables(tmp_path / "shared").joined()
    assert segments.equals(one.joined()[1])
    assert set(connections["capture"].to_pylist()) == {captures.name}
    assert all(flow.split()[1].isdigit() for flow in connections["flow"].to_pylist())


def test_variants_stand_beside_the_traffic_as_it_is(captures: Path) -> None:
    """They add segments and change none; training without them gives the same trees."""
    manifest = write_manifest(captures)
    invoke("dataset", "build", manifest, "-o", captures / "set")
    wide = ["--variant", "oneway", "--variant", "pad"]
    assert invoke("dataset", "build", manifest, "-o", captures / "wide", *wide).exit_code == 0
    table = pyarrow.parquet.read_table(captures / "wide" / "segments.parquet")
    plain = table.filter(pc.equal(table["variant"], ""))
    assert set(table["variant"].to_pylist()) == {"", "oneway", "pad"}
    assert (
        plain.num_rows
        == pyarrow.parquet.read_metadata(captures / "set" / "segments.parquet").num_rows
    )
    for name in ("set", "wide"):
        assert invoke("train", captures / name, "-o", captures / f"m-{name}", *FAST).exit_code == 0
    trees = [(captures / f"m-{name}" / "forest.npz").read_bytes() for name in ("set", "wide")]
    assert trees[0] == trees[1]
    helped = invoke("dataset", "build", "--help").output.replace("\n", "").replace(" ", "")
    assert all(name in helped for name in VARIANTS)


def test_what_was_read_survives_an_interrupt(
    captures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of a long build costs the capture at work, not those before."""
    manifest, folder = write_manifest(captures), captures / "set"

    def interrupted(*given: Any, **more: Any) -> Iterator[Part]:
        yield from itertools.islice(extract_all(*given, **more), 3)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "extract_all", interrupted)
        assert invoke("dataset", "build", manifest, "-o", folder).exit_code != 0
    assert "8 captures (5 read now)" in invoke("dataset", "build", manifest, "-o", folder).output
