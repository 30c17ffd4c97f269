"""One labelled capture to two tables: its labelled connections, and segments with all features.

A connection is a 5-tuple in a capture, its flows and slices together. What a model reads is chosen
when a data set is used, not here: every declared feature is kept, as float32, which is what trees
compare (:mod:`llmflow.learn.forest`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from llmflow.arrays import I64, row_sums
from llmflow.capture.columns import PROTOCOLS
from llmflow.capture.records import NANOSECOND
from llmflow.errors import CaptureError
from llmflow.features.extract import (
    FEATURES,
    FLOW,
    LEAST_CHUNKS,
    SCALES,
    judged_segments,
    schema_hash,
)
from llmflow.features.registry import compute
from llmflow.features.segments import Segments, cut_segments
from llmflow.flows.batch import FlowBatch, FlowColumns, FlowOptions
from llmflow.flows.stream import Assembled, FlowStream, with_turns
from llmflow.learn.labels import ConnectionKey, Label, LabelledCapture, connection_key
from llmflow.learn.perturb import perturb
from llmflow.report.arrow import addresses

# A connection with less than this cannot look like a stream to anyone.
DECIDABLE_PACKETS, DECIDABLE_SECONDS = 20, 2.0

_FACTS = ("category", "kind", "provider", "transport", "front", "path", "site", "client", "source",
          "basis", "confidence")  # fmt: skip
CONNECTIONS = pa.schema(
    [
        pa.field("capture", pa.string()),
        pa.field("group", pa.string()),
        pa.field("label", pa.string()),
        *(pa.field(name, pa.string()) for name in _FACTS),
        pa.field("day", pa.string()),
        pa.field("flow", pa.string()),
        pa.field("start", pa.int64(), metadata={"unit": "ns"}),
        pa.field("seconds", pa.float64()),
        pa.field("down_packets", pa.int64()),
        pa.field("decidable", pa.bool_()),
    ]
)
SEGMENTS = pa.schema(
    [
        pa.field("connection", pa.int32()),
        pa.field("turn", pa.int32()),
        pa.field("variant", pa.string()),
        pa.field("scale", pa.string()),
        pa.field("start", pa.float32(), metadata={"unit": "s"}),
        *(pa.field(f.name, pa.float32(), metadata={"unit": f.unit}) for f in FEATURES.values()),
    ]
)


def tables_hash() -> str:
    """SHA-256 of all that the columns of a data set mean."""
    state = [schema_hash(FEATURES), LEAST_CHUNKS, SCALES, DECIDABLE_PACKETS, DECIDABLE_SECONDS]
    return hashlib.sha256(repr((state, str(CONNECTIONS), str(SEGMENTS))).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Part:
    """What one capture gives.

    Parameters
    ----------
    connections, segments : pyarrow.Table
        As in ``CONNECTIONS`` and ``SEGMENTS``; ``connection`` and ``turn`` count from 0.
    damaged, unusable : str
        What was damaged in it; why it gave nothing. Empty if all is well.
    """

    connections: pa.Table
    segments: pa.Table
    damaged: str = ""
    unusable: str = ""

    @classmethod
    def nothing(cls, why: str) -> Part:
        """A capture that gave nothing."""
        return cls(CONNECTIONS.empty_table(), SEGMENTS.empty_table(), unusable=why)


@dataclass(slots=True)
class _Connection:
    label: Label
    flow: str
    first: int
    last: int = 0
    down: int = 0

    @property
    def seconds(self) -> float:
        return (self.last - self.first) / NANOSECOND


@dataclass(slots=True)
class _Builder:
    """Collects the connections and segments of a capture, batch by batch."""

    labelled: LabelledCapture
    variants: tuple[str, ...]
    numbers: dict[ConnectionKey, int] = field(default_factory=dict)
    connections: list[_Connection] = field(default_factory=list)
    segments: list[pa.Table] = field(default_factory=list)
    turns: int = 0
    batches: int = 0

    def add(self, step: Assembled) -> None:
        """Take a batch of flows, as it is and as each variant of it."""
        of_flow = self._count(step)
        if (of_flow < 0).all():
            return
        batch, _ = step.batch.pick(np.flatnonzero(of_flow >= 0))
        known = of_flow[of_flow >= 0]
        for number, variant in enumerate(self.variants):
            seed = (number, self.batches)
            self._measure(with_turns(perturb(batch, variant, seed)), known, variant)
        self.batches += 1

    def _count(self, step: Assembled) -> I64:
        """The connection of each flow of a batch, -1 where no label is known."""
        f, p = step.batch.flows, step.batch.packets
        down = row_sums(step.data.down, step.data.flow, len(f)).astype(np.int64).tolist()
        first, last = p.time[f.first].tolist(), p.time[f.first + f.packets - 1].tolist()
        of_flow = np.full(len(f), -1, np.int64)
        unnamed = []
        for flow, key in enumerate(connection_keys(step.batch)):
            label = self.labelled.label(key)
            if label is None:
                continue
            number = of_flow[flow] = self.numbers.setdefault(key, len(self.connections))
            if number == len(self.connections):
                self.connections.append(_Connection(label, "", first[flow]))
                unnamed.append(flow)
            connection = self.connections[number]
            connection.first = min(connection.first, first[flow])
            connection.last = max(connection.last, last[flow])
            connection.down += down[flow]
        names = _names(f.take(np.array(unnamed, np.int64)))
        for flow, name in zip(unnamed, names, strict=True):
            self.connections[of_flow[flow]].flow = name
        return of_flow

    def _measure(self, step: Assembled, of_flow: I64, variant: str) -> None:
        replies = cut_segments(step.batch, step.data, step.turns, "turn")
        whole = cut_segments(step.batch, step.data, step.turns, FLOW)
        scales = {
            **dict(zip(SCALES, judged_segments(replies), strict=True)),
            FLOW: whole.keep(whole.down.chunks >= LEAST_CHUNKS),
        }
        for scale, segments in scales.items():
            self.segments.append(self._table(segments, of_flow, variant, scale))
        self.turns += len(step.turns)

    def _table(self, s: Segments, of_flow: I64, variant: str, scale: str) -> pa.Table:
        time, length = step_times(s), SCALES.get(scale)
        start = time // length * length / NANOSECOND if length else np.zeros(len(s))
        values = compute(s).astype(np.float32)
        columns = [
            pa.array(of_flow[s.turns.flow[s.turn]].astype(np.int32)),
            pa.array((s.turn + self.turns).astype(np.int32)),
            _repeated(variant, len(s)),
            _repeated(scale, len(s)),
            pa.array(start.astype(np.float32)),
            *(pa.array(column, from_pandas=True) for column in values.T),
        ]
        return pa.Table.from_arrays(columns, schema=SEGMENTS)

    def table(self) -> pa.Table:
        """The connections so far."""
        rows = self.connections
        columns = {
            "capture": [str(self.labelled.path)] * len(rows),
            "group": [c.label.group or self.labelled.group for c in rows],
            "label": [c.label.name for c in rows],
            **{name: [getattr(c.label, name) for c in rows] for name in _FACTS},
            "kind": [c.label.kind or c.label.category for c in rows],
            "transport": [c.label.transport or c.flow.partition(" ")[0] for c in rows],
            "provider": [c.label.provider or c.label.category for c in rows],
            "day": [f"{datetime.fromtimestamp(c.first // NANOSECOND, UTC):%Y-%m-%d}" for c in rows],
            "flow": [c.flow for c in rows],
            "start": [c.first for c in rows],
            "seconds": [c.seconds for c in rows],
            "down_packets": [c.down for c in rows],
            "decidable": [
                c.down >= DECIDABLE_PACKETS and c.seconds >= DECIDABLE_SECONDS for c in rows
            ],
        }
        return pa.table(columns, schema=CONNECTIONS)


def step_times(s: Segments) -> I64:
    """Time from the start of each segment's reply to the segment's first packet, ns."""
    first = s.row[np.searchsorted(s.of, np.arange(len(s)))]
    time = s.batch.packets.time
    since: I64 = time[first] - time[s.turns.reply[s.turn]]
    return since


def _repeated(text: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(text), count)


def connection_keys(batch: FlowBatch) -> list[ConnectionKey]:
    """The connection of each flow of a batch."""
    f = batch.flows
    a = [(h << 64) | low for h, low in zip(f.a_high.tolist(), f.a_low.tolist(), strict=True)]
    b = [(h << 64) | low for h, low in zip(f.b_high.tolist(), f.b_low.tolist(), strict=True)]
    ends = zip(f.protocol.tolist(), a, f.a_port.tolist(), b, f.b_port.tolist(), strict=True)
    return [connection_key(*end) for end in ends]


def _names(f: FlowColumns) -> list[str]:
    """Flows for people: protocol, client, server."""
    ends = [
        [
            f"{f'[{ip}]' if ':' in ip else ip}:{port}"
            for ip, port in zip(
                addresses(end.high, end.low).to_pylist(), end.port.tolist(), strict=True
            )
        ]
        for end in (f.client, f.server)
    ]
    protocols = [PROTOCOLS.get(number, str(number)) for number in f.protocol.tolist()]
    return [" ".join(parts) for parts in zip(protocols, *ends, strict=True)]


def extract_capture(job: tuple[LabelledCapture, FlowOptions, tuple[str, ...]]) -> Part:
    """The tables of one labelled capture.

    Parameters
    ----------
    job : tuple
        The capture; when its flows end; which variants of it to measure
        (:data:`llmflow.learn.perturb.VARIANTS`), the empty text for the traffic as it is.
    """
    labelled, options, variants = job
    builder = _Builder(labelled, variants)
    stream = FlowStream([str(labelled.path)], options)
    try:
        for step in stream.assemble():
            builder.add(step)
    except CaptureError as error:
        return Part.nothing(str(error))
    if not builder.connections:
        return Part.nothing(f"{labelled.path}: no connection with a known label")
    damaged = ""
    if stream.account.damaged:
        damaged = next(iter(stream.account.notes), f"{labelled.path}: {stream.account.summary()}")
    return Part(builder.table(), pa.concat_tables(builder.segments), damaged)
