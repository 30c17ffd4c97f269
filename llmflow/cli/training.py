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
    from llmflow.learn.dataset import DataSet, Sources

F = TypeVar("F", bound=Callable[..., Any])
_NOTES = 5
# Those of learn/perturb.py, which is not imported for --help.
VARIANTS = ("pad", "batch2", "batch5", "pace", "resize", "loss", "jitter", "merge", "midflow",
            "oneway", "sample", "acks")  # fmt: skip


processes_option = click.option(
    "--workers",
    type=click.IntRange(1),
    default=os.cpu_count() or 1,
    help="Processes that read captures; the result does not depend on it.",
)


def train_options(command: F) -> F:
    """--trees, --folds, --target-fpr, --lab-fpr, --variant, --seed, --workers."""
    options = [
        click.option("--trees", type=click.IntRange(1, 5000), default=60, show_default=True),
        click.option(
            "--folds", type=click.IntRange(2, 50), default=6, show_default=True,
            help="Parts of a cross-validation; no group of captures is in two.",
        ),
        click.option(
            "--target-fpr", type=Finite(0, 1), default=0.01, show_default=True,
            help="False-positive rate over decidable negatives at the operating point.",
        ),
        click.option(
            "--lab-fpr", type=Finite(0, 1), default=0.05, show_default=True,
            help="The same over the lab's look-alikes, of kinds the forest did not know.",
        ),
        click.option(
            "--variant", "variants", multiple=True, type=click.Choice(VARIANTS),
            help="Train on the traffic under these conditions too, where data sets hold them; "
            "may be repeated.",
        ),
        click.option("--seed", type=click.IntRange(0, 2**31), default=1, show_default=True),
        processes_option,
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def talk(text: str) -> None:
    """Say on standard error what goes on, where somebody looks."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


def build(sources: Sources, options: FlowOptions, workers: int) -> DataSet:
    """Read data sets and labelled captures; name the captures that gave nothing or less."""
    from llmflow.learn.dataset import read_dataset
    from llmflow.learn.store import Rules

    with counting("captures", len(sources.captures)) as advance:
        data = read_dataset(sources, Rules(options), workers=workers, progress=advance)
    tell_losses(data.unusable, data.damaged)
    return data


def tell_losses(unusable: list[str], damaged: list[str]) -> None:
    """Name the captures that gave nothing, or less than they should."""
    for text, notes in (("not used", unusable), ("damaged", damaged)):
        for note in notes[:_NOTES]:
            click.echo(f"llmflow: {text}: {note}", err=True)
        if len(notes) > _NOTES:
            click.echo(f"llmflow: {text}: {len(notes) - _NOTES} more", err=True)


def finish_training(data: DataSet) -> None:
    """End with exit code 3 if captures were damaged or of no use."""
    if data.unusable or data.damaged:
        click.get_current_context().exit(PARTIAL)
