"""``llmflow model``: look at model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from llmflow.cli.options import PARTIAL, say

_PATH = click.Path(path_type=Path)
_model = click.argument("model", required=False, type=_PATH)


@click.group()
def command() -> None:
    """Show, check and compare model folders; without MODEL the shipped one."""


@command.command()
@_model
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON.")
def show(model: Path | None, as_json: bool) -> None:
    """Say what a model is, what it was trained on, and where it operates."""
    import json

    from llmflow.learn.folder import describe
    from llmflow.learn.model import default_model_path

    found = describe(model or default_model_path())
    if as_json:
        say(json.dumps(found, indent=1))
        return
    lines = []
    for name, value in found.items():
        lines += (
            [name, *_indented(value)] if isinstance(value, dict | list) else [f"{name}: {value}"]
        )
    say("\n".join(lines))


def _indented(value: dict[str, Any] | list[Any]) -> list[str]:
    if isinstance(value, dict):
        return [f"  {name}: {inner}" for name, inner in value.items()]
    return [f"  {entry}" for entry in value]


@command.command()
@_model
def verify(model: Path | None) -> None:
    """Check checksums, structure, trusted types, and that both files of trees are the same trees.

    Exit code 1 says that the model must not be used.
    """
    from llmflow.learn.folder import verify as check
    from llmflow.learn.model import default_model_path

    for sound in check(model or default_model_path()):
        say(f"sound: {sound}")


@command.command()
@click.argument("first", type=_PATH)
@click.argument("second", type=_PATH)
def diff(first: Path, second: Path) -> None:
    """Say how two models differ: features, options, operating points, training data.

    Exit code 3 says that they do.
    """
    from llmflow.learn.folder import diff as compare

    lines = compare(first, second)
    say("\n".join(lines) or "no difference")
    if lines:
        click.get_current_context().exit(PARTIAL)
