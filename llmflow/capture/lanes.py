"""Records to packet columns: what is common at once, the rest packet by packet."""

from __future__ import annotations

from collections import Counter

import numpy as np

from llmflow.capture import dpkt_lane, numpy_lane
from llmflow.capture.columns import PacketColumns
from llmflow.capture.dpkt_lane import Tunnels
from llmflow.capture.records import Records


def decode(
    block: bytes, records: Records, position: int, tunnels: Tunnels = "inner"
) -> tuple[PacketColumns, Counter[str]]:
    """Decode a block's records; parameters and result as :func:`llmflow.capture.dpkt_lane.decode`.

    The vectorised lane takes what it knows for sure; both give the same columns.
    """
    parts, skipped, rest = numpy_lane.decode(block, records, position, tunnels)
    if len(rest):
        others, reasons = dpkt_lane.decode(block, records.take(rest), 0, tunnels)
        skipped.update(reasons)
        others.position[:] = rest[others.position] + position
        parts.append(others)
    packets = PacketColumns.concat(parts)
    if len(parts) > 1:
        packets = packets.take(np.argsort(packets.position, kind="stable"))
    return packets, skipped
