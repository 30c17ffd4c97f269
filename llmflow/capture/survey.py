"""What is in a capture: links, tunnels, flows, damage, and what would bias the features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from llmflow.arrays import I64, U64, Bool
from llmflow.capture import lanes
from llmflow.capture.account import PacketAccount
from llmflow.capture.columns import PORTED, PacketColumns
from llmflow.capture.packet import Tunnel
from llmflow.capture.reader import BLOCK_BYTES, Progress, read_records
from llmflow.capture.records import Records

ETHERNET = 1
MTU = 1500  # IP bytes in an Ethernet frame, IEEE 802.3
_MERGE_ROWS = 1 << 18


@dataclass(slots=True)
class Conversations:
    """Distinct bidirectional 5-tuples, and which of them were seen in both directions."""

    rows: list[U64] = field(default_factory=list)
    waiting: int = 0

    def add(self, packets: PacketColumns) -> None:
        """Take in the packets of a block."""
        rows = _keys(packets)
        self.rows.append(rows)
        self.waiting += rows.shape[1]
        if self.waiting > _MERGE_ROWS:
            self._merge()

    def _merge(self) -> U64:
        if not self.rows:
            return np.zeros((5, 0), np.uint64)
        merged = _distinct(np.concatenate(self.rows, axis=1))
        self.rows, self.waiting = [merged], 0
        return merged

    def count(self) -> tuple[int, int, int]:
        """Flows, those of protocols with ports, and those of the latter seen in one direction."""
        rows = self._merge().copy()
        rows[4] >>= np.uint64(1)  # without the direction
        new = _changes(rows)
        ported = np.isin(rows[4][new] & np.uint64(0xFF), PORTED)
        directions = np.diff(np.append(np.flatnonzero(new), rows.shape[1]))
        return len(ported), int(ported.sum()), int((ported & (directions == 1)).sum())


def _changes(rows: U64) -> Bool:
    """Where a column of sorted rows differs from the one before."""
    new = np.ones(rows.shape[1], bool)
    new[1:] = (rows[:, 1:] != rows[:, :-1]).any(axis=0)
    return new


def _distinct(rows: U64) -> U64:
    rows = rows[:, np.lexsort(rows[::-1])]
    kept: U64 = rows[:, _changes(rows)]
    return kept


def _keys(packets: PacketColumns) -> U64:
    """Addresses, smaller end first; then ports, protocol and direction in one number."""
    p = packets
    lower = (p.src_lo < p.dst_lo) | ((p.src_lo == p.dst_lo) & (p.src_port <= p.dst_port))
    forward = (p.src_hi < p.dst_hi) | ((p.src_hi == p.dst_hi) & lower)
    ports = p.src_port.astype(np.uint64), p.dst_port.astype(np.uint64)
    first, second = np.where(forward, ports, ports[::-1])
    rest = (first << np.uint64(25)) | (second << np.uint64(9))
    rest |= (p.protocol.astype(np.uint64) << np.uint64(1)) | forward
    return _distinct(
        np.stack(
            [
                np.where(forward, p.src_hi, p.dst_hi),
                np.where(forward, p.src_lo, p.dst_lo),
                np.where(forward, p.dst_hi, p.src_hi),
                np.where(forward, p.dst_lo, p.src_lo),
                rest,
            ]
        )
    )


@dataclass(slots=True)
class Survey:
    """Counts over all packets of the captures.

    Parameters
    ----------
    account : PacketAccount
    first, last : int or None
        Earliest and latest time, ns since the epoch.
    cut : int
        Packets of which the capture holds fewer bytes than the wire had (snaplen).
    above_mtu : int
        IP packets longer than Ethernet carries, on Ethernet: put together by offload, or jumbo.
    late : int
        Packets with a time before that of the packet in front of them.
    step_back : int
        The largest such step, ns.
    tunnels : Counter of str
        IP packets by the innermost tunnel they lie in.
    with_ports : int
        Packets of the innermost flows with ports.
    outer, inner : Conversations
        By the first and by the innermost IP header.
    """

    account: PacketAccount = field(default_factory=PacketAccount)
    first: int | None = None
    last: int | None = None
    cut: int = 0
    above_mtu: int = 0
    late: int = 0
    step_back: int = 0
    tunnels: Counter[str] = field(default_factory=Counter)
    with_ports: int = 0
    outer: Conversations = field(default_factory=Conversations)
    inner: Conversations = field(default_factory=Conversations)
    _before: int | None = None

    def add(self, block: bytes, records: Records, position: int) -> None:
        """Decode and count a block's records."""
        self._clock(records.time[records.time >= 0])
        self.cut += int((records.captured < records.wire).sum())
        outer, _ = lanes.decode(block, records, position, "outer")
        inner, skipped = lanes.decode(block, records, position, "inner")
        self.account.ip_packets += len(inner)
        self.account.skipped.update(skipped)
        ethernet = records.link[outer.position - position] == ETHERNET
        self.above_mtu += int((ethernet & (outer.ip_bytes > MTU)).sum())
        codes, counts = np.unique(inner.tunnel, return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            if code != Tunnel.NONE:
                self.tunnels[Tunnel.NAMES[code]] += count
        self.with_ports += int(np.isin(inner.protocol, PORTED).sum())
        self.outer.add(outer)
        self.inner.add(inner)

    def _clock(self, times: I64) -> None:
        if not len(times):
            return
        first, last = int(times.min()), int(times.max())
        self.first = first if self.first is None else min(first, self.first)
        self.last = last if self.last is None else max(last, self.last)
        before = times[0] if self._before is None else self._before
        steps = np.diff(times, prepend=before)
        self.late += int((steps < 0).sum())
        self.step_back = max(self.step_back, -int(steps.min()))
        self._before = int(times[-1])


def survey(
    paths: Sequence[str | Path],
    *,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress = lambda _: None,
) -> Survey:
    """Read captures and count what is in them; parameters as for ``read_records``."""
    found = Survey()
    for part in read_records(paths, found.account, block_bytes=block_bytes, progress=progress):
        found.add(*part)
    return found
