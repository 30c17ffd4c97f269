"""Where requests begin: the uplink bursts that the server answers with a new reply.

The difficulty is telemetry. It is uploaded while a reply streams, is as large as a request, and now
and then falls into a pause of the stream. What tells it apart is the wait: the server is done with
telemetry at once, and a request has to wait for the model. The wait is counted from the last
packet of the server, acknowledgements included, which takes the round trip out of it. Between two
replies none of this matters: a long silence around a burst is proof enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import I64, Bool, run_end_mask, run_mask
from llmflow.capture.columns import HINT_CLIENT_HELLO, HINT_QUIC_LONG, UDP, Columns
from llmflow.capture.records import NANOSECOND
from llmflow.flows.batch import FlowPackets
from llmflow.flows.data import Data

# Pauses, waits and notices were chosen on captures: docs/definitions.md.
REQUEST_BYTES = 200  # excludes HTTP/2 WINDOW_UPDATE, PING and the like
# A control frame answers nothing: at most so many bytes down, close behind an uplink packet of at
# least so many. Behind smaller ones (keys that are typed) it may be the answer.
CONTROL_BYTES, UPLOAD_PACKET = 40, 100
BURST_SILENCE = NANOSECOND  # uplink data further apart belongs to two bursts
LONG_SILENCE = 2 * NANOSECOND  # of the server: nothing streams any more
# In a shorter silence: from the server's acknowledgement to its answer; from the burst without.
LEAST_PAUSE, LEAST_WAIT = 3 * NANOSECOND // 10, 4 * NANOSECOND // 10
# Where the server rests around every burst, nothing is uploaded beside a stream: shorter still.
REST, REST_PAUSE = 3 * NANOSECOND // 10, NANOSECOND // 10
# A notice is what the server sends at once, in front of a long silence: time and packets, at most.
# Control frames come in the same time.
NOTICE, NOTICE_PACKETS = NANOSECOND // 2, 8
HANDSHAKE = 2 * NANOSECOND  # from its first packet to the server's last, at most


@dataclass(frozen=True, slots=True)
class Requests:
    """What begins turns, in order.

    Parameters
    ----------
    row : ndarray of int64
        First packet, row of the batch.
    answer : ndarray of int64
        First packet of the answer that is no control frame, row of the batch.
    front : ndarray of bool
        Opens a connection that the next one is the first request of.
    """

    row: I64
    answer: I64
    front: Bool


@dataclass(frozen=True, slots=True)
class _Bursts(Columns):
    """One row per uplink burst that the server answers and that is large enough for a request.

    Parameters
    ----------
    row, flow : ndarray of int64
        First packet; its flow.
    begin, end : ndarray of int64
        Times of the first and the last packet, ns.
    after : ndarray of int64
        Place of the answer among the downlink data packets (those that are no control frames).
    heard : ndarray of int64
        Time of the last packet in front of the answer: the burst's or the server's, of any kind.
    hello, plain, quic : ndarray of bool
        Begins a TLS or QUIC handshake; would be large enough without the packets of one; is of UDP.
    """

    row: I64
    flow: I64
    begin: I64
    end: I64
    after: I64
    heard: I64
    hello: Bool
    plain: Bool
    quic: Bool


def find_requests(p: FlowPackets, data: Data) -> Requests:
    """Find the uplink bursts that begin a turn, and those that only open a connection."""
    up = np.flatnonzero(data.up)
    down = _answers(p, data, up) if len(up) else up
    if not len(down):
        return Requests(up[:0], down, np.zeros(0, np.bool_))
    bursts = _find_bursts(p, data, up, down)
    if not len(bursts):
        return Requests(up[:0], down[:0], np.zeros(0, np.bool_))
    time, flow = p.time[down], data.flow[down]
    chosen = _in_silence(bursts, time, flow)
    chosen |= _before_silence(bursts, time, flow)
    chosen |= _after_handshake(bursts, chosen)
    # Of several in one silence the last is the request.
    at = np.flatnonzero(chosen)
    bursts = bursts.take(at[run_end_mask(bursts.after[at])])
    front = np.zeros(len(bursts), np.bool_)
    greeted = time[bursts.after[1:] - 1] - bursts.begin[:-1] <= HANDSHAKE
    # A request may share the datagrams that end a QUIC handshake; TLS waits for the server's.
    opens = bursts.hello & ~(bursts.plain & bursts.quic)
    front[:-1] = opens[:-1] & (bursts.flow[1:] == bursts.flow[:-1]) & greeted
    return Requests(bursts.row, down[bursts.after], front)


def _answers(p: FlowPackets, data: Data, up: I64) -> I64:
    """Downlink data packets that are no control frames; ``up`` are the uplink data packets."""
    small = np.flatnonzero(data.down & (data.new <= CONTROL_BYTES))
    latest = np.searchsorted(up, small) - 1
    sent = up[np.maximum(latest, 0)]
    control = (latest >= 0) & (data.flow[sent] == data.flow[small])
    control &= (data.new[sent] >= UPLOAD_PACKET) & (p.time[small] - p.time[sent] <= NOTICE)
    answers = data.down.copy()
    answers[small[control]] = False
    return np.flatnonzero(answers)


def _find_bursts(p: FlowPackets, data: Data, up: I64, down: I64) -> _Bursts:
    """Uplink data without downlink data or a long silence in between."""
    flow, time, new = data.flow[up], p.time[up], data.new[up]
    after = np.searchsorted(down, up)
    apart = np.diff(time, prepend=time[:1]) > BURST_SILENCE
    first = np.flatnonzero(apart | run_mask(flow, after))
    answer = down[np.minimum(after[first], len(down) - 1)]
    answered = (after[first] < len(down)) & (data.flow[answer] == flow[first])
    asks = answered & (np.add.reduceat(new, first) >= REQUEST_BYTES)
    hello = p.hint[up] & (HINT_CLIENT_HELLO | HINT_QUIC_LONG) != 0
    plain = np.add.reduceat(np.where(hello, 0, new), first) >= REQUEST_BYTES
    # Control frames in front of the first packet that may ask are no part of the request.
    stop = np.append(first[1:], len(up))
    large = np.append(np.flatnonzero(new >= UPLOAD_PACKET), len(up))
    begin = large[np.searchsorted(large, first)]
    first = np.where(begin < stop, begin, first)
    end = time[stop - 1][asks]
    # The server's packets in front of the answers; the flow's first may be an answer itself.
    sent = np.flatnonzero(~p.up)
    before = sent[np.maximum(np.searchsorted(sent, answer[asks]) - 1, 0)]
    first = first[asks]
    heard = np.where(before > up[first], p.time[before], end)
    return _Bursts(
        up[first],
        flow[first],
        time[first],
        end,
        after[first],
        np.maximum(heard, end),
        hello[first],
        plain[asks],
        p.protocol[up[first]] == UDP,
    )


def _in_silence(bursts: _Bursts, time: I64, flow: I64) -> Bool:
    """Bursts inside a silence of the server; ``time`` and ``flow`` are of its data packets."""
    before = np.maximum(bursts.after - 1, 0)
    first = (bursts.after == 0) | (flow[before] != bursts.flow)
    answer = time[bursts.after]
    silence = np.where(first, LONG_SILENCE + 1, answer - time[before])
    pause = np.where(_takes_turns(bursts, silence), REST_PAUSE, LEAST_PAUSE)
    least = np.where(bursts.heard > bursts.end, pause, LEAST_WAIT)
    chosen: Bool = silence > LONG_SILENCE
    return chosen | (answer - bursts.heard >= least)


def _takes_turns(bursts: _Bursts, silence: I64) -> Bool:
    """Bursts of flows in which the server rests around each, those right behind a handshake aside.

    ``silence`` of the server is around each burst.
    """
    index = np.arange(len(bursts))
    opened = np.maximum.accumulate(np.where(bursts.hello, index, 0))
    opening = bursts.hello[opened] & (bursts.flow[opened] == bursts.flow)
    opening &= bursts.begin - bursts.begin[opened] <= HANDSHAKE
    beside = np.bincount(bursts.flow[(silence < REST) & ~opening], minlength=bursts.flow[-1] + 1)
    takes: Bool = beside[bursts.flow] == 0
    return takes


def _before_silence(bursts: _Bursts, time: I64, flow: I64) -> Bool:
    """Bursts that get a notice at once, and after a long silence something longer than a notice."""
    silent = time[1:] - time[:-1] > LONG_SILENCE
    # Last packets in front of silences and of flows' ends; the first behind each burst, the next.
    stops = np.flatnonzero(np.append(silent | (flow[1:] != flow[:-1]), True))
    at = np.searchsorted(stops, bursts.after)
    stop, back = stops[at], stops[np.minimum(at + 1, len(stops) - 1)]
    chosen = (time[stop] - bursts.end <= NOTICE) & (stop - bursts.after < NOTICE_PACKETS)
    chosen &= (back - stop > NOTICE_PACKETS) & (flow[back] == bursts.flow)
    # No other burst asks in between: the next one is behind the end of the silence.
    following: Bool = np.append(bursts.after[1:], len(time)) > stop + 1
    return chosen & following


def _after_handshake(bursts: _Bursts, chosen: Bool) -> Bool:
    """The first burst behind a handshake that asks for something, where no request is found.

    The settings that a client sends just in front of its request ask for nothing.
    """
    index = np.arange(len(bursts))
    latest = np.maximum.accumulate(np.where(chosen, index, 0))
    quick = bursts.plain & ~chosen & bursts.hello[latest] & chosen[latest]
    quick &= (bursts.flow[latest] == bursts.flow) & (bursts.after[latest] < bursts.after)
    at = np.flatnonzero(quick)
    at = at[run_mask(latest[at])]
    following = np.minimum.accumulate(np.where(chosen, index, len(bursts) - 1)[::-1])[::-1][at]
    preface = chosen[following] & (bursts.flow[following] == bursts.flow[at])
    preface &= bursts.begin[following] - bursts.begin[at] <= BURST_SILENCE
    quick[:] = False
    quick[at[~preface]] = True
    return quick
