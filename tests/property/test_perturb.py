"""Variants of traffic: what they may change, and what they must leave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmflow.arrays import I64, row_sums, run_mask
from llmflow.flows.batch import FlowBatch, FlowOptions
from llmflow.flows.data import find_data
from llmflow.flows.episodes import CHUNK_GAP
from llmflow.flows.stream import FlowStream
from llmflow.learn.perturb import JITTER, PADDING, VARIANTS, perturb

PCAPS = Path(__file__).parents[2] / "pcaps"
NAMES = ("mixed", "quic-drip", "voip", "ssh-typing", "burst-pause")


@pytest.fixture(scope="module", params=NAMES)
def batch(request: pytest.FixtureRequest) -> FlowBatch:
    stream = FlowStream([str(PCAPS / f"{request.param}.pcap")], FlowOptions())
    return next(iter(stream.assemble())).batch


def down_bytes(batch: FlowBatch) -> I64:
    """New downlink bytes of each flow."""
    data = find_data(batch)
    sums = row_sums(np.where(data.down, data.new, 0), data.flow, len(batch.flows))
    return sums.astype(np.int64)


@pytest.mark.parametrize("variant", VARIANTS)
def test_flows_stay_flows(batch: FlowBatch, variant: str) -> None:
    """Same flows in the same order, none empty, packets in order of time; same seed, same bits."""
    changed = perturb(batch, variant, (1, 2))
    f, p = changed.flows, changed.packets
    assert np.array_equal(f.a_port, batch.flows.a_port)
    assert (f.packets > 0).all()
    assert np.array_equal(f.first, np.cumsum(f.packets) - f.packets)
    assert len(p) == f.packets.sum()
    flow = np.repeat(np.arange(len(f)), f.packets)
    assert (np.diff(p.time)[np.diff(flow) == 0] >= 0).all()
    again = perturb(batch, variant, (1, 2))
    for one, other in zip(p.columns(), again.packets.columns(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("variant", ["batch2", "batch5", "merge", "pace", "acks"])
def test_the_bytes_of_the_server_stay(batch: FlowBatch, variant: str) -> None:
    """What is only sent at other times, or in other pieces, is as much as before."""
    assert np.array_equal(down_bytes(perturb(batch, variant, (0,))), down_bytes(batch))


def test_padding_is_bounded(batch: FlowBatch) -> None:
    """Every packet grows by at most the padding, and the flow with it."""
    data = find_data(batch)
    most = row_sums(data.down, data.flow, len(batch.flows)) * PADDING
    grown = down_bytes(perturb(batch, "pad", (3,))) - down_bytes(batch)
    assert (grown >= 0).all()
    assert (grown <= most).all()
    assert grown.sum() > 0


def test_a_one_way_tap_sees_no_uplink(batch: FlowBatch) -> None:
    """Only flows that have no downlink at all keep a packet of the uplink."""
    changed = perturb(batch, "oneway", (0,))
    flow = np.repeat(np.arange(len(changed.flows)), changed.flows.packets)
    seen = row_sums(~changed.packets.up, flow, len(changed.flows)) > 0
    assert not changed.packets.up[seen[flow]].any()


def test_jitter_keeps_each_direction_in_order(batch: FlowBatch) -> None:
    """Payloads of a direction arrive in the order they were sent, at most so much later."""
    changed = perturb(batch, "jitter", (5,))
    for flow, (first, count) in enumerate(
        zip(batch.flows.first.tolist(), batch.flows.packets.tolist(), strict=True)
    ):
        start = int(changed.flows.first[flow])
        for up in (True, False):
            one, other = (
                p.take(slice(at, at + count))
                for p, at in ((batch.packets, first), (changed.packets, start))
            )
            was, now = one.take(one.up == up), other.take(other.up == up)
            assert np.array_equal(was.payload, now.payload)
            assert ((now.time - was.time) < JITTER).all()


def test_acknowledgements_come_to_one_way_flows_only(batch: FlowBatch) -> None:
    """Flows that show an uplink are left alone."""
    assert len(perturb(batch, "acks", (0,)).packets) == len(batch.packets)
    blind = perturb(batch, "oneway", (0,))
    assert perturb(blind, "acks", (0,)).packets.up.sum() > blind.packets.up.sum()


def test_batching_thins_the_chunks_out(batch: FlowBatch) -> None:
    """A stream comes in a fifth of its chunks, but for those that silences cut off."""
    before, after = find_chunks(batch), find_chunks(perturb(batch, "batch5", (0,)))
    assert (after <= before).all()
    long = before >= 40
    assert (after[long] < 0.6 * before[long]).all()


def find_chunks(batch: FlowBatch) -> I64:
    """Runs of downlink data packets at most a chunk gap apart, of each flow."""
    data = find_data(batch)
    rows = np.flatnonzero(data.down)
    time, flow = batch.packets.time[rows], data.flow[rows]
    apart = np.diff(time, prepend=time[:1]) > CHUNK_GAP
    begins = apart | run_mask(flow)
    return np.bincount(flow[begins], minlength=len(batch.flows))
