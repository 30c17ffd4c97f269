"""The truth about a run: what clients, servers and the kernel said, joined with captured flows.

Three witnesses speak of a connection, independently of each other: the client that opened it, the
server that answered (it knows the client's address and the number of the session), and the kernel
of the client's namespace (which group of processes opened the socket). A connection gets a label
where at least one of them knows it and none contradicts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmflow.capture.columns import PROTOCOLS
from llmflow.capture.records import NANOSECOND
from llmflow.flows.keys import Endpoint
from llmflow.flows.stream import FlowStream
from llmflow.lab.records import Record
from llmflow.report.arrow import addresses

LATE = 0.005  # seconds by which 99 % of a session's writes may be late

End = tuple[str, int]  # address and port
Key = tuple[str, End, End]  # protocol and both ends, in order: who is the client is told apart
_SLACK = 2.0  # seconds between the clocks of a witness and of the capture
_SAID = "number", "kind", "label", "category", "transport", "front", "client", "path", "error"
_ENDS = ("protocol", "client_ip", "client_port", "server_ip", "server_port")


@dataclass(frozen=True, slots=True)
class Captured:
    """A connection of the capture: first and last time (unix seconds), packets, longest packet."""

    key: Key
    start: float
    end: float
    packets: int
    longest: int


def key_of(record: Record) -> Key:
    """Whose record it is."""
    client = record["client_ip"], record["client_port"]
    server = record["server_ip"], record["server_port"]
    low, high = sorted([client, server])
    return record["protocol"], low, high


def ends(column: Endpoint) -> list[End]:
    """Addresses and ports of a column of endpoints."""
    texts = addresses(column.high, column.low).to_pylist()
    return list(zip(texts, column.port.tolist(), strict=True))


def captured_flows(capture: Path) -> list[Captured]:
    """The flows of a capture, in order of time; ports that were used again make a new one."""
    found = []
    for batch in FlowStream([str(capture)]).batches():
        f, p = batch.flows, batch.packets
        if not len(f):
            continue
        columns = (
            p.time[f.first] / NANOSECOND,
            p.time[f.first + f.packets - 1] / NANOSECOND,
            f.packets,
            np.maximum.reduceat(p.ip_bytes, f.first),
        )
        rows = zip(
            f.protocol.tolist(), ends(f.a), ends(f.b), *(c.tolist() for c in columns), strict=True
        )
        for protocol, one, other, *rest in rows:
            low, high = sorted([one, other])
            found.append(Captured((PROTOCOLS.get(protocol, str(protocol)), low, high), *rest))
    return sorted(found, key=lambda seen: (seen.start, seen.key))


def join_flows(
    captured: Iterable[Captured],
    connections: Iterable[Record],
    kernel: Iterable[Record],
    served: Iterable[Record],
    names: Mapping[int, tuple[str, str, str]],
) -> tuple[list[Record], list[Record]]:
    """Give captured flows their labels.

    Parameters
    ----------
    captured : iterable of Captured
        From :func:`captured_flows`.
    connections : iterable of dict
        What clients logged.
    kernel : iterable of dict
        New connections with the mark of the process group.
    served : iterable of dict
        What servers wrote, with the client's address and port.
    names : mapping
        Kind, label and category of each mark.

    Returns
    -------
    flows : list of dict
        One record for each captured flow that somebody knows, in order of time. ``witness`` names
        who spoke; ``agree`` is false where they contradict each other, and the label is then
        ``unknown``.
    lost : list of dict
        Connections that a client logged and the capture lacks.
    """
    marked, logged = _by_key(kernel), _by_key(connections)
    flows: list[Record] = []
    joined: set[int] = set()
    told: dict[End, list[tuple[int, float]]] = defaultdict(list)
    for one in served:
        told[one["client_ip"], one["client_port"]] += [(one["number"], t) for t in one["due"][:1]]
    for seen in captured:
        mine = [one for one in logged.get(seen.key, []) if _meet(seen, one["start"], one["end"])]
        marks = [one for one in marked.get(seen.key, []) if _meet(seen, one["time"], one["time"])]
        joined.update(map(id, mine))
        flow = _label(mine, [one for one in marks if one["mark"] in names], names)
        if flow:
            client = flow["client_ip"], flow["client_port"]
            numbers = {number for number, t in told.get(client, []) if _meet(seen, t, t)}
            if mine and numbers:
                flow["witness"].append("server")
            if mine and numbers and not numbers & {one["number"] for one in mine}:
                flow["agree"] = False
            if not flow["agree"]:
                flow["label"] = "unknown"
            span = {"start": seen.start, "end": seen.end, "packets": seen.packets}
            flows.append({**flow, **span, "longest": seen.longest})
    return flows, [one for some in logged.values() for one in some if id(one) not in joined]


def _meet(seen: Captured, start: float, end: float) -> bool:
    """Whether a record is of this use of its ports."""
    return start - _SLACK <= seen.end and end + _SLACK >= seen.start


def _by_key(records: Iterable[Record]) -> dict[Key, list[Record]]:
    found: dict[Key, list[Record]] = defaultdict(list)
    for record in records:
        found[key_of(record)].append(record)
    return found


def _label(
    logged: list[Record], marked: list[Record], names: Mapping[int, tuple[str, str, str]]
) -> Record | None:
    """What clients and kernel say of one connection."""
    if not logged and not marked:
        return None
    first = (logged or marked)[0]
    flow = {name: first[name] for name in _ENDS}
    known = {names[record["mark"]] for record in marked}
    if logged:
        flow |= {name: first.get(name) for name in _SAID}
    else:
        flow |= dict(zip(("kind", "label", "category"), min(known), strict=True))
    kinds = {record["kind"] for record in logged} | {kind for kind, _, _ in known}
    spoke = {"client": logged, "kernel": marked}
    witness = [name for name, said in spoke.items() if said]
    return {**flow, "witness": witness, "agree": len(kinds) == 1}


def join_exchanges(exchanges: Iterable[Record], served: Iterable[Record]) -> Iterator[Record]:
    """Put what servers wrote beside what clients asked for and saw; with the lateness of writes."""
    written = {(record["number"], record["exchange"]): record for record in served}
    for record in exchanges:
        server = written.get((record["number"], record["exchange"]), {})
        joined = record | {name: server.get(name, []) for name in ("due", "sent", "size")}
        yield joined | {"late": p99(delays(joined))}


def delays(request: Record) -> list[float]:
    """How late each write was, seconds; the last ones may never have been sent."""
    return [sent - due for due, sent in zip(request["due"], request["sent"], strict=False)]


def p99(values: list[float]) -> float | None:
    """What 99 % of some values do not exceed."""
    return float(np.quantile(values, 0.99)) if values else None
