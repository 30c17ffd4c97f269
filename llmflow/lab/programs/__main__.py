"""Play the visits of one access path: ``python -m llmflow.lab.programs CONFIG.json``."""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path
from random import Random
from typing import Any

from llmflow.lab.plan import read_plan
from llmflow.lab.programs import ClientPlace, programs
from llmflow.lab.programs._place import scratch_directory
from llmflow.lab.programs.config import Config
from llmflow.lab.records import append_records
from llmflow.lab.script import Session

OVERRUN = 20.0  # seconds a visit may last beyond what was planned
PR_SET_PDEATHSIG = 1
# Imports cost more than a visit: once for all, then a fork for each.
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Visit:
    """A session that is being played."""

    session: Session
    began: float
    process: ForkProcess


def play(config: Config) -> None:
    """Play every session of the plan that is a program's and of this path, each at its time."""
    known = programs()
    plan = [one for one in read_plan(config.plan) if one.path == config.path and one.kind in known]
    for name in sorted({one.kind for one in plan}):
        for module in known[name].modules:
            importlib.import_module(module)
    running: list[Visit] = []
    for session in sorted(plan, key=lambda one: one.start):
        while (wait := config.t0 + session.start - time.time()) > 0:
            time.sleep(min(wait, 0.2))
            running = _reap(config, running)
        process = FORK.Process(target=_visit, args=(config, session))
        process.start()
        running.append(Visit(session, time.time(), process))
    while running:
        time.sleep(0.2)
        running = _reap(config, running)


def _reap(config: Config, running: list[Visit]) -> list[Visit]:
    """End what takes too long, and what finished visits left behind; return those that go on."""
    going = []
    for visit in running:
        late = time.time() > visit.began + visit.session.seconds + OVERRUN
        if visit.process.is_alive() and not late:
            going.append(visit)
            continue
        with suppress(ProcessLookupError):
            os.killpg(visit.process.pid or 0, signal.SIGKILL)
        visit.process.join()
        if late:
            _record(config, visit.session, visit.began, error="took too long")
    return going


def _visit(config: Config, session: Session) -> None:
    os.setsid()
    # The player keeps its real-time priority; programs must not have it, as some compute a lot.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    program = programs()[session.kind]
    os.setgid(config.gids[program.name])
    # After the change of the group, which would clear it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    began, error = time.time(), None
    connections: list[tuple[Any, ...]] = []
    # Beside the log, where it goes with the run if the visit is killed.
    with scratch_directory(config.log.parent) as scratch:
        place = ClientPlace(
            rng=Random(session.seed),
            seconds=session.seconds,
            number=session.number,
            server=config.servers[program.name],
            authority=config.authority,
            shared=config.shared[program.name],
            scratch=scratch,
            connected=lambda *ends: connections.append((time.time(), *ends)),
        )
        try:
            program.visit(place)
        except Exception as failure:  # noqa: BLE001 # whatever a program does is for the log
            error = f"{type(failure).__name__}: {failure}"[:500]
    for start, *ends in connections:
        _record(config, session, start, *ends, error=error)
    _record(config, session, began, error=error)


def _record(
    config: Config,
    session: Session,
    start: float,
    protocol: str | None = None,
    local: tuple[Any, ...] = (None, None),
    remote: tuple[Any, ...] = (None, None),
    *,
    error: str | None,
) -> None:
    """Append one record; that of the visit itself has no protocol and no addresses."""
    program = programs()[session.kind]
    record = {
        "number": session.number,
        "kind": program.name,
        "label": program.label,
        "category": program.category,
        "transport": session.transport,
        "front": session.front,
        "client": session.client,
        "path": session.path,
        "protocol": protocol,
        "client_ip": local[0],
        "client_port": local[1],
        "server_ip": remote[0],
        "server_port": remote[1],
        "start": start,
        "end": time.time(),
        "error": error,
    }
    append_records(config.log, [record])


if __name__ == "__main__":
    play(Config.from_json(Path(sys.argv[1])))
