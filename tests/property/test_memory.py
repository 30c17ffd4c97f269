"""Bounded memory: what happens to flows where the packets of open ones would take too much."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from llmflow.cli.options import LEAST_MEMORY
from llmflow.flows import batch as module
from llmflow.flows.assemble import FlowAssembler
from llmflow.flows.batch import EndReason, FlowBatch, FlowOptions
from tests.builders import SECOND, START, Packet, assemble, packet_columns
from tests.property.test_assemble import CUTS, PACKETS

MOST = 12  # packets that may be held
OPTIONS = FlowOptions(idle_timeout=1e5, active_timeout=1e5, memory=0)


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_HELD", MOST)


def packet(second: float, port: int) -> Packet:
    return Packet(START + round(second * SECOND), "192.0.2.1", port, "198.51.100.1", 443)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PACKETS, CUTS)
def test_cuts_do_not_matter_where_memory_is_scarce(packets: list[Packet], cuts: list[int]) -> None:
    """Which flows are closed depends on the packets alone; none of these is lost or doubled."""
    inside = [cut for cut in cuts if cut < len(packets)]
    whole, other = assemble(packets, OPTIONS), assemble(packets, OPTIONS, cuts=inside)
    for one, two in ((whole.flows, other.flows), (whole.packets, other.packets)):
        for name, a, b in zip(one.names(), one.columns(), two.columns(), strict=True):
            assert a.tolist() == b.tolist(), name
    assert sorted(whole.packets.seq.tolist()) == list(range(len(packets)))


def test_the_flows_that_began_first_are_closed() -> None:
    """The oldest leave with the IPFIX reason; a later packet of such a flow begins a new one."""
    # Six flows, one after the other; then the first speaks again.
    packets = [packet(20 * i + j / 10, 50000 + i) for i in range(6) for j in range(4)]
    packets.append(packet(200, 50000))
    batch = assemble(packets, OPTIONS)
    lack = batch.flows.end_reason == EndReason.LACK_OF_RESOURCES
    ports = np.maximum(batch.flows.a_port, batch.flows.b_port)
    closed, open_ = ports[lack].tolist(), ports[~lack].tolist()
    assert closed == sorted(closed)
    assert closed[0] == 50000
    assert 50000 in open_
    assert max(closed) < max(open_)


def test_no_more_is_held_than_allowed() -> None:
    """With flows that never end, the rows in waiting stay below the limit all the time."""
    assembler = FlowAssembler(OPTIONS)
    batches: list[FlowBatch] = []
    for i in range(300):
        batches += assembler.push(packet_columns([packet(i, 40000 + i % 90)], i))
        kept = 0 if assembler._kept is None else len(assembler._kept)
        assert kept + assembler._new <= MOST
    batches += assembler.finish()
    assert assembler.closed_early > 0
    assert sum(len(batch.packets) for batch in batches) == 300


def test_memory_is_packets() -> None:
    """The option counts bytes of the process: a fixed part, and so much per packet."""
    assert FlowOptions(memory=1 << 30).most_packets < FlowOptions(memory=2 << 30).most_packets
    assert FlowOptions(memory=0).most_packets == MOST
    assert FlowOptions(memory=LEAST_MEMORY).most_packets > MOST
