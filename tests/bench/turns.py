"""How well turns are found in labelled captures: `turns.py CORPUS`.

The corpus is a folder with captures, `episodes.csv` (columns `file, flow, provider, verdict, t0,
dur_s, steady_t0, steady_dur_s`: times in seconds since the epoch) and `flows.csv` (`file, flow,
proto, client, cport, server, sport`). An episode there is a connection's downlink data cut at
silences above 2 s; its verdict is `strong` or `weak` where tokens streamed in it.

An episode is matched by a stretch of its connection that starts and ends within 1 s of it. The
stretches are, from the strictest reading of *turn* to the loosest:

* `whole`: the reply of a turn, from its first downlink data to its last;
* `main`: the longest streaming episode of a turn;
* `any`: any streaming episode of a turn;
* `steady`: as `any`, but the steady runs of both are compared.

The corpus cuts at the same silences, so `any` can only be lost to a request found inside of an
episode, or to an episode that is not called a stream. `whole` and `replies` judge the requests.

`replies` are the connections with such an episode whose turns with a streaming episode are as many
as their strong and weak episodes, give or take one. Connections without ports are left out.
Captures are split in two halves (every second by name, provider by provider): the rules were drawn
up with all of them in view, their numbers chosen on half A. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import csv
import ipaddress
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmflow.capture.columns import IPV4_MAPPED, PROTOCOLS
from llmflow.capture.records import NANOSECOND
from llmflow.flows.episodes import Episodes, Kind, find_episodes
from llmflow.flows.stream import Assembled, FlowStream
from llmflow.learn.labels import ConnectionKey, connection_key

NEAR = NANOSECOND
READINGS = ("whole", "main", "any", "steady")
Stretches = list[tuple[int, int]]  # from and to, ns


@dataclass(frozen=True)
class Episode:
    """A row of `episodes.csv`."""

    provider: str
    strong: bool
    span: tuple[int, int]
    steady: tuple[int, int]


Truth = dict[str, dict[ConnectionKey, list[Episode]]]  # by capture


@dataclass
class Found:
    """What llmflow finds in one connection."""

    stretches: dict[str, Stretches]
    replies: int
    two_way: bool


@dataclass(frozen=True)
class Scored:
    """One connection with episodes."""

    half: str
    provider: str
    two_way: bool
    strong: int
    matched: dict[str, int]
    expected: int
    replies: int

    @property
    def close(self) -> bool:
        """Whether the replies are as many as expected, give or take one."""
        return abs(self.replies - self.expected) <= 1


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def span(start: str, seconds: str) -> tuple[int, int]:
    """From and to, ns."""
    begin = round(float(start) * NANOSECOND)
    return begin, begin + round(float(seconds) * NANOSECOND)


def address(text: str) -> int:
    """An address as 128 bits."""
    parsed = ipaddress.ip_address(text)
    return int(parsed) | (IPV4_MAPPED if parsed.version == 4 else 0)


def truth(corpus: Path) -> Truth:
    """The streaming episodes of each connection of each capture."""
    numbers = {name: number for number, name in PROTOCOLS.items()}
    keys = {
        (row["file"], row["flow"]): connection_key(
            numbers[row["proto"]],
            *(address(row["client"]), int(row["cport"])),
            *(address(row["server"]), int(row["sport"])),
        )
        for row in rows(corpus / "flows.csv")
        if row["proto"] in numbers and row["sport"] != "0"
    }
    found: Truth = defaultdict(lambda: defaultdict(list))
    for row in rows(corpus / "episodes.csv"):
        key = keys.get((row["file"], row["flow"]))
        if key and row["verdict"] in ("strong", "weak"):
            episode = Episode(
                row["provider"],
                row["verdict"] == "strong",
                span(row["t0"], row["dur_s"]),
                span(row["steady_t0"], row["steady_dur_s"]),
            )
            found[row["file"]][key].append(episode)
    return found


def connection_keys(step: Assembled) -> list[ConnectionKey]:
    """The key of each flow of a batch."""
    f = step.batch.flows
    a = [(high << 64) | low for high, low in zip(f.a_high.tolist(), f.a_low.tolist(), strict=True)]
    b = [(high << 64) | low for high, low in zip(f.b_high.tolist(), f.b_low.tolist(), strict=True)]
    ends = zip(f.protocol.tolist(), a, f.a_port.tolist(), b, f.b_port.tolist(), strict=True)
    return [connection_key(*end) for end in ends]


def longest(episodes: Episodes, time: np.ndarray) -> Episodes:
    """The longest episode of each turn."""
    length = time[episodes.last] - time[episodes.row]
    order = np.lexsort((-length, episodes.turn))
    _, first = np.unique(episodes.turn[order], return_index=True)
    return episodes.take(order[first])


def find(steps: Iterable[Assembled]) -> dict[ConnectionKey, Found]:
    """Turns and episodes of a capture's connections."""
    connections: dict[ConnectionKey, Found] = {}
    for step in steps:
        time, turns = step.batch.packets.time, step.turns
        episodes = find_episodes(step.batch, step.data, turns)
        streams = episodes.take(episodes.kind == Kind.STREAM)
        main = longest(streams, time)
        up = np.bincount(step.data.flow[step.batch.packets.up], minlength=len(step.batch.flows))
        tables = {
            "whole": (turns.flow, turns.reply, turns.reply_last),
            "main": (turns.flow[main.turn], main.row, main.last),
            "any": (turns.flow[streams.turn], streams.row, streams.last),
            "steady": (turns.flow[streams.turn], streams.steady_row, streams.steady_last),
        }
        for flow, key in enumerate(connection_keys(step)):
            empty: dict[str, Stretches] = {name: [] for name in READINGS}
            known = connections.setdefault(key, Found(empty, 0, two_way=False))
            known.two_way |= bool(up[flow])
            known.replies += len(np.unique(streams.turn[turns.flow[streams.turn] == flow]))
            for name, (of, first, last) in tables.items():
                mine = of == flow
                known.stretches[name] += zip(
                    time[first[mine]].tolist(), time[last[mine]].tolist(), strict=True
                )
    return connections


def near(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two stretches start and end within a second of each other."""
    return all(abs(a - b) <= NEAR for a, b in zip(one, other, strict=True))


def score(episodes: list[Episode], found: Found | None, half: str) -> Scored:
    """Hold what was found in a connection against its episodes."""
    found = found or Found({name: [] for name in READINGS}, 0, two_way=False)
    strong = [episode for episode in episodes if episode.strong]
    matched = {
        name: sum(
            any(
                near(episode.steady if name == "steady" else episode.span, stretch)
                for stretch in found.stretches[name]
            )
            for episode in strong
        )
        for name in READINGS
    }
    return Scored(
        half,
        episodes[0].provider,
        found.two_way,
        len(strong),
        matched,
        len(episodes),
        found.replies,
    )


def halves(labelled: Truth) -> list[tuple[str, str, dict[ConnectionKey, list[Episode]]]]:
    """Captures with their half and the episodes of their connections."""
    seen: dict[str, int] = defaultdict(int)
    split = []
    for name, connections in sorted(labelled.items()):
        provider = next(iter(connections.values()))[0].provider
        split.append((name, "AB"[seen[provider] % 2], connections))
        seen[provider] += 1
    return split


def score_corpus(corpus: Path) -> list[Scored]:
    """All connections with streaming episodes."""
    scored = []
    for name, half, connections in halves(truth(corpus)):
        found = find(FlowStream([str(corpus / name)]).assemble())
        scored += [score(episodes, found.get(key), half) for key, episodes in connections.items()]
    return scored


def wilson(hits: int, total: int) -> str:
    """A share in percent with its 95 % interval (Wilson 1927)."""
    if not total:
        return "-"
    share, z2 = hits / total, 1.96**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    spread = 1.96 * (share * (1 - share) / total + z2 / (4 * total**2)) ** 0.5 / (1 + z2 / total)
    low, high = max(0.0, middle - spread), min(1.0, middle + spread)
    return f"{hits}/{total} = {share:.1%} ({low:.1%} to {high:.1%})"


def table(scored: Iterable[Scored]) -> str:
    """A Markdown table: one row per group, one column per reading, and the replies."""
    scored = list(scored)
    groups: dict[str, Callable[[Scored], bool]] = {
        name: lambda one, name=name: one.provider == name  # type: ignore[misc]
        for name in sorted({one.provider for one in scored})
    }
    groups |= {
        "two-way, half A": lambda one: one.two_way and one.half == "A",
        "two-way, half B": lambda one: one.two_way and one.half == "B",
        "two-way": lambda one: one.two_way,
        "all": lambda _: True,
    }
    lines = [["captures", *READINGS, "replies within 1", "replies found / expected"]]
    for name, belongs in groups.items():
        mine = [one for one in scored if belongs(one)]
        strong = sum(one.strong for one in mine)
        close = sum(one.close for one in mine)
        totals = f"{sum(one.replies for one in mine)} / {sum(one.expected for one in mine)}"
        cells = [wilson(sum(one.matched[r] for one in mine), strong) for r in READINGS]
        lines.append([name, *cells, wilson(close, len(mine)), totals])
    lines.insert(1, ["-"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Score a corpus and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, metavar="CORPUS")
    sys.stdout.write(table(score_corpus(parser.parse_args().corpus)))


if __name__ == "__main__":
    main()
