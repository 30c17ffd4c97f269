"""Packets that come out of order, by less than the reorder window."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmflow.features.extract import extract
from llmflow.features.segments import cut_segments
from llmflow.flows.batch import FlowBatch, FlowOptions
from llmflow.flows.stream import with_turns
from tests.builders import SECOND, START, Packet, assemble
from tests.property.test_assemble import ENDS, FLAGS, PROTOCOLS

OPTIONS = FlowOptions(idle_timeout=12, active_timeout=30, closed_timeout=4, reorder=3)

Row = tuple[int, tuple[str, int, str, int], int, int, int, int]
specs = st.lists(
    st.tuples(
        st.integers(1, 2 * SECOND),  # after the packet before: no two at one time
        st.sampled_from(ENDS),
        st.sampled_from(PROTOCOLS),
        st.sampled_from(FLAGS),
        st.sampled_from([0, 60, 300, 1400]),
        st.integers(0, OPTIONS.ns("reorder") - 1),  # how late it comes
    ),
    min_size=1,
    max_size=60,
)


def tables(batch: FlowBatch) -> list[tuple[str, list[object]]]:
    step = with_turns(batch)
    features = extract(cut_segments(batch, step.data, step.turns, "turn"))
    found = []
    for table in (batch.flows, batch.packets, step.turns, features):
        found += [
            (name, column.tolist())
            for name, column in zip(table.names(), table.columns(), strict=True)
        ]
    return found


@settings(max_examples=150)
@given(specs, st.sampled_from([1, 7, 1 << 18]))
def test_late_packets_change_nothing(rows: list[Row], hold: int) -> None:
    """Any order inside the window gives the flows, turns and features of the order of time."""
    times = accumulate((gap for gap, *_ in rows), initial=START)
    next(times)
    packets = [
        Packet(time, *ends, protocol, flags, payload, seq=100 * i)
        for i, (time, (_, ends, protocol, flags, payload, _)) in enumerate(
            zip(times, rows, strict=True)
        )
    ]
    late = sorted(range(len(rows)), key=lambda i: packets[i].time + rows[i][-1])
    in_order, shuffled = (
        assemble(packets, OPTIONS),
        assemble([packets[i] for i in late], OPTIONS, hold=hold),
    )
    np.testing.assert_equal(tables(shuffled), tables(in_order))
