"""The same traffic under other conditions: variants of a batch of flows, packet by packet.

They serve twice: to measure what a model loses where taps, links or servers are different, and to
train it on such conditions. Servers may pad (``pad``), send several tokens at once (``batch2``,
``batch5``), be slower or faster (``pace``), or write larger or smaller pieces (``resize``). Links
and taps lose packets (``loss``), delay them (``jitter``), merge frames (``merge``), miss the
beginning (``midflow``), show one direction (``oneway``) or some packets only (``sample``).

Packets that bring nothing new (retransmissions) are left out where sizes change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import I64, Bool, row_sums, run_counts, run_mask, run_starts
from llmflow.capture.columns import ACK, TCP
from llmflow.capture.records import NANOSECOND
from llmflow.flows.batch import FlowBatch, FlowPackets
from llmflow.flows.data import Data, find_data
from llmflow.flows.episodes import CHUNK_GAP

Rng = np.random.Generator
AS_IT_IS = ""

LOSS = 0.02
JITTER = 20_000_000  # ns
PADDING = 256  # bytes per packet at most
MERGE_GAP, MERGED_BYTES = (
    1_000_000,
    65_000,
)  # ns between frames that an interface merges; of a frame
SAMPLED = 10  # one packet of so many
SEGMENT = 1448  # bytes of a full TCP segment with timestamps
PACE, RESIZE = 2.5, 2.0  # factors up to, and down to one over
START = 0.2, 0.6  # part of its life that a flow has behind it when the tap opens
ACKNOWLEDGED = 2  # downlink packets per acknowledgement
ACK_DELAY = 100_000  # ns


def perturb(batch: FlowBatch, variant: str, seed: tuple[int, ...]) -> FlowBatch:
    """A variant of a batch: the same flows, in the same order, each with a packet at least.

    Parameters
    ----------
    batch : FlowBatch
    variant : str
        A key of ``VARIANTS``, or the empty text for the batch itself.
    seed : tuple of int
        Same seed, same bits.
    """
    if variant == AS_IT_IS:
        return batch
    return VARIANTS[variant](batch, np.random.default_rng(seed))


def _flow(batch: FlowBatch) -> I64:
    flow: I64 = np.repeat(np.arange(len(batch.flows)), batch.flows.packets)
    return flow


def _assemble(batch: FlowBatch, packets: FlowPackets, flow: I64) -> FlowBatch:
    """The flows of a batch with other packets, which are put in order of time."""
    order = np.lexsort((packets.time, flow))
    counts = np.bincount(flow, minlength=len(batch.flows))
    flows = replace(batch.flows, first=np.cumsum(counts) - counts, packets=counts)
    return FlowBatch(flows, packets.take(order), batch.names, batch.texts)


def _keep(batch: FlowBatch, wanted: Bool) -> FlowBatch:
    """Only some packets; a flow that would lose all keeps its first."""
    flow = _flow(batch)
    lost = row_sums(wanted, flow, len(batch.flows)) == 0
    kept = wanted.copy()
    kept[batch.flows.first[lost]] = True
    return _assemble(batch, batch.packets.take(kept), flow[kept])


def _one_way(batch: FlowBatch, rng: Rng) -> FlowBatch:  # noqa: ARG001
    return _keep(batch, ~batch.packets.up)


def _mid_flow(batch: FlowBatch, rng: Rng) -> FlowBatch:
    f, time = batch.flows, batch.packets.time
    life = time[f.first + f.packets - 1] - time[f.first]
    opens = time[f.first] + (life * rng.uniform(*START, len(f))).astype(np.int64)
    return _keep(batch, time >= opens[_flow(batch)])


def _loss(batch: FlowBatch, rng: Rng) -> FlowBatch:
    return _keep(batch, rng.random(len(batch.packets)) >= LOSS)


def _sample(batch: FlowBatch, rng: Rng) -> FlowBatch:
    place = np.arange(len(batch.packets)) + rng.integers(SAMPLED)
    return _keep(batch, place % SAMPLED == 0)


def _jitter(batch: FlowBatch, rng: Rng) -> FlowBatch:
    p, flow = batch.packets, _flow(batch)
    since = p.time - p.time[batch.flows.first][flow]
    since += rng.integers(JITTER, size=len(p))
    # Delays vary, and directions keep their order: running maxima in each.
    line = flow * 2 + p.up
    order = np.argsort(line, kind="stable")
    span = int(since.max(initial=0)) + 1
    later = np.maximum.accumulate(since[order] + line[order] * span) - line[order] * span
    since[order] = later
    return _assemble(batch, replace(p, time=p.time[batch.flows.first][flow] + since), flow)


def _pace(batch: FlowBatch, rng: Rng) -> FlowBatch:
    p, flow = batch.packets, _flow(batch)
    factor = PACE ** rng.uniform(-1, 1, len(batch.flows))
    begin = p.time[batch.flows.first][flow]
    time = begin + ((p.time - begin) * factor[flow]).astype(np.int64)
    return _assemble(batch, replace(p, time=time), flow)


def _with_sizes(batch: FlowBatch, data: Data, size: I64, wanted: Bool | None = None) -> FlowBatch:
    """Other sizes for the packets with new data, none for some; sequence numbers follow."""
    p, fresh = batch.packets, (data.up | data.down) & (size > 0)
    kept = fresh | (p.payload == 0) | data.ack
    size = np.where(fresh, size, 0)
    line = data.flow * 2 + p.up
    order = np.argsort(line, kind="stable")
    before = np.cumsum(size[order]) - size[order]
    starts = run_starts(line[order])
    before -= np.repeat(before[starts], run_counts(starts, len(p)))
    seq = np.empty(len(p), np.int64)
    seq[order] = before
    payload = np.where(fresh, size, p.payload)
    resized = replace(
        p,
        payload=payload,
        ip_bytes=p.ip_bytes + payload - p.payload,
        seq=np.where(fresh & (p.protocol == TCP), seq, p.seq).astype(np.uint32),
    )
    return _keep(replace(batch, packets=resized), kept if wanted is None else kept & wanted)


def _pad(batch: FlowBatch, rng: Rng) -> FlowBatch:
    data = find_data(batch)
    return _with_sizes(
        batch,
        data,
        data.new + np.where(data.down, rng.integers(PADDING + 1, size=len(data.new)), 0),
    )


def _resize(batch: FlowBatch, rng: Rng) -> FlowBatch:
    data = find_data(batch)
    factor = RESIZE ** rng.uniform(-1, 1, len(batch.flows))
    # Full packets stay full: they are parts of something larger.
    scaled = np.clip(data.new * factor[data.flow], 1, SEGMENT).astype(np.int64)
    small = data.down & (data.new < SEGMENT // 2)
    return _with_sizes(batch, data, np.where(small, scaled, data.new))


def _gather(batch: FlowBatch, data: Data, rows: I64, group: I64, most: int) -> FlowBatch:
    """Send groups of downlink data packets as one, at the time of its last; acknowledged once.

    ``rows`` are packets of the batch, ``group`` their groups (not decreasing). A group is cut into
    packets of ``most`` bytes, or of its largest one if that is larger.
    """
    p, new = batch.packets, data.new[rows]
    starts = run_starts(group)
    counts = run_counts(starts, len(group))
    total, largest = (np.repeat(by.reduceat(new, starts), counts) for by in (np.add, np.maximum))
    largest = np.maximum(most, largest)
    place = np.arange(len(rows)) - np.repeat(starts, counts)
    size, time = data.new.copy(), p.time.copy()
    size[rows] = np.clip(total - place * largest, 0, largest)
    time[rows] = np.repeat(p.time[rows[starts + counts - 1]], counts)
    # Acknowledgements follow what they acknowledge.
    latest = np.maximum.accumulate(np.where(data.down, np.arange(len(p)), -1))
    behind = np.flatnonzero(data.ack & (latest >= 0))
    behind = behind[data.flow[latest[behind]] == data.flow[behind]]
    time[behind] += time[latest[behind]] - p.time[latest[behind]]
    moved = replace(batch, packets=replace(p, time=time))
    return _with_sizes(moved, data, size, _first_acks(data, rows, group))


def _first_acks(data: Data, rows: I64, group: I64) -> Bool:
    """All packets but the second and later acknowledgements of a group."""
    of = np.full(len(data.new), -1, np.int64)
    of[rows] = group
    place = np.arange(len(of))
    latest = np.maximum.accumulate(np.where(of >= 0, place, -1))
    acks = np.flatnonzero(data.ack & (latest >= 0))
    acks = acks[data.flow[latest[acks]] == data.flow[acks]]
    wanted = np.ones(len(of), np.bool_)
    wanted[acks[~run_mask(of[latest[acks]])]] = False
    return wanted


def _batch(times: int) -> Callable[[FlowBatch, Rng], FlowBatch]:
    def gather(batch: FlowBatch, rng: Rng) -> FlowBatch:  # noqa: ARG001
        """Groups of ``times`` chunks, unless a silence lies in between."""
        data = find_data(batch)
        rows = np.flatnonzero(data.down)
        if not len(rows):
            return batch
        flow, time = data.flow[rows], batch.packets.time[rows]
        gap = np.diff(time, prepend=time[:1])
        breaks = run_mask(flow) | (gap > NANOSECOND)
        run = np.cumsum(breaks) - 1
        begins = breaks | (gap > CHUNK_GAP)
        chunk = np.cumsum(begins) - 1
        number = chunk - chunk[np.flatnonzero(breaks)][run]  # of the chunk in its run
        group = np.cumsum(run_mask(run, number // times)) - 1
        return _gather(batch, data, rows, group, SEGMENT)

    return gather


def _merge(batch: FlowBatch, rng: Rng) -> FlowBatch:  # noqa: ARG001
    data = find_data(batch)
    rows = np.flatnonzero(data.down & (batch.packets.protocol == TCP))
    if not len(rows):
        return batch
    time = batch.packets.time[rows]
    apart = np.diff(time, prepend=time[:1]) > MERGE_GAP
    group = np.cumsum(apart | run_mask(data.flow[rows])) - 1
    return _gather(batch, data, rows, group, MERGED_BYTES)


def _acknowledge(batch: FlowBatch, rng: Rng) -> FlowBatch:  # noqa: ARG001
    """Flows that show no uplink get acknowledgements, as of a client that does nothing else."""
    p, flow = batch.packets, _flow(batch)
    blind = row_sums(p.up, flow, len(batch.flows)) == 0
    down = np.flatnonzero(blind[flow] & (p.payload > 0))
    starts = run_starts(flow[down])
    place = np.arange(len(down)) - np.repeat(starts, run_counts(starts, len(down)))
    chosen = down[place % ACKNOWLEDGED == ACKNOWLEDGED - 1]
    empty = np.zeros(len(chosen), np.int64)
    columns: dict[str, NDArray[Any]] = {
        "time": p.time[chosen] + ACK_DELAY, "up": empty == 0, "payload": empty,
        "flags": empty + ACK, "hint": empty, "ip_bytes": empty + 52,
    }  # fmt: skip
    acks = p.take(chosen)
    acks = replace(acks, **{k: v.astype(getattr(p, k).dtype) for k, v in columns.items()})
    return _assemble(batch, FlowPackets.concat([p, acks]), np.concatenate([flow, flow[chosen]]))


VARIANTS: dict[str, Callable[[FlowBatch, Rng], FlowBatch]] = {
    "pad": _pad,
    "batch2": _batch(2),
    "batch5": _batch(5),
    "pace": _pace,
    "resize": _resize,
    "loss": _loss,
    "jitter": _jitter,
    "merge": _merge,
    "midflow": _mid_flow,
    "oneway": _one_way,
    "sample": _sample,
    "acks": _acknowledge,
}
