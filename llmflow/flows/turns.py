"""Flows to turns: a request, and the reply that follows it until the next request.

The definitions are those of docs/definitions.md; ``requests`` finds where requests begin. A flow
without any uplink packet (a one-way capture) is cut at downlink silences alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import (
    F64,
    I64,
    row_sums,
    run_counts,
    run_end_mask,
    run_mask,
    run_starts,
)
from llmflow.capture.columns import Columns
from llmflow.capture.records import NANOSECOND
from llmflow.flows.batch import FlowBatch, FlowPackets
from llmflow.flows.data import Data, find_data
from llmflow.flows.requests import find_requests

__all__ = ["Data", "Turns", "find_data", "find_turns"]

ONE_WAY_SILENCE = 2 * NANOSECOND


@dataclass(frozen=True, slots=True)
class Turns(Columns):
    """One row per turn with at least one downlink data packet, flow by flow, in order of time.

    ``row`` and ``stop`` bound the turn's packets in the batch; ``request`` is the first packet of
    the request (equal to ``row`` where none was seen); ``reply`` and ``reply_last`` are the first
    and last downlink data packet. ``request_bytes`` are the new uplink bytes in front of the reply,
    ``wait`` the seconds from the last of them to the reply: both NaN where no request was seen.
    """

    flow: I64
    number: I64
    row: I64
    stop: I64
    request: I64
    reply: I64
    reply_last: I64
    request_bytes: F64
    wait: F64


def _one_way_cuts(p: FlowPackets, data: Data, flows: int) -> I64:
    """Cuts at long downlink silences, in flows that show no uplink packet at all."""
    blind = row_sums(p.up, data.flow, flows) == 0
    rows = np.flatnonzero(data.down & blind[data.flow])
    silent = np.diff(p.time[rows], prepend=p.time[rows[:1]]) > ONE_WAY_SILENCE
    return rows[silent & ~run_mask(data.flow[rows])]


def find_turns(batch: FlowBatch, data: Data) -> Turns:
    """Cut the flows of a batch into turns.

    Returns
    -------
    Turns
        Turns in which the server sent data; numbered from 0 in each flow.
    """
    p, n = batch.packets, len(batch.packets)
    found = find_requests(p, data)
    # A TLS or QUIC handshake is no request if one follows: it is the front of that turn.
    fronted = np.zeros_like(found.front)
    fronted[1:] = found.front[:-1]
    cut = np.zeros(n, np.bool_)
    cut[found.row[~fronted]] = True
    # Packets without data in front of a flow's first data belong to its turn.
    carries = np.flatnonzero(data.up | data.down)
    cut[carries[run_mask(data.flow[carries])]] = False
    cut[batch.flows.first] = True
    requests, answers = found.row[~found.front], found.answer[~found.front]
    cut[_one_way_cuts(p, data, len(batch.flows))] = True
    row = np.flatnonzero(cut)
    turn_of = np.cumsum(cut) - 1

    request, answer = row.copy(), row.copy()
    asked = np.zeros(len(row), np.bool_)
    request[turn_of[requests]] = requests
    answer[turn_of[requests]] = answers
    asked[turn_of[requests]] = True
    down = np.flatnonzero(data.down)
    starts = run_starts(turn_of[down])
    has = turn_of[down[starts]]  # turns in which the server sent data
    flow = data.flow[row[has]]
    begin = run_starts(flow)
    number = np.arange(len(flow)) - np.repeat(begin, run_counts(begin, len(flow)))
    # The reply is what answers the request; a handshake or control frames in front of it are none.
    reply = down[np.maximum(starts, np.searchsorted(down, answer[has]))]
    reply_last = down[run_end_mask(turn_of[down])]
    # Uplink data between the request and the reply, by differences of running totals.
    total = np.concatenate([[0], np.cumsum(np.where(data.up, data.new, 0))])
    size = total[reply] - total[request[has]]
    latest = np.maximum.accumulate(np.where(data.up, np.arange(n), -1))[reply]
    wait = (p.time[reply] - p.time[latest]) / NANOSECOND
    seen = asked[has] & (size > 0)
    return Turns(
        flow,
        number,
        row[has],
        np.append(row[1:], n)[has],
        request[has],
        reply,
        reply_last,
        request_bytes=np.where(seen, size, np.nan),
        wait=np.where(seen, wait, np.nan),
    )
