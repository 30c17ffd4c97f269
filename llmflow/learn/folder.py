"""Model folders as they lie on disk: what is in them, whether all is sound, how two differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from llmflow.errors import ModelError
from llmflow.learn.model import load_estimator, load_model

_PROBES, _SEED, _EXACT = 500, 1, 1e-12
_COMPARED = ("scikit_learn", "schema_hash", "scales", "least_chunks", "calibration", "threshold")


def read_about(directory: Path) -> dict[str, Any]:
    """The ``model.json`` of a model folder, of any feature schema.

    Raises
    ------
    ModelError
        There is none, or it is none of a model.
    """
    try:
        about = json.loads((directory / "model.json").read_bytes())
    except OSError as error:
        raise ModelError(
            f"no model can be read there ({error.strerror})",
            where=str(directory),
            hint="name a folder that `llmflow train` wrote",
        ) from None
    except (ValueError, RecursionError):
        about = None
    sound = isinstance(about, dict) and all(
        isinstance(about.get(name), kind)
        for name, kind in (("sha256", dict), ("facts", dict), ("features", list), ("name", str))
    )
    if not sound:
        raise ModelError("model.json is not that of a model", where=str(directory))
    found: dict[str, Any] = about
    return found


def checked_file(directory: Path, name: str) -> bytes:
    """A file of a model folder whose bytes match its checksum.

    Raises
    ------
    ModelError
        The model has no such file, it cannot be read, or it has changed.
    """
    known = read_about(directory)["sha256"].get(name)
    if known is None:
        raise ModelError(
            f"the model has no {name}", where=str(directory), hint="train it again to have one"
        )
    try:
        data = (directory / name).read_bytes()
    except (OSError, ValueError) as error:
        raise ModelError(f"{name} cannot be read ({error})", where=str(directory)) from None
    if hashlib.sha256(data).hexdigest() != known:
        raise ModelError(f"{name} does not match its checksum", where=str(directory))
    return data


def describe(directory: Path) -> dict[str, Any]:
    """A model in short: what ``llmflow model show`` says."""
    about = read_about(directory)
    facts, line = about["facts"], str(about.get("scikit_learn", "")).split(".")[:2]
    card = (
        json.loads(checked_file(directory, "card.json")) if "card.json" in about["sha256"] else {}
    )
    return {
        "model": about.get("model_id"),
        "format": about.get("format"),
        "schema_hash": about.get("schema_hash"),
        "features": len(about["features"]),
        "scikit_learn": f"{'.'.join(line)}.x",
        "options": facts.get("options"),
        "training": facts.get("training"),
        "operating_points": card.get("operating_points", [{"threshold": about.get("threshold")}]),
        "calibration": about.get("calibration"),
        "limits": card.get("limits"),
        "sha256": about["sha256"],
    }


def verify(directory: Path) -> Iterator[str]:
    """Check a model folder, step by step.

    Yields
    ------
    str
        What was found sound.

    Raises
    ------
    ModelError
        At the first thing that is not.
    """
    about = read_about(directory)
    for name in about["sha256"]:
        if Path(name).name != name:
            raise ModelError(f"{name!r} lies outside of the folder", where=str(directory))
        checked_file(directory, name)
    yield f"checksums of {', '.join(about['sha256'])}"
    model = load_model(directory)
    yield f"feature schema {about['schema_hash'][:16]}, trees, calibration and threshold"
    if about.get("model_id") != model.model_id:
        raise ModelError(f"model.json says it were {about.get('model_id')}", where=str(directory))
    yield f"identity {model.model_id}"
    estimator = load_estimator(directory)
    yield "types in estimator.skops"
    rng = np.random.default_rng(_SEED)
    probes = rng.lognormal(0, 2, (_PROBES, len(about["features"])))
    probes[rng.random(probes.shape) < 0.2] = np.nan  # noqa: PLR2004
    apart = np.abs(estimator.predict_proba(probes)[:, 1] - model.forest.probability(probes)).max()
    if not apart < _EXACT:
        raise ModelError("estimator.skops and forest.npz are different trees", where=str(directory))
    yield f"forest and estimator agree on {_PROBES} probes"
    if "reference.npz" in about["sha256"]:
        from llmflow.learn.drift import load_reference  # noqa: PLC0415

        load_reference(directory)
        yield "reference of the training set"


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def diff(first: Path, second: Path) -> list[str]:
    """How two models differ: features, options, operating points, training data, files."""
    a, b = read_about(first), read_about(second)
    lines = [f"- feature {name}" for name in a["features"] if name not in b["features"]]
    lines += [f"+ feature {name}" for name in b["features"] if name not in a["features"]]
    one, other = (
        dict(_flat({**{name: x.get(name) for name in _COMPARED}, **x["facts"],
                    "sha256": x["sha256"]}))
        for x in (a, b)
    )  # fmt: skip
    lines += [
        f"{name}: {one.get(name)} -> {other.get(name)}"
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]
    return lines
