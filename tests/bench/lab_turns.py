"""How well turns are found in runs of the lab, request by request: `lab_turns.py RUN [RUN ...]`.

A run's `requests.jsonl` says when each request was sent and each piece of its reply written. A
streaming exchange is

* `found` if a turn's request lies between its start (less 20 ms: clocks) and the server's first
  write of the reply's body;
* `alone` if also no other streaming exchange starts within that turn.

`idle` are turns with a request that lies in no exchange of the connection (from its start to its
first write), of all such turns on connections with the label `llm-stream`. Errors are of found and
lone exchanges, seconds, in the median and where 90 % lie (5th to 95th percentile): `begin` and
`end` of the reply against the server's first and last write (begin is earlier where headers go out
in front of the body), `ttft` against what the client saw, `stall` seconds against the pauses
between writes. `tokens` are found / true of those a profile speaks on. The tap is in front of the
servers, so one way to the client is part of `ttft`. Intervals are Clopper-Pearson, 95 %.

A second table counts turns with a request per connection without LLM streams, by category.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmflow.capture.columns import PROTOCOLS
from llmflow.capture.records import NANOSECOND
from llmflow.features.segments import cut_segments
from llmflow.flows.stream import Assembled, FlowStream
from llmflow.lab.records import Record, read_records
from llmflow.lab.truth import key_of
from llmflow.learn.labels import ConnectionKey, connection_key
from llmflow.learn.metrics import rate
from llmflow.quality.experience import measure
from tests.bench.turns import address, connection_keys

CAPTURE = "capture.pcapng"
CLOCK, STALL = 0.02, 0.5  # s
UDP_BASED = ("h3", "udp")
ERRORS = ("begin", "end", "ttft", "stall", "tokens")


@dataclass(frozen=True)
class Asked:
    """A streaming exchange, and what was found of it; errors are NaN where it was not alone."""

    kind: str
    transport: str
    found: bool
    alone: bool
    errors: dict[str, float]


@dataclass(frozen=True)
class Seen:
    """A connection: its turns with a request, and those of them that lie in no exchange."""

    label: str
    category: str
    turns: int
    idle: int


@dataclass(frozen=True)
class Run:
    """What a run holds: streaming exchanges that were captured, and connections."""

    asked: list[Asked]
    seen: list[Seen]


def key(record: Record) -> ConnectionKey:
    """The key of a connection or an exchange."""
    numbers = {name: number for number, name in PROTOCOLS.items()}
    name = record.get("protocol") or ("udp" if record["transport"] in UDP_BASED else "tcp")
    protocol, *ends = key_of(record | {"protocol": name})
    (a, a_port), (b, b_port) = ends
    return connection_key(numbers[protocol], address(a), a_port, address(b), b_port)


def by_key(records: Iterable[Record]) -> dict[ConnectionKey, list[Record]]:
    """Records of each connection, in order of time."""
    found: dict[ConnectionKey, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda one: one["start"]):
        found[key(record)].append(record)
    return found


def first_write(exchange: Record) -> float:
    """When the server wrote first, or the exchange ended without."""
    return float(exchange["sent"][0] if exchange["sent"] else exchange["end"])


@dataclass(frozen=True)
class Turned:
    """The turns of one flow, seconds since the epoch and measures; ``asked``: with a request."""

    asked: np.ndarray
    request: np.ndarray
    reply: np.ndarray
    last: np.ndarray
    until: np.ndarray
    ttft: np.ndarray
    stall: np.ndarray
    tokens: np.ndarray

    def judge(self, exchange: Record, streams: list[Record]) -> Asked:
        """Hold the turns against one of the streaming exchanges of the connection."""
        start, written = exchange["start"], first_write(exchange)
        mine = (self.request >= start - CLOCK) & (self.request <= written) & self.asked
        at = int(np.argmax(mine))
        inside = [one for one in streams if self.request[at] <= first_write(one) < self.until[at]]
        alone = bool(mine.any()) and len(inside) <= 1
        pauses = np.diff(exchange["sent"]) if alone else np.zeros(0)
        truth = {
            "begin": self.reply[at] - written,
            "end": self.last[at] - exchange["sent"][-1] if exchange["sent"] else np.nan,
            "ttft": self.ttft[at] - (exchange["first"] - start),
            "stall": self.stall[at] - np.clip(pauses - STALL, 0, None).sum(),
            "tokens": self.tokens[at] / max(exchange["tokens"], 1),
        }
        errors = {name: float(value) if alone else np.nan for name, value in truth.items()}
        return Asked(exchange["kind"], exchange["transport"], bool(mine.any()), alone, errors)

    def idle(self, exchanges: list[Record]) -> int:
        """Turns whose request is nobody's."""
        at = self.request[self.asked]
        known = np.zeros(len(at), np.bool_)
        for one in exchanges:
            known |= (at >= one["start"] - CLOCK) & (at <= first_write(one))
        return int((~known).sum())


def turned(step: Assembled) -> Iterator[tuple[ConnectionKey, float, float, Turned]]:
    """Key, begin, end and turns of each flow of a batch."""
    turns, time = step.turns, step.batch.packets.time / NANOSECOND
    request = time[turns.request]
    another = np.append(np.diff(turns.flow) == 0, np.zeros(min(len(turns), 1), np.bool_))
    measured = measure(cut_segments(step.batch, step.data, turns, "turn"))
    columns = (
        ~np.isnan(turns.wait),
        request,
        time[turns.reply],
        time[turns.reply_last],
        np.where(another, np.roll(request, -1), np.inf),
        measured.cadence.ttft,
        measured.stalls.seconds,
        measured.tokens.count,
    )
    first = step.batch.flows.first
    last = first + step.batch.flows.packets - 1
    for flow, name in enumerate(connection_keys(step)):
        mine = turns.flow == flow
        yield name, time[first[flow]], time[last[flow]], Turned(*(c[mine] for c in columns))


def score(run: Path) -> Run:
    """Judge a run."""
    connections = by_key(read_records([run / "flows.jsonl"]))
    exchanges = by_key(
        one for one in read_records([run / "requests.jsonl"]) if one["first"] and not one["error"]
    )
    out = Run([], [])
    for step in FlowStream([str(run / CAPTURE)]).assemble():
        for name, begin, end, found in turned(step):
            inside = [one for one in exchanges.get(name, []) if begin - 1 <= one["start"] <= end]
            known = [one for one in connections.get(name, []) if one["start"] <= end]
            streams = [one for one in inside if one["streams"]]
            out.asked.extend(found.judge(one, streams) for one in streams if len(found.request))
            if known:
                said = known[-1]["label"], known[-1]["category"]
                out.seen.append(Seen(*said, int(found.asked.sum()), found.idle(inside)))
    return out


def share(hits: int, total: int) -> str:
    """A share with its interval."""
    got = rate(hits, total)
    return f"{hits}/{total} ({got['low']:.1%} to {got['high']:.1%})" if total else "-"


def spread(values: Iterable[float]) -> str:
    """Median, and 5th to 95th percentile."""
    known = np.array([value for value in values if not np.isnan(value)])
    if not len(known):
        return "-"
    low, middle, high = np.quantile(known, [0.05, 0.5, 0.95])
    return f"{middle:.3f} ({low:.3f} to {high:.3f}), n={len(known)}"


def exchanges_table(runs: list[Run]) -> str:
    """A row per transport and per kind."""
    asked = [one for run in runs for one in run.asked]
    groups: dict[str, Callable[[Asked], bool]] = {"all": lambda _: True}
    for of in ("transport", "kind"):
        for name in sorted({getattr(one, of) for one in asked}):
            groups[name] = lambda one, of=of, name=name: getattr(one, of) == name  # type: ignore[misc]
    lines = [["streams", "found", "alone", *ERRORS]]
    for name, belongs in groups.items():
        mine = [one for one in asked if belongs(one)]
        counts = [
            share(sum(getattr(one, w) for one in mine), len(mine)) for w in ("found", "alone")
        ]
        errors = [spread(one.errors[error] for one in mine) for error in ERRORS]
        lines.append([name, *counts, *errors])
    return markdown(lines)


def connections_table(runs: list[Run]) -> str:
    """Turns per connection, by label and category, and how many of them are idle."""
    seen = [one for run in runs for one in run.seen]
    lines = [["label", "category", "connections", "turns", "idle"]]
    for label in sorted({one.label for one in seen}):
        for category in ["all", *sorted({one.category for one in seen if one.label == label})]:
            mine = [one for one in seen if one.label == label and category in ("all", one.category)]
            turns = sum(one.turns for one in mine)
            idle = share(sum(one.idle for one in mine), turns)
            lines.append([label, category, str(len(mine)), str(turns), idle])
    return markdown(lines)


def markdown(lines: list[list[str]]) -> str:
    """A table; the first line is its head."""
    lines = [lines[0], ["-"] * len(lines[0]), *lines[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Score runs together and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    runs = [score(run) for run in parser.parse_args().runs]
    sys.stdout.write(f"{exchanges_table(runs)}\n{connections_table(runs)}")


if __name__ == "__main__":
    main()
