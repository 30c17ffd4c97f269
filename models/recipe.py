"""Rebuild the shipped model: `make model CORPUS=path [LAB="run1 run2"]`.

Writes one manifest for the evaluation corpus, which is no part of the project, and calls the
commands that every user has. What the lab's runs gave is kept in ``models/lab``, without addresses;
with LAB it is measured again from the runs named.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from llmflow.learn.labels import read_labels
from llmflow.learn.store import Rules, build_dataset, without_addresses, write_tables

LAB = Path(__file__).parent / "lab"
PROTOCOLS = ("grouped", "leave_one_provider_out", "leave_one_transport_out",
             "leave_one_source_out", "unseen_kinds", "unseen_lookalikes", "unseen_fronts",
             "permuted", "robustness")  # fmt: skip
# Conditions under which real traffic is measured; those that servers cause are trained on too.
VARIANTS = "pad", "batch5", "batch2", "loss", "jitter", "merge", "midflow", "oneway", "sample"
TRAINED = VARIANTS[:2]
SMALL = "--trees", "40"  # there are many forests
COLUMNS = (
    "capture", "label", "protocol", "client_ip", "client_port", "server_ip", "server_port",
    "category", "provider", "confidence",
)  # fmt: skip
FAMILIES = {"chatgpt": "openai", "gpt4o-api": "openai", "api-openai": "openai"}


def rows(corpus: Path) -> list[dict[str, str]]:
    """Rows of the manifest: labelled flows of ``llm/``, whole captures of ``background/``."""
    found = []
    with (corpus / "llm" / "flows.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            # Streams are positives where the collector was sure; the doubtful ones are left out.
            doubtful = row["label"] == "llm-stream" and row["confidence"] == "low"
            found.append(
                {
                    "capture": str(corpus / "llm" / row["file"]),
                    "label": "unknown" if doubtful else row["label"],
                    "protocol": row["proto"],
                    "client_ip": row["client"],
                    "client_port": row["cport"],
                    "server_ip": row["server"],
                    "server_port": row["sport"],
                    "category": row["provider"],
                    # One house, one way to stream: left out of training together.
                    "provider": FAMILIES.get(row["provider"], row["provider"]),
                    "confidence": row["confidence"],
                }
            )
    with (corpus / "background" / "manifest.csv").open(newline="") as file:
        found += [
            {
                "capture": str(corpus / "background" / row["file"]),
                "label": "other",
                "category": row["category"],
            }
            for row in csv.DictReader(file)
        ]
    return found


def keep_lab(runs: list[Path]) -> None:
    """Measure runs of the lab, and keep what they give without addresses in ``models/lab``."""
    rules = Rules()
    tables, _ = build_dataset(Path("build/lab"), read_labels(runs), rules, workers=len(runs))
    write_tables(LAB, without_addresses(tables), rules)


def main() -> None:
    """Write the manifest; keep the lab's features; evaluate, train, and keep the numbers."""
    corpus, runs, build = Path(sys.argv[1]).resolve(), sys.argv[2:], Path("build")
    build.mkdir(exist_ok=True)
    manifest = build / "corpus.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows(corpus))
    if runs:
        keep_lab([Path(run).resolve() for run in runs])
    llmflow = [sys.executable, "-m", "llmflow"]
    real, evaluation = str(build / "corpus"), str(build / "evaluation.json")
    data = [real, str(LAB)]
    measured, trained = (
        [part for name in names for part in ("--variant", name)] for names in (VARIANTS, TRAINED)
    )
    protocols = [part for name in PROTOCOLS for part in ("--protocol", name)]
    for command in (
        ["dataset", "build", str(manifest), "-o", real, *measured],
        ["evaluate", *data, *trained, *SMALL, *protocols, "-o", str(build / "protocols.json")],
        ["evaluate", *data, *trained, *SMALL, "--folds", "5", "-o", evaluation,
         "--plot", str(build / "evaluation.svg")],
        ["train", *data, *trained, "-o", "models/llm-stream", "--evaluation", evaluation],
    ):  # fmt: skip
        done = subprocess.run([*llmflow, *command], check=False)  # noqa: S603 - our own command
        if done.returncode not in (0, 3):  # some captures of the corpus are damaged on purpose
            sys.exit(done.returncode)


if __name__ == "__main__":
    main()
