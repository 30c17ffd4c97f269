"""What leaves the flow room: batches of finished flows with their packets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from llmflow.arrays import I64, U8, U16, U32, U64, Bool, ragged_index
from llmflow.capture.columns import Columns
from llmflow.capture.records import NANOSECOND
from llmflow.flows.keys import Endpoint, Paired, choose

# Memory in bytes, as measured (docs/performance.md): of the process without any packet in waiting,
# with one batch of finished flows at work; and per packet in waiting, while they are sorted.
_FIXED, _PER_PACKET = 260 << 20, 96
_LEAST_HELD = 1 << 18


class EndReason:
    """IPFIX flowEndReason (information element 136, RFC 5102)."""

    IDLE, ACTIVE, END_OF_FLOW, FORCED, LACK_OF_RESOURCES = 1, 2, 3, 4, 5
    NAMES = ("", "idle", "active", "end-of-flow", "forced", "lack-of-resources")


@dataclass(frozen=True, slots=True)
class FlowOptions:
    """When flows end: times in seconds, and what may be held of flows that have not ended.

    Parameters
    ----------
    idle_timeout : float
        Silence after which a flow has ended.
    active_timeout : float
        Length after which a flow is cut into slices that share one ``flow_id``.
    closed_timeout : float
        Silence after which a flow that showed FIN or RST has ended.
    reorder : float
        How late a packet may be behind the newest one.
    memory : int
        Bytes that the process may take. Where the packets of open flows would need more, the flows
        that began first are closed (``LACK_OF_RESOURCES``).
    """

    idle_timeout: float = 120.0
    active_timeout: float = 1800.0
    closed_timeout: float = 10.0
    reorder: float = 10.0
    memory: int = 4 << 30

    @property
    def most_packets(self) -> int:
        """Packets that may be held, new ones included."""
        return max(_LEAST_HELD, (self.memory - _FIXED) // _PER_PACKET)

    def ns(self, name: str) -> int:
        """One of the times, in nanoseconds."""
        seconds: float = getattr(self, name)
        return round(seconds * NANOSECOND)


@dataclass(frozen=True, slots=True)
class FlowColumns(Paired):
    """One row per flow, or per slice of a long flow.

    ``first`` and ``packets`` say where the flow's packets lie in the batch. Endpoint ``a`` is the
    smaller one; ``client_is_a`` and ``basis`` say who began and why we believe so; ``origin`` is
    the start of the flow's first slice, ns; ``ended`` the time at which its end was known.
    """

    first: I64
    packets: I64
    a_high: U64
    a_low: U64
    a_port: U16
    b_high: U64
    b_low: U64
    b_port: U16
    protocol: U8
    client_is_a: Bool
    basis: U8
    origin: I64
    slice_no: I64
    ended: I64
    end_reason: U8

    @property
    def client(self) -> Endpoint:
        """The end that began."""
        return choose(self.client_is_a, self.a, self.b)

    @property
    def server(self) -> Endpoint:
        """The other end."""
        return choose(self.client_is_a, self.b, self.a)


@dataclass(frozen=True, slots=True)
class FlowPackets(Columns):
    """The packets of a batch's flows: flow by flow, each in order of time."""

    time: I64
    up: Bool
    protocol: U8
    flags: U8
    hint: U8
    ip_bytes: I64
    payload: I64
    seq: U32
    ack: U32
    window: U16


@dataclass(frozen=True, slots=True)
class Named(Columns):
    """What was said of flows in clear: places in ``texts``, 0 where nothing is known.

    ``provider`` has said its own name; ``provider_weak`` is only guessed, from a name that is
    shared with much else or from a DNS answer.
    """

    sni: I64
    alpn: I64
    ech: I64
    ja4: I64
    provider: I64
    provider_weak: I64

    @classmethod
    def nothing(cls, count: int) -> Named:
        """No names."""
        return cls(*np.zeros((len(cls.names()), count), np.int64))


@dataclass(frozen=True, slots=True)
class FlowBatch:
    """Finished flows with their packets, and their names if these were looked for."""

    flows: FlowColumns
    packets: FlowPackets
    names: Named | None = None
    texts: tuple[str, ...] = ("",)

    def pick(self, flows: I64) -> tuple[FlowBatch, I64]:
        """Some of the flows as a batch of their own, and the rows that its packets have here."""
        picked = self.flows.take(flows)
        rows = ragged_index(picked.first, picked.packets)
        first = np.cumsum(picked.packets) - picked.packets
        return FlowBatch(
            replace(picked, first=first),
            self.packets.take(rows),
            self.names and self.names.take(flows),
            self.texts,
        ), rows
