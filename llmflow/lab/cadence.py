"""When the pieces of a model's reply are written, and how long everything around them takes.

Medians are from published measurements and from the development captures; the source stands beside
each. A session draws its own values around the provider's (:func:`around`), so that nothing learns
one cadence by heart. Where no source is named, the choice is ours.

Sources
-------
dev
    Development captures: browser use of ChatGPT, Claude and Gemini (MatthewELucio/Networks-Project,
    November and December 2025) and 180 GPT-4o API streams (MatthewELucio/whisper_leak_data_privacy,
    March 2026).
azure
    Azure LLM inference trace 2023, conversation and code (19,366 and 8,819 requests).
wildchat, lmsys, burstgpt
    Public conversation logs, as quoted in their papers.
whisper
    Normalisation parameters of aus-sec/whisper_leak_research, 2025.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple


class Flush(NamedTuple):
    """Tokens that are written together: seconds after the request, and how many."""

    due: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How one session's server speaks.

    Parameters
    ----------
    first, first_sigma : float
        Seconds to the first token: lognormal, median and sigma.
    gap, sigma : float
        Seconds between flushes: lognormal, median and sigma.
    tokens : float
        Mean tokens of a write, at least 1; geometric, as speculative decoding gives them.
    unit : int
        Tokens come in multiples of it.
    coupling : float
        How much a flush holds of what was made since the last one: 0, nothing to do with the gap;
        1, tokens in proportion to it.
    writes : float
        Mean writes of a flush, at least 1; geometric. Many: bursts, as behind a content filter.
    clock : float
        Flushes leave on a clock of so many seconds with what has come since; 0: as they come.
    jitter : float
        Standard deviation of each flush about its tick, as a part of the clock's period: late
        flushes do not shift the next ones.
    drift : float
        Standard deviation of the slow change of the rate (its logarithm).
    pause, pause_s : float
        Chance of a pause before a flush, and its median in seconds.
    spread : float
        Median seconds between writes of a flush.
    """

    first: float
    gap: float
    tokens: float = 1.0
    unit: int = 1
    coupling: float = 0.0
    sigma: float = 0.5
    first_sigma: float = 0.5
    writes: float = 1.0
    clock: float = 0.0
    jitter: float = 0.2
    drift: float = 0.2
    pause: float = 0.002
    pause_s: float = 0.6
    spread: float = 0.0003


def lognormal(rng: Random, median: float, sigma: float) -> float:
    """A lognormal draw by its median."""
    return median * math.exp(rng.gauss(0, sigma))


def chance(rng: Random, probability: float) -> bool:
    """Whether something of this probability happens."""
    return rng.random() < probability


def around(rng: Random, median: float, factor: float) -> float:
    """A session's own value: log-uniform between ``median / factor`` and ``median * factor``."""
    return float(median * factor ** rng.uniform(-1, 1))


def geometric(rng: Random, mean: float) -> int:
    """A geometric draw from 1 on."""
    if mean <= 1:
        return 1
    return 1 + int(math.log(1 - rng.random()) / math.log(1 - 1 / mean))


def personal(rng: Random, pace: Pace, factor: float = 1.5) -> Pace:
    """A session's own pace around a provider's."""
    return replace(
        pace,
        first=around(rng, pace.first, factor),
        gap=around(rng, pace.gap, factor),
        tokens=pace.unit * max(1.0, around(rng, pace.tokens / pace.unit, factor**0.5)),
        writes=max(1.0, around(rng, pace.writes, factor**0.5)),
        sigma=around(rng, pace.sigma, 1.3),
        drift=around(rng, pace.drift, 2),
        pause=around(rng, pace.pause, 3),
        clock=pace.clock * rng.uniform(0.95, 1.05),
        jitter=around(rng, pace.jitter, 2),
        spread=around(rng, pace.spread, 2),
    )


def batched(pace: Pace, size: int) -> Pace:
    """The pace of a server that gathers ``size`` flushes: a known defence against traffic analysis.

    Whisper Leak simulates sizes from 2 to 10.
    """
    return replace(pace, gap=pace.gap * size, tokens=pace.tokens * size)


def flushes(rng: Random, pace: Pace, tokens: int, *, wait: float | None = None) -> list[Flush]:
    """When the tokens of one reply are written.

    Parameters
    ----------
    tokens : int
        Of the whole reply, at least 1.
    wait : float, optional
        Seconds to the first token; drawn from the pace if not given.

    Returns
    -------
    list of Flush
        Times never decrease; tokens add up to ``tokens``.
    """
    now = lognormal(rng, pace.first, pace.first_sigma) if wait is None else wait
    made: list[Flush] = []
    mean = pace.tokens / pace.unit
    slow, stretch = 0.0, 1.0  # logarithm of how slow the server is now; of this gap, to the usual
    while tokens > 0:
        due = now
        for _ in range(geometric(rng, pace.writes)):
            piece = min(tokens, pace.unit * geometric(rng, mean * stretch))
            made.append(Flush(due, piece))
            tokens -= piece
            due += lognormal(rng, pace.spread, 0.8)
            if tokens == 0:
                break
        slow = 0.97 * slow + rng.gauss(0, 0.25 * pace.drift)
        gap = lognormal(rng, pace.gap, pace.sigma) * math.exp(slow)
        stretch = (gap / pace.gap) ** pace.coupling
        now = max(due, now + gap)
        if chance(rng, pace.pause):
            now += lognormal(rng, pace.pause_s, 0.6)
    return _on_clock(rng, pace, made) if pace.clock else made


def _on_clock(rng: Random, pace: Pace, steps: list[Flush]) -> list[Flush]:
    """What a flush clock makes of tokens as they come: each flush takes what is there."""
    made: list[Flush] = []
    at, tick = 0, steps[0].due
    latest = tick
    while at < len(steps):
        latest = max(latest, tick + pace.clock * rng.gauss(0, pace.jitter))
        gathered = 0
        while at < len(steps) and steps[at].due <= latest:
            gathered += steps[at].tokens
            at += 1
        if gathered:
            made.append(Flush(latest, gathered))
        tick += pace.clock
    return made


# Lengths, in tokens


def reply_length(rng: Random) -> int:
    """A chat's reply: wildchat mean 441, sd 411; dev GPT-4o p5 74, p50 317; some are short."""
    if chance(rng, 0.2):
        return short_length(rng)
    return round(lognormal(rng, 320, 0.85))


def short_length(rng: Random) -> int:
    """A yes, a name, a sentence."""
    return round(around(rng, 14, 2.8))


def long_length(rng: Random) -> int:
    """An essay or a program; the median is ours."""
    return round(lognormal(rng, 1500, 0.6))


def agent_length(rng: Random) -> int:
    """A tool call and little talk: azure code, lognormal(2.79, 0.847), and some longer patches."""
    return round(lognormal(rng, 16.3 if chance(rng, 0.7) else 150, 0.85)) + 8


def prompt_length(rng: Random) -> int:
    """What a person types: lmsys mean 69.5 per turn; one in eight pastes a text (azure)."""
    if chance(rng, 1 / 8):
        return round(lognormal(rng, 757, 0.985))
    return round(lognormal(rng, 35, 1.1)) + 3


def context_length(rng: Random) -> int:
    """Retrieved passages or files put before the question: azure code, lognormal(7.00, 1.36)."""
    return min(30_000, round(lognormal(rng, 1100, 1.36)) + 200)


def agent_context(rng: Random) -> int:
    """System prompt, tools and files of an agent: 20 to 150 kB of request."""
    return round(around(rng, 11_000, 2.3))


def turns(rng: Random) -> int:
    """Turns of a chat, 1 to 8: burstgpt over 35 % single, median 2, three quarters at most 4."""
    return min(8, geometric(rng, 2.9))


# Pauses, in seconds


def think_time(rng: Random) -> float:
    """A person reads and types: dev silence between replies, p50 6 to 25 s, p90 15 to 71 s."""
    return lognormal(rng, 11, 0.9)


def reasoning_time(rng: Random) -> float:
    """A model thinks and says nothing: median 6 s."""
    return lognormal(rng, 6, 0.9)


def tool_time(rng: Random) -> float:
    """A tool runs between two requests: mostly files and searches, sometimes a build."""
    return lognormal(rng, 0.25, 0.9) if chance(rng, 0.8) else lognormal(rng, 2.5, 0.8)


def stop_time(rng: Random, seconds: float) -> float | None:
    """When a user stops a reply of so many seconds; None: not at all, nine times of ten."""
    return rng.uniform(0.2, 0.9) * seconds if chance(rng, 0.1) else None


def keepalives(rng: Random, period: float, begin: float, end: float) -> list[float]:
    """Times of keep-alives while nothing else is written."""
    times, now = [], begin + period
    while now < end:
        times.append(now)
        now += period * rng.uniform(0.98, 1.02)
    return times
