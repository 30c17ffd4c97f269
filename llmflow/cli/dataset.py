"""``llmflow dataset``: features of labelled captures, kept for training and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from llmflow.cli.options import (
    PARTIAL,
    counting,
    flow_options,
    labels_argument,
    say,
    take_flow_options,
)
from llmflow.cli.training import VARIANTS, processes_option, tell_losses


@click.group()
def command() -> None:
    """Keep the features of labelled captures for `llmflow train` and `llmflow evaluate`."""


@command.command()
@labels_argument()
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FOLDER",
              help="The data set; one that stands there is brought up to date.")  # fmt: skip
@click.option("--variant", "variants", multiple=True, type=click.Choice(VARIANTS),
              help="Measure the traffic under these conditions too; may be repeated.")  # fmt: skip
@processes_option
@flow_options
def build(
    labels: tuple[Path, ...],
    output: Path,
    variants: tuple[str, ...],
    workers: int,
    **given: Any,  # noqa: ANN401
) -> None:
    """Make a data set of the captures of LABELS... (as for `llmflow train`).

    Only captures that are new, or whose bytes or labels have changed, are read. Captures that
    LABELS... no longer name leave the data set.
    """
    from llmflow.learn.labels import read_labels
    from llmflow.learn.perturb import AS_IT_IS
    from llmflow.learn.store import Rules, build_dataset

    rules = Rules(take_flow_options(given), (AS_IT_IS, *sorted(set(variants))))
    captures = read_labels(list(labels))
    with counting("captures", len(captures)) as advance:
        tables, fresh = build_dataset(output, captures, rules, workers=workers, progress=advance)
    parts = tables.parts.values()
    unusable = [part.unusable for part in parts if part.unusable]
    damaged = [part.damaged for part in parts if part.damaged]
    tell_losses(unusable, damaged)
    say(
        f"{output}: {len(parts)} captures ({fresh} read now), "
        f"{sum(len(part.connections) for part in parts)} connections, "
        f"{sum(len(part.segments) for part in parts)} segments"
    )
    if unusable or damaged:
        click.get_current_context().exit(PARTIAL)


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
def show(folder: Path) -> None:
    """Count the connections of a data set by source, category and label."""
    from collections import Counter

    from llmflow.learn.store import read_tables

    connections, segments = read_tables(folder).joined()
    columns = [connections[name].to_pylist() for name in ("source", "category", "label")]
    decidable = connections["decidable"].to_pylist()
    total = Counter(zip(*columns, strict=True))
    judged = Counter(
        key for key, yes in zip(zip(*columns, strict=True), decidable, strict=True) if yes
    )
    lines = ["source\tcategory\tlabel\tconnections\tdecidable"]
    lines += ["\t".join((*key, str(total[key]), str(judged[key]))) for key in sorted(total)]
    say("\n".join([*lines, f"{len(connections)} connections, {len(segments)} segments"]))
