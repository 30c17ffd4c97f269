"""Labels from names on the wire: an operator's own captures as noisy positives.

A connection whose ClientHello names an LLM service is a *candidate*: it may be a stream, or a page,
a picture, a telemetry call of the same service. Every other connection is *unlabelled*, not
negative: self-hosted models and proxies have no name. That is learning from positive and unlabelled
examples, with noise among the positives:

1. A forest learns named against unlabelled, and scores each connection out of fold: g(x).
2. c = mean of g over held-out candidates is how often a stream is named (Elkan and Noto, *Learning
   classifiers from only positive and unlabeled data*, KDD 2008, estimator e1). It assumes that
   whether a stream is named does not hang on what it looks like. Candidates below half the mean,
   which are hardly streams, are not counted.
3. Unlabelled connections are streams with the weight (1 - c) / c * g / (1 - g) (their section 3).
   From a half on they are left out, as are candidates with g / c below a half; the rest is trained
   on as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmflow.arrays import F64, I64, Bool
from llmflow.errors import LabelError
from llmflow.flows.batch import FlowOptions
from llmflow.flows.stream import FlowStream
from llmflow.learn.dataset import DataSet
from llmflow.learn.extraction import connection_keys
from llmflow.learn.labels import UNKNOWN, ConnectionKey, Label, LabelledCapture
from llmflow.learn.model import LLM_STREAM
from llmflow.learn.train import (
    Progress,
    TrainOptions,
    all_connections,
    fit_calibration,
    out_of_fold,
)
from llmflow.metadata.providers import Providers

KINDS = ("web-chat", "api", "assistant", "coding-agent")  # those that stream text
UNNAMED = Label("unnamed", "unnamed")
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Picked:
    """What a first model makes of names.

    Parameters
    ----------
    frequency : float
        Label frequency c: share of the streams that are named.
    doubted, hidden : ndarray of int64
        Rows of the data set: candidates that do not look like streams, and unlabelled connections
        that do. Both are left out of training.
    kept : ndarray of int64
        All other rows.
    """

    frequency: float
    doubted: I64
    hidden: I64
    kept: I64


def _named(
    path: Path, options: FlowOptions, providers: Providers
) -> Iterator[tuple[ConnectionKey, Label]]:
    """Connections of a capture that name a service, or may belong to one.

    They are ``llm-stream`` if a strong name gives them to a service that streams text, else
    ``unknown``: pictures, voice, names that are shared with much else, DNS answers.
    """
    for batch in FlowStream([str(path)], options, providers=providers).batches():
        if batch.names is None:
            continue
        names = batch.names
        columns = names.sni.tolist(), names.provider.tolist(), names.provider_weak.tolist()
        for key, sni, strong, weak in zip(connection_keys(batch), *columns, strict=True):
            name, provider = batch.texts[sni], batch.texts[strong or weak]
            service = providers.match(name) if sni else None
            if service and not service.weak and service.kind in KINDS:
                label, provider = LLM_STREAM, service.provider
                said = f"{name} ({provider}, {service.kind})"
            elif provider:
                said = "a name of another sort" if strong else "a shared name or a DNS answer"
                label, said = UNKNOWN, f"{said} ({provider})"
            else:
                continue
            yield key, Label(label, f"named {provider}", basis=f"names: {said}", confidence="low")


def label_by_names(
    paths: Sequence[Path],
    providers: Providers,
    options: FlowOptions | None = None,
    progress: Callable[[], None] = lambda: None,
    *,
    doubtful: bool = False,
) -> list[LabelledCapture]:
    """Label the connections of captures by the names that they say.

    Parameters
    ----------
    paths : sequence of Path
        Captures; each is a group of its own.
    providers : Providers
    options : FlowOptions, optional
    progress : callable
        Called after each capture.
    doubtful : bool
        Keep connections whose name says little, as ``unknown``, and label no unnamed ones.

    Returns
    -------
    list of LabelledCapture
        Candidates are ``llm-stream``, their category is the provider; the others are `UNNAMED`.

    Raises
    ------
    LabelError
        No connection names a service.
    CaptureError
        A capture that cannot be read.
    """
    found: list[LabelledCapture] = []
    for path in paths:
        flows = dict(_named(path, options or FlowOptions(), providers))
        if not doubtful:
            flows = {key: label for key, label in flows.items() if label.positive}
        default = None if doubtful else UNNAMED
        found.append(LabelledCapture(path, str(path.resolve()), default, flows))
        progress()
    if not any(capture.flows for capture in found):
        raise LabelError(
            "no connection of the captures names a service that streams text",
            where=", ".join(map(str, paths[:3])) + (" and more" if len(paths) > 3 else ""),  # noqa: PLR2004
            hint="capture from the beginning of connections, or add your services with --providers",
        )
    return found


def pick(
    data: DataSet, by_name: Bool, options: TrainOptions, progress: Progress = lambda _: None
) -> Picked:
    """Choose what to train on.

    Parameters
    ----------
    data : DataSet
    by_name : ndarray of bool
        Connections whose label comes from names; the labels of the others are believed.
    options : TrainOptions
    progress : callable

    Raises
    ------
    LabelError
        Too few groups of captures hold candidates, or none holds a reply long enough to judge.
    """
    rows = all_connections(data)
    raw = out_of_fold(data, rows, options, progress)
    g: F64 = fit_calibration(raw, data, rows).apply(raw)
    judged, positive = by_name & ~np.isnan(g), data.connections.positive
    if not (judged & positive).any():
        raise LabelError(
            "no named connection holds a reply that is long enough to be judged",
            hint="add captures of longer use",
        )
    candidates = g[judged & positive]
    # Candidates far below the mean are noise, and would pull it down.
    c = float(candidates[candidates >= _HALF * candidates.mean()].mean())
    with np.errstate(divide="ignore"):
        weight = (1 - c) / c * g / (1 - g)
    doubted = by_name & positive & ~(g / c >= _HALF)
    hidden = judged & ~positive & (weight >= _HALF)
    kept = np.flatnonzero(~doubted & ~hidden)
    return Picked(c, np.flatnonzero(doubted), np.flatnonzero(hidden), kept)


def by_provider(data: DataSet, by_name: Bool, called: Bool) -> dict[str, dict[str, int]]:
    """Candidates of each provider, and how many of them a model calls streams."""
    rows = np.flatnonzero(by_name & data.connections.positive)
    names = data.connections.category[rows].tolist()
    hits = Counter(name for name, hit in zip(names, called[rows].tolist(), strict=True) if hit)
    return {name: {"named": n, "called": hits[name]} for name, n in sorted(Counter(names).items())}


def label_noise(
    named: Sequence[LabelledCapture], truth: Sequence[LabelledCapture]
) -> dict[str, Any]:
    """Compare labels from names with the truth, such as a lab knows it.

    Parameters
    ----------
    named, truth : sequence of LabelledCapture
        Captures are matched by path; connections of unknown truth do not count.

    Returns
    -------
    dict
        Counts of connections; ``named_no_stream``, the share of the candidates that are none; and
        ``streams_named``, the true label frequency. None where there is nothing to divide by.
    """
    known = {capture.path.resolve(): capture for capture in truth}
    counts = Counter[tuple[bool, bool]]()
    for capture in named:
        real = known.get(capture.path.resolve())
        for key in real.flows if real else ():
            if real and (label := real.label(key)):
                says = capture.label(key)
                counts[says is not None and says.positive, label.positive] += 1
    wrong, right, missed = counts[True, False], counts[True, True], counts[False, True]
    return {
        "named": right + wrong,
        "streams": right + missed,
        "named_no_stream": wrong / (right + wrong) if right + wrong else None,
        "streams_named": right / (right + missed) if right + missed else None,
    }
