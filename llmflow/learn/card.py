"""The model card: what a model was trained on, how it was evaluated, where it ends."""

from __future__ import annotations

import json
from typing import Any

from llmflow.features.extract import LEAST_CHUNKS, MODEL_FEATURES, schema_hash
from llmflow.learn.extraction import DECIDABLE_PACKETS, DECIDABLE_SECONDS
from llmflow.learn.metrics import rate
from llmflow.learn.model import LEAST_STREAM_CHUNKS, Model

_LIMITS = f"""\
- A score is a probability under the mixture of connections it was calibrated on, not at an
  operator's base rate; far rarer streams need a far lower false-positive rate than measured here.
- The model is asked about replies of at least {LEAST_CHUNKS} chunks. Fewer than
  {LEAST_STREAM_CHUNKS} chunks are `other`, in between is `undecided`.
- Look-alikes of kinds that the training set lacks pass far more often than those it knows: expect
  one in twenty of those that stream like a model (encrypted push, captions, exports).
- Streams that a server batches or pads, and gRPC token streams, are found less often.
- Streams inside a VPN, sampled captures, and replies shorter than about a second are not covered.
- Merged frames of segmentation offload, and heavy loss at the tap, change chunk sizes and gaps.
- It sees that an LLM streams, never what about."""


# Operating points of the protocols' table: false-positive rate, over which negatives.
_POINTS = (1e-3, "all"), (2e-4, "all"), (1e-2, "decidable"), (1e-3, "decidable")


def percent(entry: dict[str, Any]) -> str:
    """A rate with its interval, as text: ``26/26 = 100.0 % (86.8-100.0)``."""
    if not entry["of"]:
        return "none"
    share, low, high = (100 * entry[key] for key in ("rate", "low", "high"))
    digits = 1 if entry["rate"] >= 0.01 else 3  # noqa: PLR2004
    return (
        f"{entry['hits']}/{entry['of']} = {share:.{digits}f} % ({low:.{digits}f}-{high:.{digits}f})"
    )


def evaluation_tables(numbers: dict[str, Any]) -> str:
    """Markdown tables of an evaluation's numbers."""
    lines = [
        "| measure | value (95 % interval) |",
        "|---|---|",
        f"| recall, all streams | {percent(numbers['recall'])} |",
        f"| false positives, all other connections | {percent(numbers['false_positives'])} |",
        f"| false positives, decidable ones | {percent(numbers['false_positives_decidable'])} |",
    ]
    lines += [
        f"| recall at {entry['false_positive_rate']:g} of all others | {percent(entry)} |"
        for entry in numbers["recall_at_rate"]
    ]
    lines += [
        f"| recall at {entry['false_positive_rate']:g} of decidable ones | {percent(entry)} |"
        for entry in numbers["recall_at_rate_decidable"]
    ]
    calibration = numbers["calibration"]
    if calibration["connections"]:
        error = calibration["expected_calibration_error"]
        lines.append(f"| Brier score | {calibration['brier']:.3f} |")
        lines.append(f"| expected calibration error | {error:.3f} |")
    lines += ["", "| category | called `llm-stream` (95 % interval) |", "|---|---|"]
    for side, entries in numbers["by_category"].items():
        lines += [f"| {side}: {name} | {percent(entry)} |" for name, entry in entries.items()]
    return "\n".join(lines)


def protocol_table(results: dict[str, Any]) -> str:
    """Markdown table of the protocols' recalls (:func:`llmflow.learn.evaluate.run_protocols`)."""
    lines = [
        "| protocol | streams | " + " | ".join(f"@{r:g} of {side}" for r, side in _POINTS) + " |",
        "|---|---|" + "---|" * len(_POINTS),
    ]
    for protocol, result in results.items():
        if "variants" in result:
            continue
        parts = {"": result} if "positives" in result else result
        for part, numbers in parts.items():
            recalls = [
                next(e for e in numbers[side]["recall_at"] if e["false_positive_rate"] == r)["rate"]
                for r, side in _POINTS
            ]
            cells = ["none" if recall is None else f"{recall:.2f}" for recall in recalls]
            name = f"{protocol.replace('_', ' ')}{': ' if part else ''}{part}"
            lines.append(f"| {name} | {numbers['positives']} | {' | '.join(cells)} |")
    if robust := results.get("robustness"):
        lines += ["", "| condition | recall | false positives, decidable |", "|---|---|---|"]
        lines += [
            f"| {name} | {percent(entry['recall'])} | {percent(entry['false_positives'])} |"
            for name, entry in robust["variants"].items()
        ]
    return "\n".join(lines)


def operating_table(points: list[dict[str, Any]]) -> str:
    """Markdown table of :func:`llmflow.learn.train.operating_points`."""
    lines = ["| share | threshold | source | recall | false positives, decidable |",
             "|---|---|---|---|---|"]  # fmt: skip
    for point in points:
        for source in sorted({**point["recall"], **point["false_positives"]}):
            cells = [
                percent(point[side].get(source, rate(0, 0)))
                for side in ("recall", "false_positives")
            ]
            share, threshold = point["false_positive_rate"], point["threshold"]
            lines.append(f"| {share:g} | {threshold:.4f} | {source} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_card(model: Model, evaluation: dict[str, Any] | None) -> str:
    """The card of a model, in Markdown.

    Parameters
    ----------
    model : Model
        Whose ``facts`` hold ``options`` and ``training``.
    evaluation : dict, optional
        Output of :func:`llmflow.learn.evaluate.summarise` on captures that did not train it.
    """
    training = model.facts["training"]
    options = model.facts["options"]
    listed = ", ".join(f"{name} {value}" for name, value in options.items())
    measured = (
        "Not evaluated: run `llmflow evaluate` and train with `--evaluation`."
        if evaluation is None
        else (
            f"{evaluation['method']} Seen: {evaluation['captures']} captures, "
            f"{evaluation['connections']} connections. *Decidable* connections have at least "
            f"{DECIDABLE_PACKETS} downlink data packets and last at least {DECIDABLE_SECONDS:g} s. "
            f"Intervals are Clopper-Pearson.\n\n{evaluation_tables(evaluation)}"
        )
    )
    streams = "\n".join(f"| {name} | {n} |" for name, n in training["streams"].items())
    return f"""\
# Model card: {model.model_id}

Tells connections on which a large language model streams its answer from other traffic, by sizes,
times and directions of packets. No address, port, name, TTL or absolute time is a feature.

## What it is
- Extremely randomised trees (scikit-learn `ExtraTreesClassifier`) on {len(MODEL_FEATURES)}
  features of segments (whole replies, 5 s and 2 s windows); feature schema
  `{schema_hash(MODEL_FEATURES)[:16]}`.
- A turn's score is the mean over the scales of the highest segment score; a flow's score is that
  of its most streaming turn; both pass one Platt sigmoid.
- Options: {listed}.

## What it was trained on
{training["captures"]} captures, {training["connections"]} labelled connections
({training["positive"]} LLM streams), {training["segments"]} segments;
{training["unusable"]} captures could not be used.

| streams of | connections |
|---|---|
{streams}

## Operating point
`llm-stream` from a score of {model.threshold:.4f}. Out of fold, it keeps false positives among
decidable other connections to {100 * options["target_fpr"]:g} % of the real ones (of all, if there
are none) and to {100 * options["lab_fpr"]:g} % of the lab's, of kinds that the forest did not know;
it lies half-way between the lowest such score and the next stream above it.

Thresholds that keep them to a share of all decidable others, made traffic and real, out of fold
(the lab's by forests that knew nothing of their kind):

{operating_table(model.facts["operating_points"])}

## How it was evaluated
{measured}

## Limits
{_LIMITS}
"""


def write_cards(model: Model, evaluation: dict[str, Any] | None) -> dict[str, str]:
    """The card by file name: for people, and the same as JSON for programs."""
    facts = {
        "model_id": model.model_id,
        "feature_schema": schema_hash(MODEL_FEATURES),
        "features": list(MODEL_FEATURES),
        "options": model.facts["options"],
        "training": model.facts["training"],
        "operating_points": [
            {
                "threshold": model.threshold,
                "false_positive_rate": model.facts["options"]["target_fpr"],
                "lab_false_positive_rate": model.facts["options"]["lab_fpr"],
                "over": "decidable others, real ones if there are any, out of fold",
            },
            *(
                {**point, "over": "all decidable others, out of fold"}
                for point in model.facts["operating_points"]
            ),
        ],
        # Captures by number only: their names tell of the machine.
        "evaluation": evaluation and evaluation | {"unusable": len(evaluation["unusable"])},
        "drift": {
            "training_days": model.facts["training"].get("days"),
            "reference": "reference.npz" if model.reference else None,
        },
        "limits": " ".join(_LIMITS.split()).removeprefix("- ").split(" - "),
    }
    text = json.dumps(facts, indent=1, allow_nan=False) + "\n"
    return {"CARD.md": write_card(model, evaluation), "card.json": text}
