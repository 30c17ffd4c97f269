"""What lies around a reply: the request in front of it, and the other turns of its flow.

Without an uplink nobody knows where turns begin, so all is null there.
"""

from __future__ import annotations

import numpy as np

from llmflow.arrays import F64, I64, row_quantiles, row_sums, run_mask, sort_in_rows
from llmflow.capture.records import NANOSECOND
from llmflow.features.registry import feature
from llmflow.features.segments import Segments
from llmflow.features.statistics import null_below, spread

_UP = "uplink packets"
_DATA = "packets with new data"
_ALL = "all packets of the flow"
_ONE_WAY = "the flow shows no uplink packet"

STREAM_SILENCE = 2 * NANOSECOND  # longer silences are not streaming


@feature(unit="bytes", group="request", counts=_UP, null="no request was seen")
def request_bytes(s: Segments) -> F64:
    """New uplink bytes from the turn's request up to its first downlink data."""
    return s.per_turn(s.turns.request_bytes)


@feature(unit="s", group="request", counts=_DATA, null="no request was seen")
def wait(s: Segments) -> F64:
    """Time from the last uplink data in front of the reply to the first downlink data."""
    return s.per_turn(s.turns.wait)


def _of_flow(s: Segments, values: F64) -> F64:
    """Spread a column of the flows to their segments, null without an uplink."""
    return s.if_two_way(s.per_turn(values[s.turns.flow]))


def _flows(s: Segments) -> int:
    return len(s.batch.flows)


def _later(flow: I64) -> I64:
    """Places of all turns but the first of each flow."""
    return np.flatnonzero(~run_mask(flow))


@feature(unit="1", group="connection", counts=_ALL, null=_ONE_WAY)
def turns(s: Segments) -> F64:
    """Number of turns of the flow."""
    return _of_flow(s, np.bincount(s.turns.flow, minlength=_flows(s)).astype(np.float64))


@feature(unit="1", group="connection", counts=_ALL, null=_ONE_WAY + ", or all at one time")
def stream_life_share(s: Segments) -> F64:
    """Time in replies, less silences longer than 2 s, divided by the time the flow lasts."""
    time, first = s.batch.packets.time, s.batch.flows.first
    row = np.flatnonzero(s.data.down)
    turn = np.searchsorted(s.turns.reply, row, "right") - 1
    replying = (turn >= 0) & (row <= s.turns.reply_last[np.maximum(turn, 0)])
    row, turn = row[replying], turn[replying]
    gap = np.diff(time[row], prepend=time[row[:1]])
    streaming = (gap <= STREAM_SILENCE) & ~run_mask(turn)
    seconds = row_sums(gap[streaming], s.turns.flow[turn[streaming]], _flows(s))
    return _of_flow(s, seconds / (time[first + s.batch.flows.packets - 1] - time[first]))


@feature(unit="1", group="connection", counts=_ALL, null=_ONE_WAY + ", or fewer than 2 requests")
def request_growth_share(s: Segments) -> F64:
    """Share of the flow's requests, but the first, that are larger than the one before."""
    asked = np.flatnonzero(~np.isnan(s.turns.request_bytes))
    flow, size = s.turns.flow[asked], s.turns.request_bytes[asked]
    later = _later(flow)
    grown = row_sums(size[later] > size[later - 1], flow[later], _flows(s))
    return _of_flow(s, grown / np.bincount(flow[later], minlength=_flows(s)))


@feature(unit="s", group="connection", counts=_ALL, null=_ONE_WAY + ", or a single turn")
def think_p50(s: Segments) -> F64:
    """Median over the flow's turns of the time from the end of a reply to the next request."""
    t, time = s.turns, s.batch.packets.time
    later = _later(t.flow)
    thought, flow = time[t.request[later]] - time[t.reply_last[later - 1]], t.flow[later]
    ordered = sort_in_rows(thought, flow)
    counts = np.bincount(flow, minlength=_flows(s))
    return _of_flow(s, row_quantiles(ordered, counts, (0.5,))[:, 0] / NANOSECOND)


@feature(
    unit="1",
    group="connection",
    counts=_ALL,
    null=_ONE_WAY + ", a single turn, or replies without duration",
)
def reply_duration_cv(s: Segments) -> F64:
    """Standard deviation of the durations of the flow's replies divided by their mean."""
    t, time = s.turns, s.batch.packets.time
    number, mean, deviation = spread(time[t.reply_last] - time[t.reply], t.flow, _flows(s))
    return _of_flow(s, null_below(deviation / mean, number, 2))
