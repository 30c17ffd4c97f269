"""A reader who reads at a steady pace, and what he has to wait for (docs/definitions.md).

The reader begins with the first token and reads ``PACE`` tokens a second while there are any. Token
``j`` that came at ``t_j`` is read at ``j / PACE + M_j`` with ``M_j = max(t_i - i / PACE, i <= j)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import F64, I64, row_sums, run_counts, run_end_mask, run_starts
from llmflow.capture.columns import Columns
from llmflow.capture.records import NANOSECOND

PACE = 5.0  # tokens/s; TokenFlow's readers take 5 to 15, Andes expects 4.8 (not verified)
EXPECTED_TTFT = 1.0  # s; Andes (not verified)
# TokenFlow's weights are free parameters; these are ours.
AHEAD = 50.0  # tokens in the buffer up to which one more is worth all (tau): 10 s of reading
DECAY = 1 / 250  # worth lost by each token beyond (alpha)
TTFT_COST = 1.0  # tokens/s for each second before the first token (lambda)
REBUFFER_COST = 1.0  # tokens/s for each second of waiting later (mu)


@dataclass(frozen=True, slots=True)
class Reading(Columns):
    """One row per reply; NaN where it has no more than one unit.

    Parameters
    ----------
    rebuffer : ndarray of float64
        Time in which the reader had nothing to read, after the first token, s.
    qoe : ndarray of float64
        Andes (arXiv 2404.16283, later version; secondary): 1 - S_delay / S_whole, from 0 to 1. NaN
        without a request.
    qos : ndarray of float64
        TokenFlow (arXiv 2510.02758; combined formula secondary), tokens/s. NaN without a request
        or if all units came at once.
    """

    rebuffer: F64
    qoe: F64
    qos: F64


def read(time: I64, units: F64, of: I64, asked: F64) -> Reading:
    """Let the reader read all replies.

    Parameters
    ----------
    time : ndarray of int64, shape (n,)
        When each packet or chunk could be read, ns; ascends in each reply.
    units : ndarray of float64, shape (n,)
        Tokens that it brings; more than 0.
    of : ndarray of int64, shape (n,)
        Reply of each, not decreasing.
    asked : ndarray of float64, shape (replies,)
        From the request to the first of them, s; NaN without a request.
    """
    n = len(asked)
    starts = run_starts(of)
    sizes = run_counts(starts, len(of))
    total = np.cumsum(units)
    before = total - units
    before -= np.repeat(before[starts], sizes)
    came = time - np.repeat(time[starts], sizes)
    lag = came - np.rint(before / PACE * NANOSECOND).astype(np.int64)
    shift = _running_max(lag, starts, sizes)  # M, from the first token on
    ahead = (shift - lag) / NANOSECOND * PACE  # tokens in the buffer
    shift_s = shift / NANOSECOND

    end = run_end_mask(of)
    row = of[end]
    rebuffer, span, count = (np.full(n, np.nan) for _ in range(3))
    rebuffer[row], span[row] = shift_s[end], came[end] / NANOSECOND
    count[row] = row_sums(units, of, n)[row]
    single = count <= 1
    rebuffer[single] = count[single] = np.nan
    waited = shift_s + asked[of]
    late = row_sums(units * np.maximum(waited - EXPECTED_TTFT, 0), of, n)
    whole = row_sums(units * waited, of, n) + count * (count - 1) / (2 * PACE)
    worth = row_sums(_worth(ahead + units) - _worth(ahead), of, n)
    span[span == 0] = np.nan
    qos = worth / span - TTFT_COST * asked - REBUFFER_COST * rebuffer
    return Reading(rebuffer, 1 - late / whole, qos)


def _running_max(values: I64, starts: I64, sizes: I64) -> I64:
    """Running maximum inside each row: rows are lifted above each other for one pass."""
    if not len(values):
        return values
    low = np.minimum.reduceat(values, starts)
    room = np.maximum.reduceat(values, starts) - low + 1
    lift = np.repeat(np.cumsum(room) - room - low, sizes)
    out: I64 = np.maximum.accumulate(values + lift) - lift
    return out


def _worth(tokens: F64) -> F64:
    """Worth of as many tokens that come at once to an empty buffer: w(B) integrated over B."""
    over = np.clip(tokens - AHEAD, 0, 1 / DECAY)
    worth: F64 = np.minimum(tokens, AHEAD) + over - DECAY * over**2 / 2
    return worth
