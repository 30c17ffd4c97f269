"""Labelled captures to a training set: segments with features, and the connections they are of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import F64, I64, Bool, row_sums
from llmflow.capture.columns import Columns
from llmflow.capture.records import NANOSECOND
from llmflow.errors import CaptureError, LabelError
from llmflow.features.extract import SegmentFeatures, extract
from llmflow.features.segments import cut_segments
from llmflow.flows.batch import FlowBatch, FlowOptions
from llmflow.flows.stream import FlowStream
from llmflow.learn.labels import ConnectionKey, LabelledCapture, connection_key
from llmflow.learn.model import combine_segments, combine_turns

# A connection with less than this cannot look like a stream to anyone.
DECIDABLE_PACKETS, DECIDABLE_SECONDS = 20, 2.0


@dataclass(frozen=True, slots=True)
class Connections(Columns):
    """One row per labelled connection (5-tuple in a capture; its flows and slices together).

    ``decidable`` says whether it has at least 20 downlink data packets and lasts at least 2 s.
    """

    capture: I64
    positive: Bool
    category: NDArray[np.str_]
    decidable: Bool


@dataclass(frozen=True, slots=True)
class DataSet:
    """Connections, and the features of the segments of their turns.

    Parameters
    ----------
    groups : list of str
        Group of each capture: no group is ever on both sides of a split.
    connections : Connections
    turn_connection : ndarray of int64
        Connection of each turn.
    segments : SegmentFeatures
        ``turn`` counts the turns of the whole set.
    unusable : list of str
        Captures that could not be read, and why.
    damaged : list of str
        What was damaged in those that could.
    """

    groups: list[str]
    connections: Connections
    turn_connection: I64
    segments: SegmentFeatures
    unusable: list[str]
    damaged: list[str]

    @property
    def segment_connection(self) -> I64:
        """Connection of each segment."""
        of: I64 = self.turn_connection[self.segments.turn]
        return of

    @property
    def connection_group(self) -> NDArray[np.str_]:
        """Group of each connection."""
        return np.array(self.groups, str)[self.connections.capture]

    def of_captures(self, groups: Sequence[str]) -> Bool:
        """Which connections are of these groups."""
        return np.isin(self.connection_group, groups)

    def connection_scores(self, probability: F64, inside: I64 | None = None) -> F64:
        """Raw score of each connection from the probabilities of (some of) its segments."""
        segments = self.segments if inside is None else self.segments.take(inside)
        turns = combine_segments(segments, probability, len(self.turn_connection))
        return combine_turns(turns, self.turn_connection, len(self.connections))


@dataclass(slots=True)
class _Part:
    """What one capture gives."""

    connections: list[tuple[bool, str, bool]]
    turn_connection: I64
    segments: SegmentFeatures
    notes: list[str]


def connection_keys(batch: FlowBatch) -> list[ConnectionKey]:
    """The connection of each flow of a batch."""
    f = batch.flows
    a = [(h << 64) | low for h, low in zip(f.a_high.tolist(), f.a_low.tolist(), strict=True)]
    b = [(h << 64) | low for h, low in zip(f.b_high.tolist(), f.b_low.tolist(), strict=True)]
    ends = zip(f.protocol.tolist(), a, f.a_port.tolist(), b, f.b_port.tolist(), strict=True)
    return [connection_key(*end) for end in ends]


def _extract_capture(job: tuple[LabelledCapture, FlowOptions]) -> _Part | str:
    labelled, options = job
    numbers: dict[ConnectionKey, int] = {}
    rows: list[tuple[bool, str, int, int, int]] = []  # positive, category, packets, first, last
    turn_connection: list[I64] = []
    segments: list[SegmentFeatures] = []
    turns_before = 0
    stream = FlowStream([str(labelled.path)], options)
    try:
        for step in stream.assemble():
            of_flow = np.full(len(step.batch.flows), -1, np.int64)
            f, p = step.batch.flows, step.batch.packets
            down = row_sums(step.data.down, step.data.flow, len(f)).astype(np.int64)
            start, stop = p.time[f.first], p.time[f.first + f.packets - 1]
            for flow, key in enumerate(connection_keys(step.batch)):
                label = labelled.label(key)
                if label is None:
                    continue
                number = of_flow[flow] = numbers.setdefault(key, len(rows))
                if number == len(rows):
                    rows.append((label.positive, label.category, 0, int(start[flow]), 0))
                positive, category, packets, first, last = rows[number]
                packets += int(down[flow])
                span = min(first, int(start[flow])), max(last, int(stop[flow]))
                rows[number] = (positive, category, packets, *span)
            features = extract(cut_segments(step.batch, step.data, step.turns, "turn"))
            connection = of_flow[step.turns.flow]
            known = connection >= 0
            renumber = np.cumsum(known) - 1 + turns_before
            inside = known[features.turn]
            kept = features.take(inside)
            segments.append(SegmentFeatures(renumber[kept.turn], kept.scale, kept.values))
            turn_connection.append(connection[known])
            turns_before += int(known.sum())
    except CaptureError as error:
        return str(error)
    if not rows:
        return f"{labelled.path}: no connection with a known label"
    connections = [
        (
            positive,
            category,
            packets >= DECIDABLE_PACKETS and last - first >= DECIDABLE_SECONDS * NANOSECOND,
        )
        for positive, category, packets, first, last in rows
    ]
    notes = []
    if stream.account.damaged:
        notes = stream.account.notes or [f"{labelled.path}: {stream.account.summary()}"]
    return _Part(
        connections, np.concatenate(turn_connection), SegmentFeatures.concat(segments), notes
    )


def build_dataset(
    captures: Sequence[LabelledCapture],
    options: FlowOptions | None = None,
    *,
    workers: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> DataSet:
    """Extract the features of labelled captures.

    Parameters
    ----------
    captures : sequence of LabelledCapture
    options : FlowOptions, optional
    workers : int
        Processes; the result does not depend on it.
    progress : callable
        Called after each capture.

    Raises
    ------
    LabelError
        No capture gave a connection.
    """
    jobs = [(capture, options or FlowOptions()) for capture in captures]
    groups: list[str] = []
    unusable: list[str] = []
    damaged: list[str] = []
    connections: list[tuple[int, bool, str, bool]] = []
    turn_connection: list[I64] = []
    segments: list[SegmentFeatures] = []
    turns_before = 0
    for labelled, part in zip(captures, _map(jobs, workers), strict=True):
        progress()
        if isinstance(part, str):
            unusable.append(part)
            continue
        damaged += part.notes
        s = part.segments
        segments.append(SegmentFeatures(s.turn + turns_before, s.scale, s.values))
        turn_connection.append(part.turn_connection + len(connections))
        turns_before += len(part.turn_connection)
        connections += [(len(groups), *row) for row in part.connections]
        groups.append(labelled.group)
    if not connections:
        raise LabelError(
            "no capture gave a labelled connection",
            hint=unusable[0] if unusable else "check the labels",
        )
    capture, positive, category, decidable = zip(*connections, strict=True)
    return DataSet(
        groups,
        Connections(
            np.array(capture, np.int64),
            np.array(positive, np.bool_),
            np.array(category, str),
            np.array(decidable, np.bool_),
        ),
        np.concatenate(turn_connection),
        SegmentFeatures.concat(segments),
        unusable,
        damaged,
    )


def _map(jobs: list[tuple[LabelledCapture, FlowOptions]], workers: int) -> Iterator[_Part | str]:
    if workers <= 1:
        yield from map(_extract_capture, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_extract_capture, jobs, chunksize=4)
