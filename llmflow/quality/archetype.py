"""Kinds of stream: the archetype of a reply, and whether a flow's turns look like an agent's loop.

Rules and their sources are in docs/definitions.md.
"""

from __future__ import annotations

import numpy as np

from llmflow.arrays import F64, U8, row_sums
from llmflow.capture.records import NANOSECOND
from llmflow.flows.batch import FlowBatch
from llmflow.flows.turns import Turns
from llmflow.quality.cadence import Cadence

ARCHETYPES = DRIP, CHUNK, BLOB, BURST_PAUSE = "drip", "chunk", "blob", "burst-pause"
DRIP_GAP = 0.08  # s, median
BLOB_BYTES = 450.0  # mean of the chunks
PAUSE, PAUSE_RATIO = 0.25, 5.0  # s, and in medians; 95th percentile
LEAST_REQUESTS = 3
LOOP_GAP = 5 * NANOSECOND


def archetypes(cadence: Cadence) -> U8:
    """Places in `ARCHETYPES`, one per reply."""
    pausing = (cadence.gap_p95 >= PAUSE) & (cadence.gap_p95 >= PAUSE_RATIO * cadence.gap_p50)
    rules = [pausing, cadence.gap_p50 < DRIP_GAP, cadence.reply_bytes < BLOB_BYTES * cadence.chunks]
    places = [ARCHETYPES.index(name) for name in (BURST_PAUSE, DRIP, CHUNK)]
    return np.select(rules, places, ARCHETYPES.index(BLOB)).astype(np.uint8)


def agentic_score(batch: FlowBatch, turns: Turns, reply_bytes: F64) -> F64:
    """How much the turns of each flow look like an agent's loop, from 0 to 1.

    Growth is judged by whole numbers, so that the sign of a slope hangs on no rounding.

    Parameters
    ----------
    batch : FlowBatch
    turns : Turns
    reply_bytes : ndarray of float64
        New downlink bytes of each turn's reply.

    Returns
    -------
    ndarray of float64, shape (flows,)
        NaN for flows with fewer than 3 requests.
    """
    n, time = len(batch.flows), batch.packets.time
    asked = np.flatnonzero(~np.isnan(turns.request_bytes))
    flow, size = turns.flow[asked], turns.request_bytes[asked]
    first = np.searchsorted(flow, flow)
    order = np.arange(len(flow)) - first
    count, total = row_sums(np.ones(len(flow)), flow, n), row_sums(size, flow, n)
    slope = count * row_sums(order * size, flow, n) - row_sums(order, flow, n) * total
    reply = row_sums(reply_bytes[asked], flow, n)
    silence = time[turns.request[asked[1:]]] - time[turns.reply_last[asked[:-1]]]
    inside = order[1:] > 0
    quick = row_sums((silence < LOOP_GAP)[inside], flow[1:][inside], n)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = quick / (count - 1)
    score = np.where((slope > 0) & (total > reply), share, 0.0)
    return np.where(count >= LEAST_REQUESTS, score, np.nan)
