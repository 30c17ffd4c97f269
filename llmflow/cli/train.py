"""``llmflow train``: a model from labelled captures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from llmflow.cli.options import flow_options, labels_argument, say, take_flow_options
from llmflow.cli.selftraining import FromNames, names_options, train_from_names
from llmflow.cli.training import build, finish_training, talk, train_options


@click.command()
@labels_argument(required=False)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the model goes; a model that stands there is replaced.")  # fmt: skip
@click.option("--name", default="llm-stream", show_default=True, help="Name of the model.")
@click.option("--evaluation", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="JSON of `llmflow evaluate`, for the model card.")  # fmt: skip
@names_options
@train_options
@flow_options
def command(
    labels: tuple[Path, ...],
    output: Path,
    name: str,
    evaluation: Path | None,
    from_names: tuple[Path, ...],
    provider_files: tuple[Path, ...],
    evaluate_on: tuple[Path, ...],
    truth: tuple[Path, ...],
    workers: int,
    trees: int,
    folds: int,
    target_fpr: float,
    lab_fpr: float,
    variants: tuple[str, ...],
    seed: int,
    **given: Any,  # noqa: ANN401
) -> None:
    """Train a model on labelled captures.

    LABELS... are manifests (CSV or TSV with the columns capture,label and, for single connections,
    protocol, client_ip, client_port, server_ip, server_port; further category, group), folders
    with one sub-folder per label, runs of the traffic lab, or data sets of `llmflow dataset build`.
    `llm-stream` is the positive label, `unknown` is left out.

    With --from-names LABELS... may be left out: labels come from names on the wire.

    Threshold and calibration come from out-of-fold scores: no capture is on both sides of a split.
    """
    import json

    import numpy as np

    from llmflow.errors import LabelError
    from llmflow.learn.card import evaluation_tables, write_cards
    from llmflow.learn.dataset import Sources
    from llmflow.learn.model import check_place, save_model
    from llmflow.learn.train import TrainOptions, all_connections, fit_model

    if not (labels or from_names):
        raise click.UsageError("give LABELS..., or captures with --from-names")
    if (provider_files or evaluate_on or truth) and not from_names:
        raise click.UsageError("--providers, --evaluate-on and --truth go with --from-names")
    check_place(output)
    numbers = None
    if evaluation:
        try:
            numbers = json.loads(evaluation.read_bytes())["results"]
            evaluation_tables(numbers)
        except (ValueError, KeyError, TypeError):
            raise LabelError("is no output of `llmflow evaluate`", where=str(evaluation)) from None
    options = TrainOptions(
        trees=trees,
        folds=folds,
        target_fpr=target_fpr,
        lab_fpr=lab_fpr,
        variants=variants,
        seed=seed,
    )
    flows = take_flow_options(given)
    if from_names:
        names = FromNames(from_names, provider_files, evaluate_on, truth)
        data, model, estimator = train_from_names(labels, names, flows, options, workers, name)
    else:
        data = build(Sources.of(labels), flows, workers)
        model, estimator = fit_model(
            data, all_connections(data), options, name=name, progress=talk, remember=True
        )
    connections = data.connections
    streams, counts = np.unique(connections.category[connections.positive], return_counts=True)
    model.facts["training"] = {
        "captures": data.captures,
        "groups": len(np.unique(connections.group)),
        "days": [f(connections.day.tolist()) for f in (min, max)],
        "connections": len(connections),
        "positive": int(connections.positive.sum()),
        "segments": len(data.segments),
        "unusable": len(data.unusable),
        "streams": dict(zip(streams.tolist(), counts.tolist(), strict=True)),
    }
    save_model(model, estimator, write_cards(model, numbers), output)
    say(f"{model.model_id}: llm-stream from a score of {model.threshold:.4f}; {output}")
    finish_training(data)
