"""CPU seconds of each stage of `classify` on one capture, in one process: `stages.py CAPTURE`."""

from __future__ import annotations

import sys
import tempfile
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
from llmflow.report.tables import FLOW_SCHEMA, tabulate
from llmflow.report.writers import open_table

_STAGES = ("start", "read and decode", "assemble", "turns", "features", "scores", "tables", "write")


def main() -> None:
    """Run the line once and print where the CPU time went."""
    spent = dict.fromkeys(_STAGES, 0.0)
    clock = 0.0

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

    account, model = PacketAccount(), load_model()
    writer = open_table(tempfile.TemporaryFile(), "parquet", FLOW_SCHEMA)  # noqa: SIM115
    lap("start")
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
        results = tabulate(batch, turns, measure(replies), model, raw)
        lap("tables")
        writer.write(results.flows)
        lap("write")
    writer.close({})
    lap("write")
    for stage, seconds in spent.items():
        sys.stdout.write(f"{stage}\t{seconds:.3f}\n")


if __name__ == "__main__":
    main()
