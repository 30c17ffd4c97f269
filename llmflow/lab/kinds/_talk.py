"""Conversations with a model, whatever the provider: turns, growing requests, pauses, stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from llmflow.lab import cadence, text
from llmflow.lab.cadence import Flush, Pace
from llmflow.lab.framing import Framing, Message
from llmflow.lab.framing.openai_chat import TOOLS
from llmflow.lab.script import Exchange, Write

Build = Callable[[Random, float], tuple[Exchange, ...]]
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Service:
    """A provider, as one session meets it.

    Parameters
    ----------
    pace : Pace
    reply : callable
        ``reply(tool)`` makes the framing of a new reply; ``tool`` names the tool it calls, if any.
    ask : callable
        The body of a request from the messages so far.
    path : str
    headers : tuple of pairs
        Of the request, without those that the transport adds.
    reasoning : float
        Chance that the model thinks before it speaks.
    period : float
        Seconds between keep-alives while it thinks.
    split, split_at : float, int
        Chance that a write leaves in two parts, as behind some proxies, and the first one's bytes.
    keeps_history : bool
        The server keeps the conversation: a request holds the new message only.
    beside : callable, optional
        ``beside(rng, seconds)``: what a page does beside a reply of so many seconds.
    page : callable, optional
        ``page(rng)``: what is loaded before the first prompt.
    """

    pace: Pace
    reply: Callable[[str], Framing]
    ask: Callable[[Sequence[Message]], bytes]
    path: str
    headers: Headers = ()
    reasoning: float = 0.0
    period: float = 12.0
    split: float = 0.0
    split_at: int = 27
    keeps_history: bool = False
    beside: Callable[[Random, float], Sequence[Exchange]] = lambda _rng, _seconds: ()
    page: Callable[[Random], Sequence[Exchange]] = lambda _rng: ()


@dataclass(frozen=True, slots=True)
class Work:
    """What the user wants: lengths in tokens, pauses in seconds, drawn anew for each turn.

    ``context`` is said once, before the first prompt. ``tools`` is the share of replies that call
    a tool: what follows is no person but the tool's result, after ``cadence.tool_time``.
    """

    turns: Callable[[Random], int] = cadence.turns
    prompt: Callable[[Random], int] = cadence.prompt_length
    reply: Callable[[Random], int] = cadence.reply_length
    think: Callable[[Random], float] = cadence.think_time
    context: Callable[[Random], int] = lambda _rng: 0
    result: Callable[[Random], int] = lambda rng: round(cadence.lognormal(rng, 500, 1.2))
    tools: float = 0.0
    stops: bool = True


CHAT = Work()

# Thinking shrinks with sessions shorter than this, or there would be no second turn in them.
UNHURRIED = 120.0  # seconds
MOST_WAIT = 0.5  # of what is left of the session, in front of a first token
LEAST_LEFT = 1.0  # seconds; no further turn is begun for less


def write(
    rng: Random, service: Service, framing: Framing, steps: Sequence[Flush], words: Sequence[str]
) -> tuple[Write, ...]:
    """The writes of one reply: frames before, pieces, keep-alives while waiting, frames behind."""
    first, last = steps[0].due, steps[-1].due
    opening = min(first, cadence.lognormal(rng, service.pace.first, 0.3) * rng.uniform(0.3, 0.9))
    writes = [Write(opening, frame) for frame in framing.begin() if frame]
    waits = cadence.keepalives(rng, service.period, opening, first)
    writes += [Write(due, idle) for due in waits if (idle := framing.idle())]
    at = 0
    for step in steps:
        data = framing.piece(words[at : at + step.tokens])
        at += step.tokens
        cut = service.split_at
        if len(data) > cut and cadence.chance(rng, service.split):
            writes += [Write(step.due, data[:cut]), Write(step.due, data[cut:], step.tokens)]
        elif data:
            writes.append(Write(step.due, data, step.tokens))
    for frame in framing.end():
        last += rng.uniform(0, 0.01)
        writes.append(Write(last, frame))
    return tuple(writes)


def converse(meet: Callable[[Random], Service], work: Work = CHAT) -> Build:
    """Conversations with a service.

    Parameters
    ----------
    meet : callable
        ``meet(rng)`` makes the service as one session meets it.
    work : Work
    """

    def build(rng: Random, seconds: float) -> tuple[Exchange, ...]:
        service, style = meet(rng), text.style(rng)
        asked = text.text(rng, work.context(rng) + work.prompt(rng), style)
        messages, made = [Message("user", asked)], list(service.page(rng))
        now, think = 0.0, 0.0
        for _ in range(work.turns(rng)):
            body = service.ask(messages[-1:] if service.keeps_history else messages)
            tool = rng.choice(TOOLS) if cadence.chance(rng, work.tools) else ""
            framing = service.reply(tool)
            steps = _steps(rng, service, work, seconds - now - think)
            words = text.tokens(rng, sum(step.tokens for step in steps), style)
            down = write(rng, service, framing, steps, words)
            end = down[-1].due
            abort = cadence.stop_time(rng, end) if work.stops else None
            made.append(
                Exchange(
                    down,
                    body,
                    think=think,
                    streams=True,
                    path=service.path,
                    headers=service.headers,
                    content_type=framing.content_type,
                    abort=abort,
                )
            )
            made += service.beside(rng, end)
            now += think + (abort or end)
            role, size = ("tool", work.result) if tool else ("user", work.prompt)
            messages.append(Message("assistant", "".join(words)))
            messages.append(Message(role, text.text(rng, size(rng), style)))
            think = (
                cadence.tool_time(rng) if tool else work.think(rng) * min(1, seconds / UNHURRIED)
            )
            if now + think + LEAST_LEFT > seconds:
                break
        return tuple(made)

    return build


def _steps(rng: Random, service: Service, work: Work, left: float) -> list[Flush]:
    """When the tokens of the next reply come, in at most ``left`` seconds."""
    wait = cadence.lognormal(rng, service.pace.first, service.pace.first_sigma)
    if cadence.chance(rng, service.reasoning):
        wait += cadence.reasoning_time(rng)
    steps = cadence.flushes(
        rng, service.pace, max(1, work.reply(rng)), wait=min(wait, MOST_WAIT * left)
    )
    return [step for step in steps if step.due <= left] or steps[:1]
