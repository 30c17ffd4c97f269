"""Writes the pages of docs/ that code and kept tables make: `make docs`. A test keeps them true."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq

from llmflow.cli import COMMANDS, main
from llmflow.features.extract import FEATURES, MODEL_FEATURES, MODEL_GROUPS, schema_hash

DOCS = Path(__file__).parent
LAB = DOCS.parent / "models" / "lab" / "connections.parquet"


def features_page() -> str:
    """The features, as a table per group."""
    lines = [
        "# Features",
        "",
        "Generated from `llmflow/features/registry.py` (`make docs`); do not edit.",
        "",
        "All are computed on one segment of a reply (*connection*: on its flow), from sizes, times",
        "and directions alone, and are null where undefined, never -1 or 0. *New* bytes are",
        "payload less retransmissions; see [definitions.md](definitions.md).",
        "",
        f"Models read the groups {', '.join(MODEL_GROUPS)}; [training.md](training.md) says why.",
        "",
        f"Schema `{schema_hash(FEATURES)}`; of what models read `{schema_hash(MODEL_FEATURES)}`.",
    ]
    for group in dict.fromkeys(entry.group for entry in FEATURES.values()):
        lines += ["", f"## {group.capitalize()}", ""]
        lines += [
            "| name | unit | formula | counts | null | version |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| `{f.name}` | {f.unit} | {f.formula} | {f.counts} | {f.null} | {f.version} |"
            for f in FEATURES.values()
            if f.group == group
        ]
    return "\n".join(lines) + "\n"


def cli_page() -> str:
    """The help of every command."""
    lines = ["# Command line", "", "Generated from `--help` (`make docs`); do not edit."]
    options: dict[str, Any] = {"max_content_width": 100, "terminal_width": 100}
    context = click.Context(main, info_name="llmflow", **options, **main.context_settings)
    pages = [("llmflow", main.get_help(context))]
    for name in sorted(COMMANDS):
        command: click.Command = importlib.import_module(f"llmflow.cli.{name}").command
        inner = click.Context(command, info_name=name, parent=context)
        pages.append((f"llmflow {name}", command.get_help(inner)))
        for part, below in getattr(command, "commands", {}).items():
            innermost = click.Context(below, info_name=part, parent=inner)
            pages.append((f"llmflow {name} {part}", below.get_help(innermost)))
    for title, text in pages:
        lines += ["", f"## {title}", "", "```", text, "```"]
    return "\n".join(lines) + "\n"


def lab_page() -> str:
    """What runs of the lab gave for training, by kind and path."""
    rows = pq.read_table(LAB).to_pylist()
    paths = sorted({row["path"] for row in rows})
    counts = Counter((row["kind"], row["label"], row["path"]) for row in rows)
    decidable = Counter((row["kind"], row["label"]) for row in rows if row["decidable"])
    lines = [
        "# What the shipped model learned from in the lab",
        "",
        "Generated from `models/lab` (`make docs`); do not edit. Labelled connections by access",
        "path, those without one known to the kernel alone; *decidable*: at least 20 downlink data",
        "packets and 2 s. Pages of one kind open connections of several labels.",
        "",
        "| kind | label | " + " | ".join(path or "-" for path in paths) + " | decidable |",
        "|---|---|" + "--:|" * (len(paths) + 1),
    ]
    for kind, label in sorted({(row["kind"], row["label"]) for row in rows}):
        cells = [str(counts[kind, label, path]) for path in paths]
        lines.append(f"| {kind} | {label} | {' | '.join(cells)} | {decidable[kind, label]} |")
    for label in sorted({row["label"] for row in rows}):
        cells = [str(sum(counts[key] for key in counts if key[1:] == (label, p))) for p in paths]
        total = sum(decidable[key] for key in decidable if key[1] == label)
        lines.append(f"| **all** | {label} | {' | '.join(cells)} | {total} |")
    return "\n".join(lines) + "\n"


PAGES = {"features.md": features_page, "cli.md": cli_page, "lab-training.md": lab_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
