"""One flow out of captures: all its slices, and no packet of any other flow in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from llmflow.engine.line import classify
from llmflow.errors import FlowError
from llmflow.features.extract import extract
from llmflow.features.segments import cut_segments
from llmflow.flows.batch import FlowBatch, FlowColumns, FlowPackets
from llmflow.flows.keys import identify
from llmflow.flows.stream import FlowStream, with_turns
from llmflow.learn.model import Model
from llmflow.report.explained import Explained, explain

_CANDIDATES = 8  # named in an error


def best_flow(stream: FlowStream, model: Model, workers: int = 1) -> tuple[str, str]:
    """The id of the flow with the highest score, and a sentence that says so.

    Without any score it is the flow with the most bytes from the server. The first of equals.

    Raises
    ------
    FlowError
        There is no flow at all.
    """
    best, chosen, flows = (-1.0, -1), "", 0
    for results in classify(stream, model, workers):
        table = results.flows
        if not table.num_rows:
            continue
        flows += pc.sum(pc.equal(table["slice"], 0)).as_py() or 0
        score, down = pc.fill_null(table["score"], -1.0).to_numpy(), table["down_bytes"].to_numpy()
        row = int(np.lexsort((-np.arange(len(down)), down, score))[-1])
        if (rank := (float(score[row]), int(down[row]))) > best:
            best, chosen = rank, table["flow_id"][row].as_py()
    if not chosen:
        raise FlowError("the captures hold no flow", where=", ".join(stream.captures))
    why = "the highest score of" if best[0] >= 0 else "no flow has a score; the most bytes down of"
    noun = "flow" if flows == 1 else "flows"
    return chosen, f"Flow {chosen}: {why} {flows} {noun}; --flow chooses another."


def pick_flow(stream: FlowStream, prefix: str) -> FlowBatch:
    """All slices of the flow whose id begins with ``prefix``, as one batch.

    Raises
    ------
    FlowError
        No flow or several flows have such an id.
    """
    wanted = prefix.lower().encode("ascii", "replace")
    parts: list[FlowBatch] = []
    found: dict[bytes, None] = {}
    for batch in stream.batches():
        f = batch.flows
        flow_id, _ = identify(f.a, f.b, f.protocol, f.origin)
        names = flow_id.view("S16").ravel()
        rows = np.flatnonzero(np.strings.startswith(names, wanted))
        found |= dict.fromkeys(names[rows].tolist())
        if len(found) == 1 and len(rows):
            parts.append(batch.pick(rows)[0])  # copies, so that the rest can go
    if not found:
        raise FlowError(
            f"no flow has an id that begins with {prefix!r}",
            where="--flow",
            hint="`llmflow classify -f jsonl` lists them",
        )
    if len(found) > 1:
        listed = ", ".join(name.decode() for name in sorted(found)[:_CANDIDATES])
        more = f" and {len(found) - _CANDIDATES} more" if len(found) > _CANDIDATES else ""
        raise FlowError(
            f"{len(found)} flows have an id that begins with {prefix!r}: {listed}{more}",
            where="--flow",
            hint="give more digits",
        )
    return _join(parts)


def explain_flow(batch: FlowBatch, model: Model) -> Explained:
    """Judge one flow, and gather what is to be told of it."""
    step = with_turns(batch)
    replies = cut_segments(batch, step.data, step.turns, "turn")
    return explain(replies, extract(replies), model)


def _join(parts: list[FlowBatch]) -> FlowBatch:
    """Flows of several batches as one batch."""
    flows = FlowColumns.concat([part.flows for part in parts])
    first = np.cumsum(flows.packets) - flows.packets
    packets = FlowPackets.concat([part.packets for part in parts])
    # Slices share their names; the last of them knows the most.
    names, last = parts[-1].names, np.full(len(flows), -1)
    return FlowBatch(
        replace(flows, first=first), packets, names and names.take(last), parts[-1].texts
    )
