"""What the uplink does while the reply comes: acknowledge, upload, or talk as much."""

from __future__ import annotations

import numpy as np

from llmflow.arrays import F64, row_sums
from llmflow.features.registry import feature
from llmflow.features.segments import Segments
from llmflow.features.sizes import FULL_PACKET
from llmflow.features.statistics import null_below, row_max

_UP = "uplink packets"
_DATA = "packets with new data"
_ONE_WAY = "the flow shows no uplink packet"


@feature(unit="1", group="uplink", counts="all packets", null=_ONE_WAY)
def up_packet_share(s: Segments) -> F64:
    """Uplink packets divided by uplink packets and downlink data packets."""
    return s.if_two_way(s.up.packets / (s.up.packets + s.down.packets))


@feature(unit="1", group="uplink", counts=_DATA, null=_ONE_WAY)
def up_payload_share(s: Segments) -> F64:
    """New uplink bytes divided by new bytes both ways."""
    return s.if_two_way(s.up.bytes / (s.up.bytes + s.down.bytes))


@feature(unit="1", group="uplink", counts=_DATA, null=_ONE_WAY)
def up_data_per_chunk(s: Segments) -> F64:
    """Uplink data packets divided by downlink chunks."""
    return s.if_two_way(s.up.data / s.down.chunks)


@feature(unit="1", group="uplink", counts=_UP, null=_ONE_WAY + ", or none in the segment")
def up_ack_share(s: Segments) -> F64:
    """Share of the uplink packets that only acknowledge."""
    return s.if_two_way(row_sums(s.up.ack, s.up.of, len(s)) / s.up.packets)


@feature(unit="1", group="uplink", counts=_UP, null=_ONE_WAY)
def acks_per_packet(s: Segments) -> F64:
    """Uplink packets that only acknowledge, divided by downlink data packets."""
    return s.if_two_way(row_sums(s.up.ack, s.up.of, len(s)) / s.down.packets)


@feature(unit="bytes/s", group="uplink", counts=_UP, null=_ONE_WAY + ", or a single chunk")
def up_byte_rate(s: Segments) -> F64:
    """New uplink bytes divided by the duration."""
    return s.if_two_way(null_below(s.up.bytes / s.down.duration, s.down.gaps, 1))


@feature(unit="1/s", group="uplink", counts=_UP, null=_ONE_WAY + ", or a single chunk")
def up_data_rate(s: Segments) -> F64:
    """Uplink data packets divided by the duration."""
    return s.if_two_way(null_below(s.up.data / s.down.duration, s.down.gaps, 1))


@feature(unit="1", group="uplink", counts=_DATA, null=_ONE_WAY)
def answer_share(s: Segments) -> F64:
    """Downlink data right behind uplink data (an echo, a call's answer), per chunk."""
    return s.if_two_way(s.answers / s.down.chunks)


@feature(unit="1", group="uplink", counts=_UP, null=_ONE_WAY + ", or no uplink data")
def up_full_share(s: Segments) -> F64:
    """Share of the uplink data packets with at least 1,200 new bytes: uploads, not keystrokes."""
    return s.if_two_way(row_sums(s.up.size >= FULL_PACKET, s.up.of, len(s)) / s.up.data)


@feature(unit="1", group="exchange", counts=_DATA, null=_ONE_WAY)
def byte_symmetry(s: Segments) -> F64:
    """New bytes of the lesser direction divided by those of the other."""
    return s.if_two_way(np.minimum(s.up.bytes, s.down.bytes) / np.maximum(s.up.bytes, s.down.bytes))


@feature(unit="1", group="exchange", counts=_DATA, null=_ONE_WAY)
def packet_symmetry(s: Segments) -> F64:
    """Data packets of the lesser direction divided by those of the other."""
    return s.if_two_way(
        np.minimum(s.up.data, s.down.packets) / np.maximum(s.up.data, s.down.packets)
    )


@feature(unit="1/s", group="exchange", counts=_UP, null=_ONE_WAY + ", or a single chunk")
def up_burst_rate(s: Segments) -> F64:
    """Uplink bursts divided by the duration."""
    bursts = np.bincount(s.bursts.of, minlength=len(s))
    return s.if_two_way(null_below(bursts / s.down.duration, s.down.gaps, 1))


@feature(unit="bytes", group="exchange", counts=_UP, null=_ONE_WAY + ", or no uplink data")
def up_burst_max(s: Segments) -> F64:
    """New bytes of the largest uplink burst."""
    return null_below(row_max(s.bursts.size, s.bursts.of, len(s)), s.up.data, 1)
