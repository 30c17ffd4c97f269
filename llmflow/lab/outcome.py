"""The end of a run: its logs and its capture become flows, requests and the report."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmflow.lab.kinds import kinds, script
from llmflow.lab.programs import Program, programs
from llmflow.lab.records import Record, read_records, write_records
from llmflow.lab.script import LLM_STREAM, Kind, Session
from llmflow.lab.truth import LATE, captured_flows, delays, join_exchanges, join_flows, p99


def write_outcome(
    folder: Path,
    work: Path,
    sessions: Sequence[Session],
    gids: Mapping[str, int],
    said: Mapping[str, Any],
) -> dict[str, Any]:
    """Write ``flows.jsonl``, ``requests.jsonl`` and ``report.json`` of a run.

    Parameters
    ----------
    folder, work : Path
        Of the run, with its capture; and of the logs.
    sessions : sequence of Session
    gids : mapping of str to int
        Group of each kind and program, as far as the kernel marked connections.
    said : mapping
        What else goes into the report; ``capture`` names the capture.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    LabError, CaptureError
        A log or the capture cannot be read.
    """
    clients, visits, served = (_logs(work, of) for of in ("client", "visits", "server"))
    # A record without a port is of a session that never got as far as a connection, or of a visit.
    logged = [one for one in [*clients, *visits] if "exchange" not in one and one["client_port"]]
    captured = captured_flows(folder / said["capture"])
    names = {gid: _said_by_kernel(name) for name, gid in gids.items()}
    flows, lost = join_flows(captured, logged, _logs(work, "kernel"), served, names)

    by_number = {one.number: one for one in sessions}
    exchanges = [one for one in clients if "exchange" in one]
    requests = list(_described(join_exchanges(exchanges, served), by_number))
    late: dict[int, list[float]] = defaultdict(list)
    for request in requests:
        late[request["number"]] += delays(request)
    rejected = {number for number, some in late.items() if (p99(some) or 0.0) > LATE}
    for flow in flows:
        flow["rejected"] = flow.get("number") in rejected
    write_records(folder / "flows.jsonl", flows)
    write_records(folder / "requests.jsonl", requests)
    report = {
        **said,
        "sessions": len(sessions),
        "unplayed": sorted(by_number.keys() - {one["number"] for one in [*logged, *visits]}),
        "logged": len(logged),
        "lost": lost,
        "flows": len(flows),
        "unlabelled": len(captured) - len(flows),
        "labels": dict(Counter(flow["label"] for flow in flows)),
        "exchanges": len(requests),
        "visits_failed": [one for one in visits if one["error"] and not one["client_port"]],
        "rejected": sorted(rejected),
        "lateness_p99_s": p99([delay for some in late.values() for delay in some]),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def _logs(work: Path, of: str) -> list[Record]:
    return list(read_records(sorted(work.glob(f"*.{of}.jsonl"))))


def _described(joined: Iterator[Record], sessions: Mapping[int, Session]) -> Iterator[Record]:
    """Say of exchanges what is known of their kind."""
    for request in joined:
        session = sessions[request["number"]]
        yield request | {
            "kind": session.kind,
            "transport": session.transport,
            "content_type": script(session)[request["exchange"]].content_type,
        }


def _said_by_kernel(name: str) -> tuple[str, str, str]:
    """Kind, label and category of a connection that nobody but the kernel knows.

    One of a streaming kind may be one that a browser opened and never used.
    """
    one: Kind | Program = programs()[name] if name in programs() else kinds()[name]
    sure = isinstance(one, Program) or one.label != LLM_STREAM
    return name, one.label if sure else "unknown", one.category
