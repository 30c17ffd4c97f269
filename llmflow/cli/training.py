"""What ``train`` and ``evaluate`` share: their options, and reading the labelled captures."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from llmflow.cli.options import PARTIAL, Finite, counting

if TYPE_CHECKING:
    from llmflow.flows.batch import FlowOptions
    from llmflow.learn.dataset import DataSet
    from llmflow.learn.labels import LabelledCapture

F = TypeVar("F", bound=Callable[..., Any])
_NOTES = 5


def train_options(command: F) -> F:
    """--trees, --folds, --target-fpr, --seed, --workers."""
    options = [
        click.option("--trees", type=click.IntRange(1, 5000), default=200, show_default=True),
        click.option(
            "--folds", type=click.IntRange(2, 50), default=6, show_default=True,
            help="Parts of a cross-validation; no group of captures is in two.",
        ),
        click.option(
            "--target-fpr", type=Finite(0, 1), default=0.01, show_default=True,
            help="False-positive rate over decidable negatives at the operating point.",
        ),
        click.option("--seed", type=click.IntRange(0, 2**31), default=1, show_default=True),
        click.option(
            "--workers", type=click.IntRange(1), default=os.cpu_count() or 1,
            help="Processes that read captures; the result does not depend on it.",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def talk(text: str) -> None:
    """Say on standard error what goes on, where somebody looks."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


def build(captures: list[LabelledCapture], options: FlowOptions, workers: int) -> DataSet:
    """Read labelled captures into a data set; name the captures that gave nothing or less."""
    from llmflow.learn.dataset import build_dataset

    with counting("captures", len(captures)) as advance:
        data = build_dataset(captures, options, workers=workers, progress=advance)
    for text, notes in (("not used", data.unusable), ("damaged", data.damaged)):
        for note in notes[:_NOTES]:
            click.echo(f"llmflow: {text}: {note}", err=True)
        if len(notes) > _NOTES:
            click.echo(f"llmflow: {text}: {len(notes) - _NOTES} more", err=True)
    return data


def finish_training(data: DataSet) -> None:
    """End with exit code 3 if captures were damaged or of no use."""
    if data.unusable or data.damaged:
        click.get_current_context().exit(PARTIAL)
