"""How near the lab's streams come to real ones: `python -m tests.bench.realism CORPUS RUN...`.

Prints the table of docs/lab.md and draws `docs/pictures/realism.png`. The corpus and the runs are
no part of the project.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from llmflow.lab.realism import compare, draw
from llmflow.lab.records import read_records
from llmflow.learn.labels import FLOW_COLUMNS, LabelledCapture, read_labels
from models.recipe import rows

# Real category -> the lab's kinds that imitate it, with the protocol behind both.
PAIRS = {
    "gpt4o-api/tcp": "openai-chat/tcp",
    "chatgpt/tcp": "chatgpt-web/tcp",
    "claude/tcp": "claude-web/tcp",
    "claude/udp": "claude-web/udp",
    "gemini/tcp": "gemini-web-large/tcp",
    "gemini/udp": "gemini-web/udp",
}
PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "realism.png"


def labelled(found: Iterable[dict[str, Any]]) -> list[LabelledCapture]:
    """Labels of rows, by way of a manifest as users write it."""
    columns = ("capture", "label", *FLOW_COLUMNS, "category")
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "rows.csv"
        with manifest.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(found)
        return read_labels([manifest])


def of_corpus(corpus: Path) -> Iterator[dict[str, Any]]:
    """Streams of the corpus."""
    for row in rows(corpus):
        if row["label"] == "llm-stream":
            yield row | {"category": f"{row['category']}/{row['protocol']}"}


def of_runs(runs: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Streams of lab runs, but for those that were sent late."""
    for run in runs:
        for flow in read_records([run / "flows.jsonl"]):
            if flow["label"] == "llm-stream" and not flow["rejected"]:
                category = f"{flow['kind']}/{flow['protocol']}"
                yield flow | {"capture": str(run / "capture.pcapng"), "category": category}


def main() -> None:
    """Compare, print and draw."""
    corpus, *runs = map(Path, sys.argv[1:])
    real, lab = labelled(of_corpus(corpus)), labelled(of_runs(runs))
    found = [one for pair in PAIRS.items() for one in compare(real, lab, dict([pair]))]
    for likeness in found:
        told = likeness.as_dict()
        cells = [told["real"], told["lab"]]
        for name, measure in told["measures"].items():
            cells.append(f"{name} {measure['ks']:.2f}, {measure['ratio']:.2f}")
            cells.append(f"{measure['real']} and {measure['lab']}")
        auc = told["auc"]
        telling = ", ".join(name for name, _ in likeness.telling[:3]) if auc else ""
        print("|", " | ".join([*cells, f"{auc:.2f} {telling}" if auc else "-"]), "|")  # noqa: T201
    with PICTURE.open("wb") as sink:
        draw(found, sink, "png")


if __name__ == "__main__":
    main()
