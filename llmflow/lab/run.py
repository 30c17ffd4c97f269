"""Play a scenario: topology, servers, clients, capture; then join what everybody said.

::

    scenario ──▶ plan.jsonl ──▶ servers ◀── network ──▶ clients ──▶ logs
                                              │                       │
                                        capture.pcapng ──▶ truth ◀────┘──▶ flows, requests, report
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmflow.errors import LabError
from llmflow.lab import truth
from llmflow.lab.kinds import kinds, script
from llmflow.lab.net.capture import Capture
from llmflow.lab.net.marks import Marks
from llmflow.lab.net.pki import make_certificates
from llmflow.lab.net.topology import Topology
from llmflow.lab.plan import write_plan
from llmflow.lab.programs import Program, missing, programs
from llmflow.lab.programs._place import scratch_directory
from llmflow.lab.scenario import Scenario, plan
from llmflow.lab.script import LLM_STREAM, Kind, Session
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
        truth.write_records(work / "kernel.jsonl", marks.records)
        talk("joining labels and flows")
        said = {
            "scenario": scenario.name, "seed": seed, "piece": list(piece),
            "offload": scenario.offload, "begun": begun, "real_time": net.real_time,
            "bridges": net.statistics, "packets": sum(capture.received.values()),
            "dropped": sum(capture.dropped.values()), "capture": _CAPTURE,
        }  # fmt: skip
        return _finish(folder, work, sessions, gids, said)


def run_virtual_lab(
    scenario: Scenario, folder: Path, *, seed: int, piece: tuple[int, int], talk: Talk
) -> dict[str, Any]:
    """Play the HTTP/3 sessions of a scenario in virtual time: no root, hours in minutes.

    Parameters and errors are those of :func:`run_lab`.
    """
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
        return _finish(folder, work, sessions, {}, said)


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


def _finish(
    folder: Path,
    work: Path,
    sessions: Sequence[Session],
    gids: dict[str, int],
    said: dict[str, Any],
) -> dict[str, Any]:
    """Join the logs of a run with its capture; write flows, requests and the report."""
    logged: list[truth.Record] = []
    exchanges: list[truth.Record] = []
    failed: list[truth.Record] = []
    for record in truth.read_records(sorted(work.glob("*.client.jsonl"))):
        if "exchange" in record:
            exchanges.append(record)
        elif record["client_port"]:  # others never got as far as a connection
            logged.append(record)
        else:
            failed.append(record)
    visits = list(truth.read_records(sorted(work.glob("*.visits.jsonl"))))
    logged += [record for record in visits if record["client_port"]]
    served = list(truth.read_records(sorted(work.glob("*.server.jsonl"))))
    seen: dict[truth.End, set[int]] = defaultdict(set)
    for record in served:
        seen[record["client_ip"], record["client_port"]].add(record["number"])
    names = {gid: _said_by_kernel(name) for name, gid in gids.items()}
    kernel = work / "kernel.jsonl"
    captured = truth.captured_flows(folder / said["capture"])
    flows, lost = truth.join_flows(
        captured, logged, truth.read_records([kernel] if kernel.exists() else []), seen, names
    )
    played = {record["number"] for record in [*logged, *visits]}
    by_number = {one.number: one for one in sessions}
    joined = list(truth.join_exchanges(exchanges, served))
    late: dict[int, list[float]] = defaultdict(list)
    for request in joined:
        session = by_number[request["number"]]
        request |= {
            "kind": session.kind,
            "transport": session.transport,
            "content_type": script(session)[request["exchange"]].content_type,
        }
        late[session.number] += truth.delays(request)
    rejected = sorted(
        number for number, some in late.items() if (truth.p99(some) or 0.0) > truth.LATE
    )
    for flow in flows:
        flow["rejected"] = flow.get("number") in set(rejected)
    truth.write_records(folder / "flows.jsonl", flows)
    truth.write_records(folder / "requests.jsonl", joined)
    everything = [delay for some in late.values() for delay in some]
    report = {
        **said,
        "sessions": len(sessions),
        "unplayed": sorted(set(by_number) - played),
        "logged": len(logged),
        "lost": lost,
        "flows": len(flows),
        "unlabelled": len(captured) - len(flows),
        "labels": dict(Counter(flow["label"] for flow in flows)),
        "exchanges": len(joined),
        "visits_failed": [
            visit for visit in visits if "client_port" not in visit and visit["error"]
        ],
        "rejected": rejected,
        "lateness_p99_s": truth.p99(everything),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def _said_by_kernel(name: str) -> tuple[str, str, str]:
    """Kind, label and category of a connection that nobody but the kernel knows.

    One of a streaming kind may be one that a browser opened and never used.
    """
    one: Kind | Program = programs()[name] if name in programs() else kinds()[name]
    sure = isinstance(one, Program) or one.label != LLM_STREAM
    return name, one.label if sure else "unknown", one.category
