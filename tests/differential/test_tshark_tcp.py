"""The TCP analysis against Wireshark's, packet by packet, and against the slow one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from llmflow.capture.account import PacketAccount
from llmflow.capture.columns import TCP
from llmflow.capture.reader import read_packets
from llmflow.flows.assemble import FlowAssembler
from llmflow.flows.batch import FlowBatch
from llmflow.flows.tcp import TcpFlag, analyse_tcp
from tests.builders import START, join
from tests.property.test_tcp import check
from tests.tcp_reference import Segment, analyse

LAB = Path(__file__).parents[2] / "pcaps" / "lab.pcap"
# Real stacks reorder and retransmit: what of it tshark and we tell apart is in docs/definitions.md.
CAPTURES = sorted(set((Path(__file__).parents[2] / "pcaps").glob("*.pcap*")) - {LAB})
Key = tuple[int, ...]

# What Wireshark calls a retransmission, and its other words for one.
KINDS = {
    "tcp.analysis.retransmission": TcpFlag.RETRANSMISSION,
    "tcp.analysis.fast_retransmission": TcpFlag.RETRANSMISSION,
    "tcp.analysis.spurious_retransmission": TcpFlag.RETRANSMISSION,
    "tcp.analysis.out_of_order": TcpFlag.OUT_OF_ORDER,
    "tcp.analysis.lost_segment": TcpFlag.HOLE,
    "tcp.analysis.duplicate_ack": TcpFlag.DUPLICATE_ACK,
    "tcp.analysis.window_update": TcpFlag.WINDOW_UPDATE,
    "tcp.analysis.zero_window": TcpFlag.ZERO_WINDOW,
    "tcp.analysis.keep_alive": TcpFlag.KEEP_ALIVE,
    "tcp.analysis.keep_alive_ack": TcpFlag.KEEP_ALIVE_ACK,
}
OWN = TcpFlag.FILL | TcpFlag.FAST | TcpFlag.TIMEOUT | TcpFlag.SPURIOUS  # no fields of Wireshark's
FIELDS = ("frame.time_epoch", "tcp.seq_raw", "tcp.ack_raw", "tcp.len", *KINDS)

pytestmark = pytest.mark.skipif(not CAPTURES, reason="no captures to compare on")


def flows_of(capture: Path) -> FlowBatch:
    assembler = FlowAssembler()
    batches: list[FlowBatch] = []
    for packets in read_packets([str(capture)], PacketAccount()):
        batches += assembler.push(packets)
    return join([*batches, *assembler.finish()])


def wireshark(capture: Path) -> list[tuple[Key, int]]:
    """Time, numbers and marks of all TCP packets."""
    fields = [part for field in FIELDS for part in ("-e", field)]
    run = ["tshark", "-n", "-r", str(capture), "-Y", "tcp", "-T", "fields", *fields]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    rows = []
    for line in done.stdout.splitlines():
        time, seq, ack, size, *found = line.split("\t")
        seconds, _, fraction = time.partition(".")
        ns = int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])
        marks = 0
        for text, bit in zip(found, KINDS.values(), strict=True):
            marks |= bit if text else 0
        rows.append(((ns, int(seq), int(ack), int(size)), marks))
    return sorted(rows)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_packets_have_wiresharks_marks(capture: Path) -> None:
    """Equal marks on all packets of the captures that come with the project."""
    batch = flows_of(capture)
    p = batch.packets
    rows = np.flatnonzero(p.protocol == TCP)
    numbers = (p.time[rows], p.seq[rows], p.ack[rows], p.payload[rows])
    marks = (analyse_tcp(batch).flags[rows] & (0xFFFF - OWN)).tolist()
    ours = zip(zip(*(column.tolist() for column in numbers), strict=True), marks, strict=True)
    assert sorted(ours) == wireshark(capture)


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_flows_are_as_the_state_machine_says(capture: Path) -> None:
    """Real sizes and times, at least of the shorter flows: the slow analysis counts bytes."""
    batch = flows_of(capture)
    p, found = batch.packets, analyse_tcp(batch)
    columns = (p.time - START, p.up, p.seq, p.payload, p.ack, p.flags, p.window)
    segments = [Segment(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]
    for flow, (first, count) in enumerate(
        zip(batch.flows.first.tolist(), batch.flows.packets.tolist(), strict=True)
    ):
        if found.flows.tcp[flow] and p.payload[first : first + count].sum() < 50_000:
            check(found, flow, first, analyse(segments[first : first + count]))
