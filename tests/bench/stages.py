"""CPU time of each stage and peak memory of the line on one capture: `make bench CAPTURE=…`.

Shares of one run can be compared; seconds of different runs on a shared machine cannot.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator

from llmflow.capture.account import PacketAccount
from llmflow.capture.columns import PacketColumns
from llmflow.capture.reader import read_packets
from llmflow.features.extract import extract
from llmflow.features.segments import cut_segments
from llmflow.flows.assemble import FlowAssembler
from llmflow.flows.batch import FlowBatch
from llmflow.flows.turns import find_data, find_turns
from llmflow.learn.model import load_model
from llmflow.quality.experience import measure
from llmflow.report.tables import tabulate

_STAGES = ("read and decode", "assemble", "turns", "features", "scores", "tables")


def main() -> None:
    """Run the line once and print where the CPU time went."""
    spent = dict.fromkeys(_STAGES, 0.0)
    clock = time.process_time()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.process_time()
        spent[stage] += now - clock
        clock = now

    def packets() -> Iterator[PacketColumns]:
        for block in read_packets(sys.argv[1:], account):
            lap("read and decode")
            yield block

    def batches() -> Iterator[FlowBatch]:
        assembler = FlowAssembler()
        for block in packets():
            yield from assembler.push(block)
            lap("assemble")
        lap("read and decode")
        yield from assembler.finish()

    account, model, flows = PacketAccount(), load_model(), 0
    clock = time.process_time()
    for batch in batches():
        lap("assemble")
        data = find_data(batch)
        turns = find_turns(batch, data)
        lap("turns")
        replies = cut_segments(batch, data, turns, "turn")
        features = extract(replies)
        lap("features")
        raw = model.score_turns(features, len(turns))
        lap("scores")
        flows += tabulate(batch, turns, measure(replies), model, raw).flows.num_rows
        lap("tables")
    total = sum(spent.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"{account.packets} packets, {flows} flows, peak {peak:.0f} MB\n")
    for stage, seconds in [*spent.items(), ("all", total)]:
        rate = account.packets / seconds / 1e6 if seconds else 0.0
        share = 100 * seconds / total
        sys.stdout.write(f"{stage:16} {seconds:8.3f} s {share:6.1f} % {rate:8.3f} Mpps\n")


if __name__ == "__main__":
    main()
