"""What ``train --from-names`` does: labels from names, the first model, what changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from llmflow.cli.options import counting, say
from llmflow.cli.training import build, talk

if TYPE_CHECKING:
    from llmflow.flows.batch import FlowOptions
    from llmflow.learn.dataset import DataSet
    from llmflow.learn.labels import LabelledCapture
    from llmflow.learn.model import Model
    from llmflow.learn.train import TrainOptions

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class FromNames:
    """The options of training from names."""

    captures: tuple[Path, ...]
    providers: tuple[Path, ...]
    evaluate_on: tuple[Path, ...]
    truth: tuple[Path, ...]


def names_options(command: F) -> F:
    """--from-names, --providers, --evaluate-on, --truth."""
    path = click.Path(path_type=Path)
    options = [
        click.option(
            "--from-names", "from_names", multiple=True, metavar="CAPTURE", type=path,
            help="Your own capture, or folder of captures: connections that name an LLM service "
            "count as noisy examples of streams, the others as unlabelled. Repeatable.",
        ),
        click.option("--providers", "provider_files", multiple=True, metavar="FILE", type=path,
                     help="With --from-names: your own list of services."),
        click.option("--evaluate-on", multiple=True, metavar="LABELS", type=path,
                     help="With --from-names: say what changed on these labelled captures."),
        click.option("--truth", multiple=True, metavar="LABELS", type=path,
                     help="With --from-names: true labels of the same captures, to measure how "
                     "wrong names are. Not trained on."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _captures(paths: tuple[Path, ...]) -> list[Path]:
    from llmflow.errors import LabelError
    from llmflow.learn.labels import SUFFIXES

    found: dict[Path, Path] = {}
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        some = [x for x in inside if not path.is_dir() or x.suffix.lower() in SUFFIXES]
        if not some:
            raise LabelError("holds no capture", where=str(path), hint="give files or folders")
        found |= {x.resolve(): x for x in some}
    return list(found.values())


def _apart(labelled: list[LabelledCapture], others: list[LabelledCapture], what: str) -> None:
    """No capture may be in two parts: figures would be of what was learned by heart."""
    from llmflow.errors import LabelError

    both = {x.path.resolve() for x in labelled} & {x.path.resolve() for x in others}
    if both:
        raise LabelError(f"is trained on and {what}", where=str(min(both)), hint="keep one")


def train_from_names(
    labels: tuple[Path, ...],
    given: FromNames,
    flows: FlowOptions,
    options: TrainOptions,
    workers: int,
    name: str,
) -> tuple[DataSet, Model, Any]:
    """Train on labels from names, and on LABELS if there are any; say what came of it."""
    from llmflow.learn.dataset import Sources
    from llmflow.learn.evaluate import score_with, summarise
    from llmflow.learn.labels import read_labels
    from llmflow.learn.model import load_model
    from llmflow.learn.names import by_provider, label_by_names, label_noise, pick
    from llmflow.learn.train import fit_model
    from llmflow.metadata.providers import load

    base = read_labels(list(labels)) if labels else []
    fixed = read_labels(list(given.evaluate_on)) if given.evaluate_on else []
    paths = _captures(given.captures)
    with counting("names", len(paths)) as advance:
        named = label_by_names(paths, load(given.providers), flows, advance)
    _apart(named, base, "labelled twice")
    _apart(named + base, fixed, "evaluated on")
    if given.truth:
        _say_noise(label_noise(named, read_labels(list(given.truth))))
    data = build(Sources((), base + named), flows, workers)
    by_name = data.of_groups([capture.group for capture in named])
    picked = pick(data, by_name, options, talk)
    model, estimator = fit_model(
        data, picked.kept, options, name=name, progress=talk, remember=True
    )
    provided = by_provider(data, by_name, score_with(model, data).called)
    model.facts["names"] = {
        "source": "names",
        "label_frequency": picked.frequency,
        "candidates": sum(entry["named"] for entry in provided.values()),
        "left_out_candidates": len(picked.doubted),
        "left_out_unlabelled": len(picked.hidden),
    }
    for provider, entry in provided.items():
        say(f"{provider}: {entry['named']} connections, {entry['called']} called llm-stream")
    say(
        f"label frequency c = {picked.frequency:.3f}; left out: {len(picked.doubted)} named that "
        f"do not look like streams, {len(picked.hidden)} unnamed that do"
    )
    if fixed:
        before = load_model()
        if base:
            rows = data.of_groups([capture.group for capture in base]).nonzero()[0]
            before, _ = fit_model(data, rows, options, progress=talk)
        held_out = build(Sources((), fixed), flows, workers)
        for text, one in (("before", before), ("after", model)):
            _say_rates(text, one, summarise(held_out, score_with(one, held_out)))
    return data, model, estimator


def _say_rates(text: str, model: Model, numbers: dict[str, Any]) -> None:
    from llmflow.learn.card import percent

    say(
        f"{text} ({model.model_id}): recall {percent(numbers['recall'])}, "
        f"false positives {percent(numbers['false_positives'])}, "
        f"decidable ones {percent(numbers['false_positives_decidable'])}"
    )


def _say_noise(noise: dict[str, Any]) -> None:
    def share(name: str) -> str:
        return "unknown" if noise[name] is None else f"{noise[name]:.1%}"

    say(
        f"names against the truth: {noise['named']} named and {noise['streams']} streams; "
        f"{share('named_no_stream')} of the named are no streams, "
        f"{share('streams_named')} of the streams are named"
    )
