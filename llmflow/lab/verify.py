"""Prove the labels of a run: joined, agreed on by the witnesses, and confirmed by decryption.

``verify`` reads nothing but what lies in the run's folder, so that a run can be judged anywhere.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmflow.errors import LabError
from llmflow.lab.records import Record, read_records
from llmflow.lab.truth import LATE, Key, captured_flows, key_of

FRAME_LIMIT = 1500  # IP bytes of a packet where offload is off
CONFIRMED = 0.95  # share of event streams that decryption has to find
_EVENTS = "text/event-stream"
# Without the last option streams behind a lost segment stay closed.
_TSHARK = ("-o", "tcp.desegment_tcp_streams:TRUE", "-o", "tcp.reassemble_out_of_order:TRUE")
_CONTENT_TYPE = "http.content_type", "http2.headers.content_type"
_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; ``ok`` is None where it could not be."""

    name: str
    ok: bool | None
    detail: str


def verify(folder: Path) -> list[Check]:
    """Check a run.

    Parameters
    ----------
    folder : Path
        As `llmflow lab run` wrote it.

    Raises
    ------
    LabError
        It is no folder of a run, or tshark cannot read it.
    CaptureError
        The capture cannot be read.
    """
    try:
        report = json.loads((folder / "report.json").read_text("utf-8"))
        flows = list(read_records([folder / "flows.jsonl"]))
        requests = list(read_records([folder / "requests.jsonl"]))
        capture = folder / Path(report["capture"]).name
        return [
            *_counted(report, flows, requests),
            *_looked_at(folder, capture, report, flows, requests),
        ]
    # Whoever wrote these files may have left out or mistaken anything.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise LabError(
            f"is no finished run ({error!r})", where=str(folder), hint="make one: llmflow lab run"
        ) from None


def _counted(report: Record, flows: list[Record], requests: list[Record]) -> Iterator[Check]:
    lost = report["lost"]
    yield Check(
        "every connection that a client logged was captured",
        not lost,
        f"{report['logged'] - len(lost)} of {report['logged']}",
    )
    yield Check(
        "every session was played",
        not report["unplayed"],
        f"{report['sessions'] - len(report['unplayed'])} of {report['sessions']}",
    )
    told = [flow for flow in flows if {"client", "kernel"} <= set(flow["witness"])]
    apart = [flow for flow in flows if not flow["agree"]]
    yield Check(
        "client, server and kernel agree",
        not apart,
        f"{len(flows) - len(apart)} of {len(flows)} flows; client and kernel both knew {len(told)}",
    )
    failed = Counter(str(request["error"]) for request in requests if request["error"])
    share = sum(failed.values()) / max(1, len(requests))
    common = ", ".join(f"{count} {text}" for text, count in failed.most_common(3))
    yield Check(
        "exchanges that failed are few",
        share <= 1 - CONFIRMED,
        f"{sum(failed.values())} of {len(requests)}" + (f" ({common})" if common else ""),
    )
    failed_visits = report["visits_failed"]
    yield Check(
        "visits of programs that failed are few",
        len(failed_visits) <= (1 - CONFIRMED) * report["sessions"],
        f"{len(failed_visits)} of {report['sessions']} sessions",
    )
    late = report["rejected"]
    paced = {request["number"] for request in requests if request["late"] is not None}
    yield Check(
        f"99 % of the writes of each session were at most {LATE * 1000:.0f} ms late",
        len(late) <= (1 - CONFIRMED) * len(paced),
        f"{len(paced) - len(late)} of {len(paced)} sessions; the others are rejected",
    )
    yield Check(
        "the capture dropped nothing",
        report["dropped"] == 0,
        f"{report['dropped']} packets dropped",
    )


def _looked_at(
    folder: Path, capture: Path, report: Record, flows: list[Record], requests: list[Record]
) -> Iterator[Check]:
    captured = captured_flows(capture)
    missing = len({key_of(flow) for flow in flows} - {seen.key for seen in captured})
    yield Check("labelled flows are in the capture", not missing, f"{missing} missing")
    longest = max((one.longest for one in captured), default=0)
    yield Check(
        "no packet is longer than the path allows",
        longest <= FRAME_LIMIT or report["offload"],
        f"{longest} IP bytes at most",
    )
    try:
        wrong = _tshark(
            capture,
            "ip.checksum.status == 0 || udp.checksum.status == 0"
            # The kernel may write zero as its other form (RFC 1624), which tshark takes for wrong.
            " || (tcp.checksum.status == 0 && tcp.checksum != 0xffff)",
            ("frame.number",),
            *("-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"),
            *("-o", "udp.check_checksum:TRUE"),
        )
        bad = len(wrong)
        yield Check("checksums are right", not bad or report["offload"], f"{bad} packets wrong")
        yield _decrypted(folder, capture, requests)
    except FileNotFoundError:
        yield Check("checksums and decryption", None, "needs tshark")


def _decrypted(folder: Path, capture: Path, requests: list[Record]) -> Check:
    """Whether event streams of h1 and h2 are found where the log says."""
    said: set[Key] = {
        key_of({"protocol": "tcp", **request})
        for request in requests
        if request["content_type"].startswith(_EVENTS)
        and request["transport"] in ("h1", "h2")
        and request["events"]
    }
    keys = folder / "keys.log"
    rows = _tshark(
        capture,
        " || ".join(f'{name} contains "{_EVENTS}"' for name in _CONTENT_TYPE),
        ("ip.src", "tcp.srcport", "ip.dst", "tcp.dstport"),
        *("-o", f"tls.keylog_file:{keys}", *_TSHARK),
    )
    found: set[Key] = set()
    for row in rows:
        source, port, other, other_port = row
        low, high = sorted([(source, int(port)), (other, int(other_port))])
        found.add(("tcp", low, high))
    both = len(said & found)
    unsaid = len(found - said)
    return Check(
        "decryption confirms the event streams of h1 and h2",
        both >= CONFIRMED * len(said) and not unsaid,
        f"{both} of {len(said)} connections; {unsaid} that no log knows",
    )


def _tshark(capture: Path, wanted: str, fields: tuple[str, ...], *options: str) -> list[list[str]]:
    """Fields of the packets that a display filter picks."""
    command: list[Any] = ["tshark", "-n", "-r", capture, *options, "-Y", wanted, "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise LabError(
            f"tshark cannot read it ({' '.join(last)})", where=str(capture), hint="see above"
        )
    # A packet with several HTTP/2 frames repeats nothing of these fields.
    return [line.split("\t") for line in done.stdout.splitlines()]
