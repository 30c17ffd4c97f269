"""Experience of each turn: its waits, gaps, stalls, tokens, and what a reader makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import F64, U8, run_starts
from llmflow.capture.records import NANOSECOND
from llmflow.features.segments import Segments
from llmflow.quality.cadence import Cadence, measure_cadence
from llmflow.quality.delivery import Delivery, deliver
from llmflow.quality.reader import Reading, read
from llmflow.quality.stalls import Stalls, measure_stalls
from llmflow.quality.tokens import Tokens, estimate_tokens

LEAST_CHUNKS = 8  # fewer are not read as a stream
CONFIDENCE = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Experience:
    """Measures of all turns, one row per turn in each.

    Parameters
    ----------
    cadence : Cadence
    stalls : Stalls
    tokens : Tokens
    reading : Reading
        In tokens where they are known. Elsewhere each chunk counts as one token, the least that it
        can bring, so the reader waits at most that long. NaN below 8 chunks.
    confidence : ndarray of uint8
        Place in ``CONFIDENCE``: low where losses cannot be seen (not TCP, or one direction only),
        medium where bytes sent again leave open when they were first received, else high.
    """

    cadence: Cadence
    stalls: Stalls
    tokens: Tokens
    reading: Reading
    confidence: U8


def measure(replies: Segments) -> Experience:
    """Measure the replies of all turns (segments of scale ``turn``)."""
    cadence, delivery = measure_cadence(replies), deliver(replies)
    tokens, brought = estimate_tokens(replies)
    counted = (tokens.profile > 0)[delivery.of]
    units = np.where(counted, brought, delivery.chunk_begins)
    return Experience(
        cadence,
        measure_stalls(delivery),
        tokens,
        _reading(replies, cadence, delivery, units),
        delivery.known.astype(np.uint8) + delivery.certain,
    )


def _reading(replies: Segments, cadence: Cadence, delivery: Delivery, units: F64) -> Reading:
    """Hand tokens, or chunks, to the reader."""
    of = delivery.of
    at = np.flatnonzero((units > 0) & (cadence.chunks >= LEAST_CHUNKS)[of])
    time, of = delivery.rendered[at], of[at]
    starts = run_starts(of)
    asked, begun = cadence.ttfb.copy(), replies.turns.reply[replies.turn[of[starts]]]
    asked[of[starts]] += (time[starts] - replies.batch.packets.time[begun]) / NANOSECOND
    return read(time, units[at], of, asked)
