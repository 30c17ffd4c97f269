"""``llmflow evaluate``: honest numbers on labelled captures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from llmflow.cli.options import flow_options, labels_argument, say, take_flow_options
from llmflow.cli.training import build, finish_training, talk, train_options

# Those of learn/protocols.py, which is not imported for --help.
_PROTOCOLS = ("grouped", "leave_one_provider_out", "leave_one_transport_out",
              "leave_one_source_out", "unseen_kinds", "unseen_lookalikes",
              "unseen_fronts", "permuted", "robustness")  # fmt: skip


@click.command()
@labels_argument()
@click.option("--model", "model_path", type=click.Path(path_type=Path),
              help="Score this model (the captures must not have trained it) instead of "
              "cross-validating the method.")  # fmt: skip
@click.option(
    "--protocol",
    "protocols",
    type=click.Choice([*_PROTOCOLS, "all"]),
    multiple=True,
    help="Leave out what the method must do without, instead; may be repeated.",
)
@click.option("-o", "--output", metavar="FILE", help="Write every number as JSON.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.svg|.png",
              help="Draw precision over recall and the score distributions.")  # fmt: skip
@train_options
@flow_options
def command(
    labels: tuple[Path, ...],
    model_path: Path | None,
    protocols: tuple[str, ...],
    output: str | None,
    plot: Path | None,
    workers: int,
    trees: int,
    folds: int,
    target_fpr: float,
    lab_fpr: float,
    variants: tuple[str, ...],
    seed: int,
    **given: Any,  # noqa: ANN401
) -> None:
    """Evaluate on labelled captures (LABELS... as for `llmflow train`).

    By default the method is cross-validated: each group of captures is scored by a model (forest,
    calibration and threshold) made from the others alone. Rates are shown with Clopper-Pearson
    95 % intervals. Protocols tell what carries over to what was never seen: they show recall where
    a share of all, or of the decidable, other connections pass.
    """
    from llmflow.errors import OutputError
    from llmflow.learn.card import evaluation_tables, protocol_table
    from llmflow.learn.dataset import Sources
    from llmflow.learn.evaluate import cross_validate, run_protocols, score_with, summarise
    from llmflow.learn.model import load_model
    from llmflow.learn.train import TrainOptions
    from llmflow.report.plots import check_plot, draw_evaluation
    from llmflow.report.writers import open_output

    if plot:
        check_plot(plot)
    for path in (output or ".", plot or "."):
        if not Path(path).resolve().parent.is_dir():
            raise OutputError("lies in no folder", where=str(path), hint="make the folder first")
    if protocols and (model_path or plot):
        raise click.UsageError("--protocol goes with neither --model nor --plot")
    data = build(Sources.of(labels), take_flow_options(given), workers)
    options = TrainOptions(
        trees=trees,
        folds=folds,
        target_fpr=target_fpr,
        lab_fpr=lab_fpr,
        variants=variants,
        seed=seed,
    )
    if protocols:
        found = run_protocols(data, options, _PROTOCOLS if "all" in protocols else protocols, talk)
        _write(output, {"protocols": found})
        if output != "-":
            say(protocol_table(found))
        finish_training(data)
        return
    if model_path:
        model = load_model(model_path)
        scores, method = score_with(model, data), f"Model {model.model_id} on other captures."
    else:
        scores = cross_validate(data, options, talk)
        method = f"Nested cross-validation in {folds} parts, grouped by capture."
    results = {"method": method, **summarise(data, scores)}
    _write(output, {"results": results})
    if plot:
        with open_output(str(plot)) as sink:
            draw_evaluation(data.connections, scores, sink, plot.suffix[1:])
    if output != "-":
        confusion = ", ".join(
            f"{name.replace('_', ' ')} {n}" for name, n in results["confusion"].items()
        )
        say(f"{method}\n{confusion}\n\n{evaluation_tables(results)}")
    finish_training(data)


def _write(output: str | None, results: dict[str, Any]) -> None:
    """Write numbers as JSON, if a place is given."""
    import json

    import llmflow
    from llmflow.report.writers import open_output

    if output:
        text = json.dumps({"llmflow": llmflow.__version__, **results}, indent=1)
        with open_output(output) as sink:
            sink.write(text.encode() + b"\n")
