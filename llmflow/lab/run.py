"""Play a scenario: topology, servers, clients, capture; then join what everybody said.

::

    scenario ──▶ plan.jsonl ──▶ servers ◀── network ──▶ clients ──▶ logs
                                              │                       │
                                        capture.pcapng ──▶ truth ◀────┘──▶ flows, requests, report
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmflow.errors import LabError
from llmflow.lab.kinds import kinds
from llmflow.lab.net.capture import Capture
from llmflow.lab.net.doctor import PACKAGES, demand
from llmflow.lab.net.marks import Marks
from llmflow.lab.net.pki import make_certificates
from llmflow.lab.net.topology import Topology
from llmflow.lab.outcome import write_outcome
from llmflow.lab.plan import write_plan
from llmflow.lab.programs import missing, programs
from llmflow.lab.programs._place import scratch_directory
from llmflow.lab.records import write_records
from llmflow.lab.scenario import Scenario, plan
from llmflow.lab.script import Session
from llmflow.lab.stage import HOSTS, Stage, Talk

FIRST_GID = 20_000  # groups of kinds; those of the system lie below
_CAPTURE = "capture.pcapng"


def run_lab(
    scenario: Scenario, folder: Path, *, seed: int, piece: tuple[int, int], talk: Talk
) -> dict[str, Any]:
    """Play a scenario in real time between network namespaces (root only).

    Parameters
    ----------
    scenario : Scenario
    folder : Path
        Where the run goes; see docs/lab.md for its files.
    seed : int
    piece : (int, int)
        See :func:`~llmflow.lab.scenario.plan`.
    talk : callable
        Called with a line on what goes on.

    Returns
    -------
    dict
        What stands in ``report.json``.

    Raises
    ------
    LabError
        The machine lacks something, or a part of the lab failed.
    """
    demand()
    sessions = _playable(plan(scenario, seed, piece), talk)
    _prepare(folder, sessions)
    gids = {name: FIRST_GID + place for place, name in enumerate(sorted({**kinds(), **programs()}))}
    begun = time.time()
    with scratch_directory() as work:
        certificates = make_certificates(work / "tls", tuple(HOSTS))
        with Topology(scenario.paths, seed=seed, names=HOSTS, offload=scenario.offload) as net:
            stage = Stage(net, folder, work, sessions, certificates, gids, talk)
            marks = Marks([net.client(path) for path in net.paths], gids.values())
            capture = Capture(net, folder / _CAPTURE)
            with stage.servers(), marks, capture:
                stage.play()
        write_records(work / "marks.kernel.jsonl", marks.records)
        talk("joining labels and flows")
        said = {
            "scenario": scenario.name, "seed": seed, "piece": list(piece),
            "offload": scenario.offload, "begun": begun, "real_time": net.real_time,
            "bridges": net.statistics, "packets": sum(capture.received.values()),
            "dropped": sum(capture.dropped.values()), "capture": _CAPTURE,
        }  # fmt: skip
        return write_outcome(folder, work, sessions, gids, said)


def run_virtual_lab(
    scenario: Scenario, folder: Path, *, seed: int, piece: tuple[int, int], talk: Talk
) -> dict[str, Any]:
    """Play the HTTP/3 sessions of a scenario in virtual time: no root, hours in minutes.

    Parameters and errors are those of :func:`run_lab`.
    """
    if not find_spec("aioquic"):
        raise LabError("virtual time needs aioquic", hint=PACKAGES)
    from llmflow.lab.virtual import run_virtual

    sessions = [one for one in plan(scenario, seed, piece) if one.transport == "h3"]
    if not sessions:
        raise LabError("no session goes over h3", where=scenario.name, hint="choose another")
    _prepare(folder, sessions)
    talk(f"{len(sessions)} sessions in virtual time")
    with scratch_directory() as work:
        said = run_virtual(sessions, scenario.paths, work, seed)
        for name in (said["capture"], "keys.log"):
            shutil.move(work / name, folder / name)
        said |= {
            "scenario": scenario.name, "seed": seed, "piece": list(piece), "offload": False,
            "virtual": True, "dropped": 0,
        }  # fmt: skip
        return write_outcome(folder, work, sessions, {}, said)


def _playable(sessions: list[Session], talk: Talk) -> list[Session]:
    """Leave out programs that are not installed here, and say so."""
    lacking = {name: missing(program) for name, program in programs().items()}
    for name in sorted({one.kind for one in sessions if lacking.get(one.kind)}):
        talk(f"{name} is left out: {', '.join(lacking[name])} not found")
    kept = [one for one in sessions if not lacking.get(one.kind)]
    if not kept:
        raise LabError("nothing of it can be played here", hint="see `llmflow lab doctor`")
    return kept


def _prepare(folder: Path, sessions: Sequence[Session]) -> None:
    """Make the folder of a run with its plan."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise LabError("is not empty", where=str(folder), hint="choose a new folder")
        write_plan(folder / "plan.jsonl", sessions)
    except OSError as error:
        raise LabError(
            f"cannot be used ({error.strerror})", where=str(folder), hint="choose another"
        ) from None
