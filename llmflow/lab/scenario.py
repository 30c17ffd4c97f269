"""Scenarios: TOML files that say which kinds of traffic go over which paths, planned from a seed.

::

    summary = "What it is for"
    concurrency = 100          # sessions at a time, at most
    paths = ["fibre", "lte"]   # names of access paths, see `net/paths.py`
    offload = false            # segmentation offload of the network cards

    [path.far]                 # a path of one's own, by default like a shipped one
    like = "lte"
    down = { loss = 0.02 }

    [[sessions]]
    kinds = ["openai-*"]       # names of kinds and programs, with wildcards; "llm:*" are those that
                               # stream, "other:*" all others
    each = 4                   # sessions of each kind on each path; or
    count = 200                # sessions in all, dealt out evenly
    seconds = [5, 60]          # how long one may last: drawn between these, short ones more often
    transports = ["h1", "h2"]  # of those that the kind knows; all if not given
    clients = ["openai"]       # the same for client software
    paths = ["fibre"]          # some of the scenario's paths

Sessions of one scenario are dealt to ``concurrency`` places: each begins where one is free, so
that a run takes about the sum of all seconds divided by ``concurrency``. With ``arrivals``
(seconds) they begin at random moments of that time instead, as calls to a service do.
"""

from __future__ import annotations

import fnmatch
import heapq
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

from llmflow.errors import LabError
from llmflow.lab.kinds import kinds
from llmflow.lab.net.paths import AccessPath, access_path
from llmflow.lab.programs import programs
from llmflow.lab.script import LLM_STREAM, TRANSPORTS, Session

# Software of servers and clients by transport; the first is the most usual.
FRONTS = {
    "h1": ("uvicorn",),
    "h2": ("hypercorn", "nginx"),
    "h3": ("hypercorn", "caddy"),
    "ws": ("websockets",),
    "grpc": ("grpcio",),
    "tls": ("asyncio",),
    "tcp": ("asyncio",),
    "udp": ("asyncio",),
}
CLIENTS = {
    "h1": ("httpx",),
    "h2": ("httpx",),
    "h3": ("aioquic",),
    "ws": ("websockets",),
    "grpc": ("grpcio",),
    "tls": ("asyncio",),
    "tcp": ("asyncio",),
    "udp": ("asyncio",),
}
SDKS = ("openai", "anthropic", "google-genai")
# Only patterns that begin like this mean these: kinds that test the lab itself, and tunnels. Where
# interfaces of tunnels come and go, Chromium closes all connections: they need their own path.
_APART = "probe-", "wireguard-", "openvpn-"
PROGRAM = "program"  # transport, front and client of a genuine program
_BROWSERS = 0.2  # weight of a browser: each takes seconds of CPU time to start
_STAGGER = 0.25  # seconds between two sessions in one place, and twice that between first ones
_MOST_SESSIONS = 200_000
_MOST_BYTES = 1 << 20
_MOST_SECONDS = 86_400  # of ``arrivals``

_Wrong = Callable[[str], LabError]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario as it is written.

    Parameters
    ----------
    name, summary : str
    paths : tuple of AccessPath
    blocks : tuple of dict
        The ``[[sessions]]`` tables, checked.
    concurrency : int
        Sessions at a time.
    arrivals : float or None
        Sessions begin at random within so many seconds, whatever goes on.
    offload : bool
        Segmentation offload on.
    """

    name: str
    summary: str
    paths: tuple[AccessPath, ...]
    blocks: tuple[dict[str, Any], ...]
    concurrency: int = 100
    arrivals: float | None = None
    offload: bool = False


def shipped() -> dict[str, Path]:
    """The scenarios that come with llmflow, by name."""
    folder = Path(str(files("llmflow.lab") / "scenarios"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_scenario(name: str | Path) -> Scenario:
    """Read a shipped scenario by its name, or a file.

    Raises
    ------
    LabError
        There is none, or something in it is wrong.
    """
    path = shipped().get(str(name), Path(name))
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise LabError("is too large for a scenario", where=str(path), hint="check the path")
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError:
        known = ", ".join(shipped())
        raise LabError("no such scenario", where=str(name), hint=f"there are: {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"is no TOML ({error})", where=str(path), hint="correct it") from None
    return _check(path.stem, table, str(path))


def _check(name: str, table: dict[str, Any], where: str) -> Scenario:
    def wrong(what: str) -> LabError:
        return LabError(what, where=where, hint="docs/lab.md describes the format")

    own = {"summary", "concurrency", "paths", "path", "arrivals", "offload", "sessions"}
    if unknown := set(table) - own:
        raise wrong(f"unknown key {', '.join(sorted(unknown))}")
    paths = _check_paths(table, wrong)
    blocks = table.get("sessions")
    if not isinstance(blocks, list) or not blocks:
        raise wrong("has no [[sessions]]")
    names = {path.name for path in paths}
    for block in blocks:
        _check_block(block, names, wrong)
    concurrency, arrivals = table.get("concurrency", 100), table.get("arrivals")
    if not isinstance(concurrency, int) or not 1 <= concurrency <= 2000:  # noqa: PLR2004
        raise wrong("concurrency is no number from 1 to 2000")
    if arrivals is not None and not (
        isinstance(arrivals, int | float) and 0 < arrivals <= _MOST_SECONDS
    ):
        raise wrong("arrivals is no time, at most a day")
    offload = table.get("offload", False)
    if not isinstance(offload, bool):
        raise wrong("offload is neither true nor false")
    return Scenario(
        name,
        str(table.get("summary", "")),
        paths,
        tuple(blocks),
        concurrency,
        arrivals,
        offload,
    )


def _check_paths(table: dict[str, Any], wrong: _Wrong) -> tuple[AccessPath, ...]:
    own_paths = table.get("path", {})
    listed = table.get("paths")
    if not isinstance(listed, list) or not listed or not isinstance(own_paths, dict):
        raise wrong("paths is no list of access paths")
    paths = tuple(access_path(str(name), own_paths.get(str(name))) for name in listed)
    names = {path.name for path in paths}
    if len(names) < len(paths):
        raise wrong("paths names one of them twice")
    if unused := set(own_paths) - names:
        raise wrong(f"paths does not list {', '.join(sorted(unused))}")
    return paths


def _check_block(block: Any, names: set[str], wrong: _Wrong) -> None:  # noqa: ANN401 - from a file
    keys = {"kinds", "each", "count", "seconds", "transports", "clients", "fronts", "paths"}
    if not isinstance(block, dict):
        raise wrong("sessions is no list of tables")
    if unknown := set(block) - keys:
        raise wrong(f"unknown key in [[sessions]]: {', '.join(sorted(unknown))}")
    for key in keys - {"each", "count", "seconds"}:
        value = block.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise wrong(f"{key} of [[sessions]] is no list of names")
    if not matching(block.get("kinds", [])):
        raise wrong(f"no kind is called {', '.join(block.get('kinds', []))}")
    if foreign := set(block.get("paths", [])) - names:
        raise wrong(f"[[sessions]] has paths that the scenario lacks: {', '.join(sorted(foreign))}")
    if foreign := set(block.get("transports", [])) - {*TRANSPORTS, PROGRAM}:
        raise wrong(f"no such transport: {', '.join(sorted(foreign))}")
    number = block.get("each", block.get("count"))
    if ("each" in block) == ("count" in block) or not (
        isinstance(number, int) and 1 <= number <= _MOST_SESSIONS
    ):
        raise wrong(f"[[sessions]] needs a number to {_MOST_SESSIONS}, as each or as count")
    span = block.get("seconds")
    if (
        not isinstance(span, list)
        or len(span) != 2  # noqa: PLR2004
        or not all(isinstance(end, int | float) for end in span)
        or not 0 < span[0] <= span[1] <= 3600  # noqa: PLR2004
    ):
        raise wrong("seconds of [[sessions]] are no two times, at most an hour")


def matching(patterns: Sequence[str]) -> list[str]:
    """Names of the kinds and programs that any of some patterns matches, in order."""
    every = sorted({**kinds(), **programs()})
    streams = {name for name, kind in kinds().items() if kind.label == LLM_STREAM}
    full = {name: ("llm:" if name in streams else "other:") + name for name in every}
    return [
        name
        for name in every
        if any(
            fnmatch.fnmatchcase(full[name] if ":" in pattern else name, pattern)
            for pattern in patterns
            if pattern.startswith(_APART) or not name.startswith(_APART)
        )
    ]


def plan(scenario: Scenario, seed: int, piece: tuple[int, int] = (1, 1)) -> list[Session]:
    """Draw the sessions of a scenario.

    Parameters
    ----------
    scenario : Scenario
    seed : int
        The same seed draws the same sessions.
    piece : (int, int)
        Which of how many pieces: every session is in exactly one, whatever the machine.

    Returns
    -------
    list of Session
        In order of their starts.

    Raises
    ------
    LabError
        A block leaves no way to play its kinds, or the scenario is too large.
    """
    rng = Random(f"{scenario.name} {seed}")
    drawn: list[Session] = []
    for block in scenario.blocks:
        places = _places(scenario, block, rng)
        if len(drawn) + len(places) > _MOST_SESSIONS:
            what = f"more than {_MOST_SESSIONS} sessions"
            raise LabError(what, where=scenario.name, hint="split it")
        drawn += _draw(block, places, rng)
    rng.shuffle(drawn)
    numbered = [replace(session, number=number) for number, session in enumerate(drawn)]
    mine = [one for one in numbered if one.number % piece[1] == piece[0] - 1]
    return sorted(_starts(scenario, mine, rng), key=lambda one: (one.start, one.number))


def _starts(scenario: Scenario, sessions: list[Session], rng: Random) -> list[Session]:
    if scenario.arrivals is not None:
        return [replace(one, start=rng.uniform(0, scenario.arrivals)) for one in sessions]
    free = [place * 2 * _STAGGER for place in range(scenario.concurrency)]
    begun = []
    for one in sessions:
        start = heapq.heappop(free)
        begun.append(replace(one, start=start))
        heapq.heappush(free, start + one.seconds + rng.uniform(0, 2 * _STAGGER))
    return begun


def _places(scenario: Scenario, block: dict[str, Any], rng: Random) -> list[tuple[str, str]]:
    """Kind and path of each session of a block; one too many are enough to refuse it."""
    wanted = block.get("paths") or [path.name for path in scenario.paths]
    paths = [path.name for path in scenario.paths if path.name in wanted]
    once = [(name, path) for name in matching(block["kinds"]) for path in paths]
    count = min(block.get("count") or block["each"] * len(once), _MOST_SESSIONS + 1)
    if "count" in block:
        rng.shuffle(once)
    return list(islice(cycle(once), count))


def _draw(block: dict[str, Any], places: list[tuple[str, str]], rng: Random) -> list[Session]:
    low, high = block["seconds"]
    sessions = []
    for name, path in places:
        seconds = low * (high / low) ** rng.random()
        stack = (PROGRAM,) * 3 if name in programs() else _stack(name, block, rng)
        seed = rng.getrandbits(48)
        sessions.append(Session(0, name, *stack, path, 0.0, round(seconds, 3), seed))
    return sessions


def _stack(name: str, block: dict[str, Any], rng: Random) -> tuple[str, str, str]:
    """Transport, server and client software of one session."""
    kind = kinds()[name]
    allowed = block.get("transports") or kind.transports
    choices = [
        (transport, client)
        for transport in kind.transports
        if transport in allowed
        for client in _clients(kind.clients, transport)
        if client in (block.get("clients") or (client,))
    ]
    if not choices:
        raise LabError("no such transport and client", where=name, hint="see `llmflow lab list`")
    # The most usual transport first, without ever starving the others.
    weights = [
        (_BROWSERS if client == "chromium" else 1) / (1 + kind.transports.index(transport))
        for transport, client in choices
    ]
    transport, client = rng.choices(choices, weights)[0]
    fronts = [f for f in FRONTS[transport] if f in (block.get("fronts") or (f,))]
    if not fronts:
        raise LabError(f"no such server for {transport}", where=name, hint="correct fronts")
    return transport, rng.choice(fronts), client


def _clients(special: Sequence[str], transport: str) -> list[str]:
    sdks = [client for client in special if client in SDKS and transport == "h1"]
    browser = [client for client in special if client == "chromium" and transport in ("h2", "h3")]
    return [*CLIENTS[transport], *sdks, *browser]
