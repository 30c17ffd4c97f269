"""What each number of the search for requests does: `turn_parameters.py CORPUS`.

One row per value tried, all others as they are. The columns are counts of `turns.py` on two-way
connections: strong episodes matched (`any`, `steady`) and connections with as many replies as
expected, give or take one; on half A, on half B, and on both with all uplink packets moved to 0.2 s
earlier, as at a tap that is so much farther from the server. The last column is the share of
requests found in made-up agent loops (`loops` below), whose like the corpus has not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmflow.capture.columns import TCP
from llmflow.capture.records import NANOSECOND
from llmflow.flows import requests
from llmflow.flows.batch import FlowBatch
from llmflow.flows.stream import FlowStream, with_turns
from tests.bench.turns import Scored, find, halves, score, truth
from tests.reference import Sent, Talk, make_batch

MS = NANOSECOND // 1000
TRIED: dict[str, list[int]] = {
    "LEAST_PAUSE": [at * MS for at in (100, 150, 200, 250, 300, 400, 1000)],
    "LEAST_WAIT": [at * MS for at in (100, 200, 250, 300, 400, 500, 1000)],
    "REST": [at * MS for at in (200, 300, 500)],
    "REST_PAUSE": [at * MS for at in (50, 100, 150, 300)],
    "LONG_SILENCE": [at * MS for at in (1000, 1500, 2000, 2500, 3000, 5000)],
    "NOTICE": [at * MS for at in (100, 200, 500, 1000)],
    "NOTICE_PACKETS": [0, 2, 4, 6, 8, 16, 32],
    "BURST_SILENCE": [at * MS for at in (200, 500, 1000, 2000)],
    "REQUEST_BYTES": [100, 200, 400, 800, 1600],
    "CONTROL_BYTES": [0, 40, 60],
}
FARTHER = 200 * MS
RTT = 30 * MS


def farther(batch: FlowBatch) -> FlowBatch:
    """The same flows where uplink packets are seen sooner, in relation to the answers."""
    p = batch.packets
    time = p.time - np.where(p.up, FARTHER, 0)
    flow = np.repeat(np.arange(len(batch.flows)), batch.flows.packets)
    order = np.lexsort((time, flow))
    return FlowBatch(batch.flows, replace(p.take(order), time=time[order]))


def loops(number: int) -> tuple[FlowBatch, list[list[int]]]:
    """Agent loops with the times of their requests.

    Twenty turns each: a request of 20 to 150 kB with WINDOW_UPDATEs and acknowledgements on the
    way, 0.5 s (median) until the first token, 4 to 80 tokens, and a tool that takes 0.25 s (mean).
    """
    rng = np.random.default_rng(3)
    talks, starts = [], []
    for _ in range(number):
        now, packets, begun = 0, [], []
        for _ in range(20):
            begun.append(now)
            for i in range(int(rng.integers(15, 107))):
                packets.append(Sent(now, up=True, payload=1400))
                size = 39 if i % 20 == 10 else 0
                packets.append(Sent(now + RTT, up=False, payload=size))
                now += MS // 3
            now += RTT + int(rng.lognormal(-0.7, 0.5) * NANOSECOND)
            for gap in rng.lognormal(-3.67, 0.753, int(rng.integers(4, 80))):
                packets.append(Sent(now, up=False, payload=250))
                now += int(gap * NANOSECOND)
            now += RTT + int(rng.exponential(0.25) * NANOSECOND)
        talks.append(Talk(TCP, sorted(packets, key=lambda sent: sent.ns)))
        starts.append(begun)
    return make_batch(talks), starts


def found_loops(batch: FlowBatch, starts: list[list[int]]) -> float:
    """The share of requests that begin a turn."""
    turns, first = with_turns(batch).turns, batch.packets.time[batch.flows.first]
    begun = batch.packets.time[turns.request] - first[turns.flow]
    hits = [set(begun[turns.flow == flow].tolist()) & set(at) for flow, at in enumerate(starts)]
    return sum(map(len, hits)) / sum(map(len, starts))


class Corpus:
    """The captures, read once."""

    def __init__(self, folder: Path) -> None:
        self._halves = halves(truth(folder))
        near = {
            name: list(FlowStream([str(folder / name)]).batches()) for name, _, _ in self._halves
        }
        far = {name: [farther(batch) for batch in batches] for name, batches in near.items()}
        self._batches = {False: near, True: far}

    def score(self, *, far: bool) -> Iterator[Scored]:
        """The two-way connections."""
        for name, half, connections in self._halves:
            found = find(map(with_turns, self._batches[far][name]))
            for key, episodes in connections.items():
                scored = score(episodes, found.get(key), half)
                if scored.two_way:
                    yield scored


def counts(scored: list[Scored]) -> str:
    """Matched episodes and replies."""
    matched = [str(sum(one.matched[name] for one in scored)) for name in ("any", "steady")]
    strong, close = sum(one.strong for one in scored), sum(one.close for one in scored)
    return f"{', '.join(matched)} of {strong}; {close} of {len(scored)}"


def main() -> None:
    """Try all values and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, metavar="CORPUS")
    corpus, made = Corpus(parser.parse_args().corpus), loops(20)
    sys.stdout.write("| number | value | half A | half B | 0.2 s farther | loops |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    for name, values in TRIED.items():
        shipped = getattr(requests, name)
        for value in values:
            setattr(requests, name, value)
            near, far = list(corpus.score(far=False)), list(corpus.score(far=True))
            cells = [
                name,
                f"{value / NANOSECOND} s" if value >= MS else str(value),
                *(counts([one for one in near if one.half == half]) for half in "AB"),
                counts(far),
                f"{found_loops(*made):.0%}",
            ]
            cells[1] += " (shipped)" if value == shipped else ""
            sys.stdout.write(f"| {' | '.join(cells)} |\n")
        setattr(requests, name, shipped)


if __name__ == "__main__":
    main()
