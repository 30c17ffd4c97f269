"""The straight line for one stream of captures: flows, turns, features, scores, tables."""

from __future__ import annotations

from collections.abc import Iterator

from llmflow.features.extract import extract
from llmflow.features.segments import cut_segments
from llmflow.flows.stream import FlowStream
from llmflow.learn.model import Model
from llmflow.quality.experience import measure
from llmflow.report.tables import Results, tabulate


def classify(stream: FlowStream, model: Model) -> Iterator[Results]:
    """Label the flows and turns of a stream, batch by batch, as the flows end.

    Parameters
    ----------
    stream : FlowStream
        Its ``account`` is complete when the iteration has ended.
    model : Model
    """
    for step in stream.assemble():
        replies = cut_segments(step.batch, step.data, step.turns, "turn")
        raw = model.score_turns(extract(replies), len(step.turns))
        yield tabulate(step.batch, step.turns, measure(replies), model, raw)
