"""One batch of flows to the feature columns that a model reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import F64, I64, U8
from llmflow.capture.columns import Columns
from llmflow.features import kernels as _kernels  # noqa: F401 - fills the registry
from llmflow.features.registry import FEATURES, compute, schema_hash
from llmflow.features.segments import FLOW, SCALES, Segments, cut_segments
from llmflow.flows.batch import FlowBatch
from llmflow.flows.turns import Data, Turns

__all__ = [
    "FEATURES",
    "FLOW",
    "LEAST_CHUNKS",
    "MODEL_FEATURES",
    "SCALES",
    "SegmentFeatures",
    "extract",
    "schema_hash",
]

LEAST_CHUNKS = 8  # fewer hold no rhythm to judge

# What models read. Not the request group: uploads of telemetry make the wait on browser traffic a
# lower bound, and a model that saw it learned the browser's telemetry (docs/architecture.md).
MODEL_FEATURES = {name: entry for name, entry in FEATURES.items() if entry.group != "request"}


@dataclass(frozen=True, slots=True)
class SegmentFeatures(Columns):
    """Features of segments that hold enough evidence.

    ``turn`` is the row of each segment's turn, ``scale`` its place in ``SCALES``, ``values`` the
    ``MODEL_FEATURES``, shape (segments, features).
    """

    turn: I64
    scale: U8
    values: F64


def evident(segments: Segments) -> Segments:
    """Only the segments with at least ``LEAST_CHUNKS`` chunks."""
    return segments.keep(segments.down.chunks >= LEAST_CHUNKS)


def extract(batch: FlowBatch, data: Data, turns: Turns) -> SegmentFeatures:
    """Features of all segments of all scales that hold enough evidence."""
    parts = []
    for number, scale in enumerate(SCALES):
        segments = evident(cut_segments(batch, data, turns, scale))
        parts.append(
            SegmentFeatures(
                segments.turn,
                np.full(len(segments), number, np.uint8),
                compute(segments, MODEL_FEATURES),
            )
        )
    return SegmentFeatures.concat(parts)
