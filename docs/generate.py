"""Writes docs/features.md and docs/cli.md from the code: `make docs`. A test keeps them true."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click

from llmflow.cli import COMMANDS, main
from llmflow.features.extract import FEATURES, MODEL_FEATURES, MODEL_GROUPS, schema_hash

DOCS = Path(__file__).parent


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


PAGES = {"features.md": features_page, "cli.md": cli_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
