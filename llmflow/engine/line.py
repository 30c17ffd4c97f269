"""The straight line for one stream of captures: flows, turns, features, scores, tables."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from llmflow.engine.pool import ordered
from llmflow.features.extract import extract
from llmflow.features.segments import cut_segments
from llmflow.flows.batch import FlowBatch
from llmflow.flows.stream import FlowStream, with_turns
from llmflow.learn.model import Model
from llmflow.quality.experience import measure
from llmflow.report.tables import Results, tabulate


def classify(stream: FlowStream, model: Model, workers: int = 1) -> Iterator[Results]:
    """Label the flows and turns of a stream, batch by batch, as the flows end.

    Parameters
    ----------
    stream : FlowStream
        Its ``account`` is complete when the iteration has ended.
    model : Model
    workers : int
        Threads that may be busy; does not change results.
    """
    return ordered(partial(label, model=model), stream.batches(), workers)


def label(batch: FlowBatch, model: Model) -> Results:
    """Label the flows of one batch, and their turns."""
    step = with_turns(batch)
    replies = cut_segments(batch, step.data, step.turns, "turn")
    raw = model.score_turns(extract(replies), len(step.turns))
    return tabulate(batch, step.turns, measure(replies), model, raw)
