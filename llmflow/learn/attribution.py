"""What moved the score of a turn: the paths through the trees, credited to features.

A turn's raw score is the mean, over the scales, of the forest's probability for its best segment
(:func:`~llmflow.learn.model.combine_segments`). Both steps keep sums, so the contributions of the
best segments' features, averaged over the scales, sum to the raw score less the forest's base.

They describe this forest, not the network: features that say much the same share the credit as the
trees happened to ask, and what would become of the score with another value is not told.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import F64, U8
from llmflow.features.extract import MODEL_FEATURES, SegmentFeatures
from llmflow.learn.model import Model


@dataclass(frozen=True, slots=True)
class Attribution:
    """Why a turn has its score.

    Parameters
    ----------
    turn : int
        Row of the turn.
    raw : float
        Its raw score: ``base`` and the sum of ``moved``.
    base : float
        What the forest says of a segment before any question.
    moved : ndarray of float64, shape (features,)
        What each of ``MODEL_FEATURES`` adds to the raw score.
    scale : ndarray of uint8, shape (segments,)
        Places in ``SCALES`` of the scales at which the turn was judged.
    segment : tuple of int
        The best segment of each of them: its number among the turn's judged ones of that scale.
    values : ndarray of float64, shape (segments, features)
        Features of these segments.
    """

    turn: int
    raw: float
    base: float
    moved: F64
    scale: U8
    segment: tuple[int, ...]
    values: F64

    def ranked(self) -> list[str]:
        """Names of the features, those that moved the score most first."""
        names = list(MODEL_FEATURES)
        return [names[column] for column in np.argsort(-np.abs(self.moved), kind="stable")]


def attribute(model: Model, features: SegmentFeatures, turn: int) -> Attribution:
    """Credit the raw score of one turn to features.

    Parameters
    ----------
    model : Model
    features : SegmentFeatures
        In which the turn has at least one segment.
    turn : int
    """
    mine = features.take(np.flatnonzero(features.turn == turn))
    probability = model.forest.probability(mine.values)
    scale = np.unique(mine.scale)
    best = [np.flatnonzero(mine.scale == s) for s in scale]
    segment = [int(np.argmax(probability[rows])) for rows in best]
    rows = np.array([rows[place] for rows, place in zip(best, segment, strict=True)])
    base, moved = model.forest.contributions(mine.values[rows])
    return Attribution(
        turn,
        raw=float(probability[rows].mean()),
        base=base,
        moved=moved.mean(axis=0),
        scale=scale,
        segment=tuple(segment),
        values=mine.values[rows],
    )
