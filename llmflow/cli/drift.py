"""``llmflow drift``: when a model should be retrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from llmflow.cli.options import flow_options, labels_argument, say, take_flow_options
from llmflow.cli.training import build, finish_training, processes_option

_ADVICE = {
    "retrain": "Retrain: scores lie farther from the training set's than 99 % of its own parts do.",
    "look": "Label some of it and evaluate: features lie apart, scores do not yet.",
    "none": "No drift: it lies as near as parts of the training set lie to each other.",
    "too little": "Too little: no connection could be judged.",
}
_SHOWN = 8


@click.command()
@labels_argument()
@click.option("--model", "model_path", type=click.Path(path_type=Path),
              help="Folder of a trained model instead of the shipped one.")  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="Write every number as JSON.")
@processes_option
@flow_options
def command(
    labels: tuple[Path, ...],
    model_path: Path | None,
    output: str | None,
    workers: int,
    **given: Any,  # noqa: ANN401
) -> None:
    """Compare new captures with a model's training set, and say when to retrain.

    LABELS... are as for `llmflow train`, but what they call the connections does not count: put
    the captures into a folder of any name in a folder, and give that. Features and scores are
    compared apart for what the model calls streams and for the rest.
    """
    import json

    from llmflow.learn.dataset import Sources
    from llmflow.learn.drift import compare, load_reference
    from llmflow.learn.model import default_model_path, load_model
    from llmflow.learn.train import all_connections, score_connections
    from llmflow.report.writers import open_output

    reference = load_reference(model_path or default_model_path())
    model = load_model(model_path)
    data = build(Sources.of(labels), take_flow_options(given), workers)
    raw = score_connections(data, model.forest, all_connections(data))
    found = compare(reference, data, model.calibration.apply(raw), model.threshold)
    if output:
        with open_output(output) as sink:
            sink.write(json.dumps({"model": model.model_id, **found}, indent=1).encode() + b"\n")
    if output != "-":
        say("\n".join([*_lines(found), _ADVICE[found["advice"]]]))
    finish_training(data)


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [
        f"{found['groups']} groups of captures, levels of {found['groups_of_levels']} groups",
        "side\tcolumn\tPSI\tKS\tbeyond its level",
    ]
    for side, entry in found["sides"].items():
        apart = entry["distances"]
        ranked = sorted(apart, key=lambda name: (name != "score", -apart[name]["ks"]))
        lines += [
            f"{side}\t{name}\t{apart[name]['psi']:.3f}\t{apart[name]['ks']:.3f}\t"
            f"{'yes' if name in entry['beyond'] else 'no'}"
            for name in ranked[:_SHOWN]
        ]
    return lines
