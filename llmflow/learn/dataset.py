"""A data set in memory: connections, and the segments of their turns, as models need them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llmflow.arrays import F64, I64, U8, Bool
from llmflow.capture.columns import Columns
from llmflow.errors import LabelError
from llmflow.features.extract import MODEL_FEATURES, SCALES, SegmentFeatures
from llmflow.learn.extraction import Part
from llmflow.learn.labels import LabelledCapture, read_labels
from llmflow.learn.model import LLM_STREAM, combine_segments, combine_turns
from llmflow.learn.perturb import AS_IT_IS
from llmflow.learn.store import Rules, Tables, extract_all, is_dataset, read_tables

Text = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Connections(Columns):
    """One row per labelled connection (5-tuple in a capture; its flows and slices together).

    ``decidable`` says whether it has at least 20 downlink data packets and lasts at least 2 s;
    ``flow`` is its protocol, client and server; the rest is told of in
    :class:`~llmflow.learn.labels.Label`.
    """

    positive: Bool
    decidable: Bool
    capture: Text
    group: Text
    label: Text
    category: Text
    kind: Text
    provider: Text
    transport: Text
    front: Text
    path: Text
    source: Text
    day: Text
    flow: Text


@dataclass(frozen=True, slots=True)
class DataSet:
    """Connections, and the features of the segments of their turns.

    Parameters
    ----------
    connections : Connections
    turn_connection : ndarray of int64
        Connection of each turn that has a segment.
    segments : SegmentFeatures
        ``turn`` counts the turns of the whole set.
    start : ndarray of float64
        Where each segment begins, seconds from the start of its reply.
    variant : ndarray of uint8
        Place in ``variants`` of the conditions under which each segment was seen.
    features, variants : tuple of str
        Names of the columns of ``segments.values``; of the variants, the traffic as it is first.
    unusable, damaged : list of str
        Captures that could not be read, and what was damaged in those that could.
    """

    connections: Connections
    turn_connection: I64
    segments: SegmentFeatures
    start: F64
    variant: U8
    features: tuple[str, ...]
    variants: tuple[str, ...]
    unusable: list[str]
    damaged: list[str]

    @property
    def segment_connection(self) -> I64:
        """Connection of each segment."""
        of: I64 = self.turn_connection[self.segments.turn]
        return of

    @property
    def captures(self) -> int:
        """Number of captures that gave a connection."""
        return len(np.unique(self.connections.capture))

    def of_groups(self, groups: Sequence[str]) -> Bool:
        """Which connections are of these groups."""
        return np.isin(self.connections.group, groups)

    def rows(self, connections: I64, variant: int = 0) -> I64:
        """Segments of some connections, as they are or in a variant."""
        inside = np.zeros(len(self.connections), np.bool_)
        inside[connections] = True
        return np.flatnonzero(inside[self.segment_connection] & (self.variant == variant))

    def variant_number(self, name: str) -> int:
        """Place of a variant.

        Raises
        ------
        LabelError
            The data set does not hold it.
        """
        if name not in self.variants:
            raise LabelError(
                f"the data set does not show its traffic under the condition {name!r}",
                hint=f"run `llmflow dataset build --variant {name}`",
            )
        return self.variants.index(name)

    def connection_scores(self, probability: F64, inside: I64) -> F64:
        """Raw score of each connection from the probabilities of some segments of one variant."""
        turns = combine_segments(self.segments.take(inside), probability, len(self.turn_connection))
        return combine_turns(turns, self.turn_connection, len(self.connections))

    @classmethod
    def of(
        cls,
        tables: Tables,
        features: Sequence[str] = tuple(MODEL_FEATURES),
        scales: Sequence[str] = tuple(SCALES),
    ) -> Self:
        """Take some features of some scales out of tables.

        Raises
        ------
        LabelError
            No capture gave a connection.
        """
        unusable = [part.unusable for part in tables.parts.values() if part.unusable]
        damaged = [part.damaged for part in tables.parts.values() if part.damaged]
        connections, segments = tables.joined()
        if not len(connections):
            raise LabelError(
                "no capture gave a labelled connection",
                hint=unusable[0] if unusable else "check the labels",
            )
        segments = segments.filter(pc.is_in(segments["scale"], pa.array(scales)))
        variant, named_variants = _codes(segments["variant"])
        variants = sorted({AS_IT_IS, *named_variants})  # the traffic as it is goes first
        variant_place = np.array([variants.index(name) for name in named_variants], np.uint8)
        scale, named = _codes(segments["scale"])
        place = np.array([scales.index(name) for name in named], np.uint8)
        connection = _numbers(segments["connection"]).astype(np.int64)
        turn = _numbers(segments["turn"]).astype(np.int64)
        # Turns are numbered by capture, and capture by capture connections go up.
        turns, numbered = np.unique(
            np.stack([connection, turn], axis=1), axis=0, return_inverse=True
        )
        values = [_numbers(segments[name]).astype(np.float64) for name in features]
        return cls(
            _connections(connections),
            turns[:, 0],
            SegmentFeatures(numbered.ravel(), place[scale], np.stack(values, axis=1)),
            _numbers(segments["start"]).astype(np.float64),
            variant_place[variant],
            tuple(features),
            tuple(variants),
            unusable,
            damaged,
        )


def _numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers, NaN where it is null."""
    values: NDArray[Any] = column.to_numpy()
    return values


def _codes(column: pa.ChunkedArray) -> tuple[I64, list[str]]:
    """Texts as places in a list of those that occur, in the order of their first appearance."""
    encoded = pa.concat_arrays(column.chunks or [pa.array([], pa.string())]).dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _texts(column: pa.ChunkedArray) -> Text:
    place, names = _codes(column)
    return np.array(names or [""], str)[place]


def _connections(table: pa.Table) -> Connections:
    texts = {
        name: _texts(table[name])
        for name in Connections.names()
        if name in table.column_names and name != "decidable"
    }
    return Connections(
        positive=texts["label"] == LLM_STREAM,
        decidable=table["decidable"].to_numpy().astype(np.bool_),
        **texts,
    )


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a data set comes from: data-set folders, and labelled captures to be read."""

    stored: Sequence[Path]
    captures: Sequence[LabelledCapture]

    @classmethod
    def of(cls, paths: Sequence[Path]) -> Self:
        """Tell data sets from sources of labels (see :mod:`llmflow.learn.labels`)."""
        stored = [path for path in paths if is_dataset(path)]
        return cls(stored, read_labels([path for path in paths if path not in stored]))


def read_dataset(
    sources: Sources,
    rules: Rules | None = None,
    *,
    workers: int = 1,
    progress: Callable[[], None] = lambda: None,
    features: Sequence[str] = tuple(MODEL_FEATURES),
) -> DataSet:
    """Read data sets, and extract the features of labelled captures.

    Parameters
    ----------
    sources : Sources
    rules : Rules, optional
    workers : int
        Processes that read captures; the result does not depend on it.
    progress : callable
        Called after each capture.
    features : sequence of str

    Raises
    ------
    LabelError
        A source that cannot be used, a capture that two of them name, or no connection at all.
    """
    rules = rules or Rules()
    tables = Tables()
    for folder in sources.stored:
        for name, part in read_tables(folder, rules).parts.items():
            _add(tables, name, part)
    parts = extract_all(sources.captures, rules, workers, progress)
    for capture, part in zip(sources.captures, parts, strict=True):
        _add(tables, str(capture.path), part)
    return DataSet.of(tables, features)


def _add(tables: Tables, name: str, part: Part) -> None:
    if name in tables.parts:
        raise LabelError("is named by two sources", where=name)
    tables.parts[name] = part
