"""One batch of flows to the feature columns that a model reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from llmflow.arrays import F64, I64, U8
from llmflow.capture.columns import Columns
from llmflow.features.registry import FEATURES, compute, schema_hash
from llmflow.features.segments import FLOW, SCALES, Segments, cut_segments

__all__ = [
    "FEATURES",
    "FLOW",
    "LEAST_CHUNKS",
    "MODEL_FEATURES",
    "MODEL_GROUPS",
    "SCALES",
    "SegmentFeatures",
    "extract",
    "judged_segments",
    "schema_hash",
]

LEAST_CHUNKS = 8  # fewer hold no rhythm to judge

# What models read: not all that is declared (docs/training.md).
MODEL_GROUPS = (
    "cadence", "clock", "pauses", "size", "uplink", "exchange", "request", "connection",
)  # fmt: skip
MODEL_FEATURES = {name: entry for name, entry in FEATURES.items() if entry.group in MODEL_GROUPS}


@dataclass(frozen=True, slots=True)
class SegmentFeatures(Columns):
    """Features of segments that hold enough evidence.

    ``turn`` is the row of each segment's turn, ``scale`` its place in ``SCALES``, ``values`` the
    ``MODEL_FEATURES``, shape (segments, features).
    """

    turn: I64
    scale: U8
    values: F64


def judged_segments(replies: Segments) -> Iterator[Segments]:
    """Segments that hold enough evidence, scale by scale as in ``SCALES``.

    Parameters
    ----------
    replies : Segments
        The replies of all turns (segments of scale ``turn``).
    """
    # A window has no more chunks than its reply.
    enough = replies.down.chunks >= LEAST_CHUNKS
    turn = replies.turn[enough]
    for scale in SCALES:
        if scale == "turn":
            yield replies.keep(enough)
        else:
            windows = cut_segments(replies.batch, replies.data, replies.turns, scale, turn)
            yield windows.keep(windows.down.chunks >= LEAST_CHUNKS)


def extract(replies: Segments) -> SegmentFeatures:
    """Features of all segments that hold enough evidence, at all scales.

    Parameters
    ----------
    replies : Segments
        The replies of all turns (segments of scale ``turn``).
    """
    return SegmentFeatures.concat(
        [
            SegmentFeatures(
                segments.turn,
                np.full(len(segments), number, np.uint8),
                compute(segments, MODEL_FEATURES),
            )
            for number, segments in enumerate(judged_segments(replies))
        ]
    )
