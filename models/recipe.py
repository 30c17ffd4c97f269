"""Rebuild the shipped model from the evaluation corpus: `make model CORPUS=path`.

Writes one manifest for the corpus and calls the commands that every user has. The corpus itself is
no part of the project.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

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


def main() -> None:
    """Write the manifest, evaluate by cross-validation, train, and keep the numbers."""
    corpus, build = Path(sys.argv[1]).resolve(), Path("build")
    build.mkdir(exist_ok=True)
    manifest = build / "corpus.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows(corpus))
    llmflow = [sys.executable, "-m", "llmflow"]
    data, evaluation = str(build / "corpus"), str(build / "evaluation.json")
    for command in (
        ["dataset", "build", str(manifest), "-o", data],
        ["evaluate", data, "-o", evaluation, "--plot", str(build / "evaluation.svg")],
        ["train", data, "-o", "models/llm-stream", "--evaluation", evaluation],
    ):
        done = subprocess.run([*llmflow, *command], check=False)  # noqa: S603 - our own command
        if done.returncode not in (0, 3):  # some captures of the corpus are damaged on purpose
            sys.exit(done.returncode)


if __name__ == "__main__":
    main()
