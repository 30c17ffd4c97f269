"""How many tokens a reply held, for providers whose framing gives the count away.

Padding that hides the length of each token makes the number of tokens plain: every event is as long
as the next. Replies that match no profile get no estimate; nothing is guessed from bytes alone, and
framings that repeat the answer so far (Gemini's web page) match none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmflow.arrays import F64, U8, Bool, row_sums, run_end_mask, run_starts
from llmflow.capture.columns import TCP, Columns
from llmflow.features.segments import Segments
from llmflow.flows.batch import NANOSECOND


@dataclass(frozen=True, slots=True)
class Profile:
    """Sizes by which a provider's events are known, and what they say of tokens.

    Payloads are counted modulo the size of an event, because servers write several at once.

    Parameters
    ----------
    name : str
    event : int
        Bytes of each event.
    ladder : tuple of int
        What whole writes leave modulo ``event``.
    head : int
        What writes leave that begin with the first event, which names the role.
    front : int
        Size of a packet that carries the front of the next one's write; counts neither way.
    intercept, slope : float
        ``payload = intercept + slope * tokens``, from the first write of events to the reply's end.
    r2 : float
        Of that fit.
    error : float
        Half of the error band, as a part of the count.
    error_tokens : float
        Least half of it.
    streams : int
        Streams with known token counts that were fitted.
    captured : str
        When.
    source : str
    """

    name: str
    event: int
    ladder: tuple[int, ...]
    head: int
    front: int
    intercept: float
    slope: float
    r2: float
    error: float
    error_tokens: float
    streams: int
    captured: str
    source: str


PROFILES = (
    # 655 = 22 (TLS 1.3) + 7 (HTTP/1.1 chunk) + 2 * 313; the same write as two records: 55 + 628.
    Profile(
        name="openai-chat-padded",
        event=313,
        ladder=(29, 2),
        head=61,
        front=55,
        intercept=182.2,
        slope=329.65,
        r2=0.9997,
        error=0.05,
        error_tokens=4.0,
        streams=18,
        captured="2026-03-29",
        source="GPT-4o chat completions; MatthewELucio/whisper_leak_data_privacy, GPT4o.json",
    ),
)
NAMES = ("", *(profile.name for profile in PROFILES))

LEAST_RUNGS = 5  # packets on the ladder
LEAST_SHARE = 0.4  # of the packets; at least 0.63 in replies of the profile, at most 0.25 in others


@dataclass(frozen=True, slots=True)
class Tokens(Columns):
    """One row per reply; NaN where no profile fits.

    Parameters
    ----------
    count : ndarray of float64
    low, high : ndarray of float64
        Band of error.
    per_second : ndarray of float64
        Tokens per second from the first write of events to the last packet; NaN for no time.
    profile : ndarray of uint8
        Place in ``NAMES``, 0 for none.
    bytes : ndarray of float64
        Payload from the first write of events to the reply's end.
    first : ndarray of float64
        The downlink packet with which that begins, as a place among those of all replies.
    """

    count: F64
    low: F64
    high: F64
    per_second: F64
    profile: U8
    bytes: F64
    first: F64


def estimate_tokens(replies: Segments) -> Tokens:
    """Recognise profiles and count tokens, in replies over TCP."""
    n = len(replies)
    count, low, high, rate, payload, first = np.full((6, n), np.nan)
    out = Tokens(count, low, high, rate, np.zeros(n, np.uint8), payload, first)
    tcp = replies.batch.flows.protocol[replies.turns.flow[replies.turn]] == TCP
    for number, profile in enumerate(PROFILES, 1):
        _apply(profile, number, replies, tcp & (out.profile == 0), out)
    return out


def _apply(profile: Profile, number: int, replies: Segments, asked: Bool, out: Tokens) -> None:
    """Fill in the replies that match one profile."""
    down, n = replies.down, len(replies)
    large = np.flatnonzero(down.size >= profile.event + min(profile.ladder))
    rest = down.size[large] % profile.event
    on = np.isin(rest, profile.ladder)
    rung, events = large[on], large[on | (rest == profile.head)]
    row, size = down.of[rung], down.size[rung]
    rungs = np.bincount(row, minlength=n)
    # Packets all of one size are no ladder.
    differ = np.bincount(row[1:][(row[1:] == row[:-1]) & (size[1:] != size[:-1])], minlength=n)
    fronts = row_sums(down.size == profile.front, down.of, n)
    enough = (rungs >= LEAST_RUNGS) & (rungs >= LEAST_SHARE * (down.packets - fronts))
    spoken = np.flatnonzero(asked & enough & (differ > 0))
    if not len(spoken):
        return
    of_events = down.of[events]
    heads = run_starts(of_events)
    first = np.full(n, len(down.of))
    first[of_events[heads]] = events[heads]
    inside = np.arange(len(down.of)) >= first[down.of]
    first = first[spoken]
    payload = row_sums(down.size * inside, down.of, n)[spoken]
    count = np.maximum((payload - profile.intercept) / profile.slope, 1)
    band = np.maximum(profile.error * count, profile.error_tokens)
    last = np.flatnonzero(run_end_mask(down.of))[spoken]
    seconds = (down.time[last] - down.time[first]) / NANOSECOND
    out.count[spoken] = count
    out.low[spoken], out.high[spoken] = np.maximum(count - band, 1), count + band
    out.per_second[spoken] = count / np.where(seconds > 0, seconds, np.nan)
    out.profile[spoken], out.bytes[spoken], out.first[spoken] = number, payload, first
