"""Where flows begin and end: timeouts, closing, port reuse, slices, disorder."""

from __future__ import annotations

import numpy as np
import pytest

from llmflow.capture.columns import ACK, FIN, RST, SYN, UDP, PacketColumns
from llmflow.flows import waiting as module
from llmflow.flows.assemble import FlowAssembler
from llmflow.flows.batch import EndReason, FlowBatch, FlowOptions
from llmflow.flows.direction import Basis
from tests.builders import CLIENT, SECOND, SERVER, START, Packet, assemble, packet_columns

OPTIONS = FlowOptions(idle_timeout=60, active_timeout=300, closed_timeout=10, reorder=5)
IDLE, ACTIVE, CLOSED, FORCED = (
    EndReason.IDLE,
    EndReason.ACTIVE,
    EndReason.END_OF_FLOW,
    EndReason.FORCED,
)


def up(second: float, flags: int = ACK, *, sport: int = 50000, **rest: int) -> Packet:
    """A packet of the client."""
    time = START + round(second * SECOND)
    return Packet(time, CLIENT, sport, SERVER, 443, flags=flags, **rest)


def down(second: float, flags: int = ACK, *, sport: int = 50000, **rest: int) -> Packet:
    """A packet of the server."""
    time = START + round(second * SECOND)
    return Packet(time, SERVER, 443, CLIENT, sport, flags=flags, **rest)


def late(second: float) -> Packet:
    """A packet of another flow that moves the clock."""
    return up(second, sport=60000)


def sizes(batch: FlowBatch, sport: int = 50000) -> list[int]:
    """Packets of each flow of a client port, in order of their start."""
    flows = batch.flows
    mine = np.flatnonzero(flows.client.port == sport)
    order = mine[np.lexsort((flows.slice_no[mine], flows.origin[mine]))]
    return [int(n) for n in flows.packets[order]]


def reasons(batch: FlowBatch, sport: int = 50000) -> list[int]:
    """End reason of each flow of a client port, in order of their start."""
    flows = batch.flows
    mine = np.flatnonzero(flows.client.port == sport)
    order = mine[np.lexsort((flows.slice_no[mine], flows.origin[mine]))]
    return [int(n) for n in flows.end_reason[order]]


@pytest.mark.parametrize(("gap", "flows"), [(59.999, [2]), (60, [1, 1]), (60.001, [1, 1])])
def test_idle_timeout_cuts(gap: float, flows: list[int]) -> None:
    """Silence of the idle timeout ends a flow, a nanosecond less does not."""
    assert sizes(assemble([up(0), down(gap)], OPTIONS)) == flows


@pytest.mark.parametrize("flag", [FIN | ACK, RST])
@pytest.mark.parametrize(("gap", "flows"), [(9.999, [2]), (10, [1, 1])])
def test_quiet_after_closing_cuts(flag: int, gap: float, flows: list[int]) -> None:
    """After FIN or RST a short silence ends the flow."""
    assert sizes(assemble([up(0, flag), down(gap)], OPTIONS)) == flows


def test_quiet_alone_does_not_cut() -> None:
    """The short silence means nothing while the connection is open."""
    assert sizes(assemble([up(0), down(30), up(50)], OPTIONS)) == [3]


def test_quiet_cuts_though_the_fin_lies_further_back() -> None:
    """FIN, FIN, last ACK, then silence: the silence counts from the last packet."""
    packets = [up(0), up(1, FIN | ACK), down(8, FIN | ACK), up(17), down(28)]
    assert sizes(assemble(packets, OPTIONS)) == [4, 1]


def test_udp_has_no_closing() -> None:
    """Flag bits close TCP flows only."""
    packets = [p._replace(protocol=UDP) for p in (up(0, FIN), down(20))]
    assert sizes(assemble(packets, OPTIONS)) == [2]


def test_reused_port_begins_a_new_flow() -> None:
    """A SYN after FIN is a new connection at once."""
    packets = [up(0, SYN), up(1, FIN | ACK), up(2, SYN), down(3, SYN | ACK), up(4)]
    batch = assemble(packets, OPTIONS)
    assert sizes(batch) == [2, 3]
    assert reasons(batch)[0] == CLOSED
    assert batch.flows.ended[batch.flows.packets == 2].tolist() == [START + 2 * SECOND]


def test_repeated_syn_does_not_cut() -> None:
    """A retransmitted SYN belongs to the connection it opens."""
    assert sizes(assemble([up(0, SYN), up(1, SYN), up(3, SYN), down(4, SYN | ACK)], OPTIONS)) == [4]


def test_repeated_syn_of_a_reused_port_does_not_cut_again() -> None:
    """What closed before the first SYN of a connection does not count for its second one."""
    packets = [up(0), up(1, RST), up(2, SYN), up(3, SYN), down(4, SYN | ACK)]
    assert sizes(assemble(packets, OPTIONS)) == [2, 3]


def test_syn_ack_does_not_begin_a_flow() -> None:
    """Only the opening SYN does, not its answer."""
    assert sizes(assemble([up(0, FIN), down(1, SYN | ACK)], OPTIONS)) == [2]


def test_protocols_and_ends_make_the_key() -> None:
    """Both directions are one flow; another port, address or protocol is another."""
    packets = [
        up(0),
        down(0.1),
        up(0.2, sport=50001),
        up(0.3)._replace(protocol=UDP),
        up(0.4)._replace(dst="198.51.100.21"),
        up(0.5)._replace(src="2001:db8::10", dst="2001:db8::20"),
    ]
    assert sorted(assemble(packets, OPTIONS).flows.packets.tolist()) == [1, 1, 1, 1, 2]


def test_flow_of_an_end_with_itself() -> None:
    """Loopback traffic between equal ends is one flow, all of it uplink."""
    packets = [Packet(START + i, CLIENT, 7, CLIENT, 7) for i in range(3)]
    batch = assemble(packets, OPTIONS)
    assert batch.flows.packets.tolist() == [3]
    assert batch.packets.up.all()


def test_end_reasons() -> None:
    """Silence, closing, the active timeout and the end of the capture are told apart."""
    packets = [
        *(up(second, sport=50001) for second in (0, 50, 100, 150, 200, 250, 299, 310)),
        up(0, sport=50002),
        up(0, FIN, sport=50003),
        up(390, sport=50004),
        late(400),
    ]
    packets.sort(key=lambda p: p.time)
    batch = assemble(packets, OPTIONS)
    found = {port: reasons(batch, port) for port in (50001, 50002, 50003, 50004)}
    assert found == {50001: [ACTIVE, IDLE], 50002: [IDLE], 50003: [CLOSED], 50004: [FORCED]}


def test_closed_flow_at_the_end_of_the_capture_is_no_forced_end() -> None:
    """A flow that showed FIN has ended by itself, though the silence after it was not seen."""
    assert reasons(assemble([up(0), up(1, FIN)], OPTIONS)) == [CLOSED]


def test_slice_with_a_successor_ends_by_the_active_timeout() -> None:
    """A slice that another follows was ended by the active timeout, even near the capture's end."""
    batch = assemble([up(second) for second in range(0, 304, 2)], OPTIONS)
    assert sizes(batch) == [150, 2]
    assert reasons(batch) == [ACTIVE, FORCED]


def test_flow_with_a_successor_ends_by_its_silence() -> None:
    """Silence that the capture shows in full ended the flow, even near the capture's end."""
    batch = assemble([up(0), up(61)], OPTIONS)
    assert sizes(batch) == [1, 1]
    assert reasons(batch) == [IDLE, FORCED]


@pytest.mark.parametrize("hold", [1, 4, 1 << 18])
def test_slices_keep_the_flow(hold: int) -> None:
    """Slices share origin and client, are numbered, and hold every packet once."""
    packets = [down(0, SYN | ACK), *(down(second, seq=second) for second in range(1, 1000))]
    batch = assemble(packets, OPTIONS, hold=hold, cuts=range(1, 1000, 7))
    flows = batch.flows
    assert sizes(batch) == [300, 300, 300, 100]
    assert sorted(flows.slice_no.tolist()) == [0, 1, 2, 3]
    assert set(flows.origin.tolist()) == {START}
    assert set(flows.client.port.tolist()) == {50000}
    assert set(flows.basis.tolist()) == {Basis.SYN}
    assert sorted(batch.packets.seq.tolist()) == list(range(1000))
    assert not batch.packets.up.any()


@pytest.mark.parametrize("hold", [1, 1 << 18])
def test_slice_numbers_count_silent_slices(hold: int) -> None:
    """Slices lie on a grid from the flow's start: a silent one leaves a gap in the numbers."""
    options = FlowOptions(idle_timeout=100, active_timeout=30, closed_timeout=10, reorder=5)
    packets = [up(0), up(95), up(130)]
    batch = assemble(packets, options, hold=hold, cuts=[1, 2])
    assert sorted(batch.flows.slice_no.tolist()) == [0, 3, 4]
    assert set(batch.flows.origin.tolist()) == {START}


@pytest.mark.parametrize("hold", [1, 1 << 18])
def test_fin_in_an_earlier_slice_still_counts(hold: int) -> None:
    """A SYN in a later slice begins a new flow if an earlier slice showed FIN."""
    options = FlowOptions(idle_timeout=100, active_timeout=30, closed_timeout=50, reorder=5)
    packets = [up(0), up(1, FIN), down(40), late(70), up(80, SYN), late(200)]
    batch = assemble(packets, options, hold=hold, cuts=range(1, 6))
    origins = batch.flows.origin[batch.flows.client.port == 50000]
    assert sorted(origins.tolist()) == [START, START, START + 80 * SECOND]


def test_small_disorder_is_sorted_by_time() -> None:
    """Packets that come late by no more than the reorder window are put in order of time."""
    packets = [up(0, seq=0), up(4, seq=2), up(1, seq=1), up(9, seq=4), up(4, seq=3)]
    batch = assemble(packets, OPTIONS)
    assert len(batch.flows) == 1
    assert batch.packets.seq.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("hold", [1, 1 << 18])
def test_flow_waits_for_late_packets(hold: int) -> None:
    """Silence counts up to the clock less the reorder window: a late packet may still fill it."""
    packets = [up(0), late(64.9), up(59.9), late(130)]
    assert sizes(assemble(packets, OPTIONS, hold=hold, cuts=[1, 2, 3])) == [2]


def test_late_syn_still_names_the_client() -> None:
    """The client is found from the packets in order of time, not of arrival."""
    batch = assemble([down(1), up(0, SYN)], OPTIONS)
    assert batch.flows.client.port.tolist() == [50000]
    assert batch.flows.basis.tolist() == [Basis.SYN]
    assert batch.flows.origin.tolist() == [START]


@pytest.mark.parametrize("cuts", [[], [2], [1, 2, 3]])
def test_large_step_back_is_a_new_epoch(cuts: list[int]) -> None:
    """A clock set back by more than the reorder window ends all flows there."""
    packets = [up(1000), up(1001), up(900), up(901)]
    batch = assemble(packets, OPTIONS, hold=1, cuts=cuts)
    assert batch.flows.packets.tolist() == [2, 2]
    assert batch.flows.origin.tolist() == [START + 1000 * SECOND, START + 900 * SECOND]
    assert batch.flows.end_reason.tolist() == [FORCED, FORCED]


def test_step_back_by_the_reorder_window_is_none() -> None:
    """Just as late as allowed is late, not a new epoch."""
    assert sizes(assemble([up(10), up(5)], OPTIONS)) == [2]
    assert sizes(assemble([up(10), up(4.999999999)], OPTIONS)) == [1, 1]


def test_flows_leave_while_the_capture_goes_on() -> None:
    """Memory follows the open flows: what has ended is handed out before the end of the input."""
    assembler = FlowAssembler(OPTIONS, hold=1)
    assert list(assembler.push(packet_columns([up(0), down(1)]))) == []
    out = list(assembler.push(packet_columns([late(100)], 2)))
    assert [batch.flows.packets.tolist() for batch in out] == [[2]]
    rest = list(assembler.finish())
    assert [batch.flows.packets.tolist() for batch in rest] == [[1]]
    assert list(assembler.finish()) == []


@pytest.mark.parametrize("cuts", [[], [1], [5], [1, 2, 3, 4, 5]])
def test_order_of_flows_that_end_at_one_time(cuts: list[int]) -> None:
    """Flows that end together leave in the order of their starts, wherever the input was cut.

    The last packet is as late as it may be: the other flow's end was already known when it came.
    """
    packets = [
        up(0, sport=50001),
        up(7, RST, sport=50002),  # over at 17, ten seconds later
        up(10, FIN, sport=50001),
        up(22, sport=50003),
        up(22, sport=50004),
        up(17, SYN, sport=50001),  # ends the first flow at 17
    ]
    flows = assemble(packets, OPTIONS, hold=1, cuts=cuts).flows
    at_17 = flows.take(flows.ended == START + 17 * SECOND)
    assert at_17.client.port.tolist() == [50001, 50002]


def test_nothing_in_nothing_out() -> None:
    """An empty input has no flows."""
    assembler = FlowAssembler()
    assert list(assembler.push(PacketColumns.from_rows([]))) == []
    assert list(assembler.finish()) == []


def test_flows_with_one_hash_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash sorts, the key decides: two flows that share a hash stay two."""

    def one(*columns: np.ndarray[tuple[int], np.dtype[np.unsignedinteger]]) -> object:
        return np.zeros(len(columns[0]), np.uint64)

    packets = [
        up(second, sport=port, seq=port) for second in range(0, 50, 5) for port in (50001, 50002)
    ]
    expected = assemble(packets, OPTIONS)
    monkeypatch.setattr(module, "key_hash", one)
    batch = assemble(packets, OPTIONS)
    assert sorted(batch.flows.packets.tolist()) == sorted(expected.flows.packets.tolist())
    assert sorted(batch.flows.ended.tolist()) == sorted(expected.flows.ended.tolist())
    assert len(set(batch.packets.seq[: batch.flows.packets[0]].tolist())) == 1
