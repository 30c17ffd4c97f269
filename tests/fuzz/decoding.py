"""Fuzz target: any bytes as packets of any link type. Both lanes: equal columns, a full account."""

from __future__ import annotations

import sys
from typing import Literal

import atheris
import numpy as np

with atheris.instrument_imports(include=["llmflow"]):
    from llmflow.capture import dpkt_lane, lanes
    from llmflow.capture.records import NO_TIME, Records

LINKS = [*sorted(dpkt_lane.LINKS), 147]  # 147 is nobody's
MODES: tuple[Literal["inner", "outer"], ...] = ("inner", "outer")


def one(data: bytes) -> None:
    """The first byte chooses the link type, the second where the snaplen cuts; a frame follows."""
    if len(data) < 2:
        return
    link, cut, size = LINKS[data[0] % len(LINKS)], data[1], len(data) - 2
    kept = min(cut, size)
    rows = [
        (2, size, size, 10**18, link),
        (2, kept, size, 10**18, link),  # cut by the snaplen
        (2, kept, kept, 10**18, link),  # never longer
        (2, size, kept, 10**18, link),  # longer than on the wire
        (2 + kept, size - kept, size, 10**18, 1),
        (2, size, size, NO_TIME, link),
    ]
    records = Records.from_rows(rows)
    for tunnels in MODES:
        slow, slow_skipped = dpkt_lane.decode(data, records, 7, tunnels)
        fast, fast_skipped = lanes.decode(data, records, 7, tunnels)
        assert +slow_skipped == +fast_skipped, (slow_skipped, fast_skipped)
        assert len(records) == len(slow) + slow_skipped.total()
        for name, a, b in zip(slow.names(), slow.columns(), fast.columns(), strict=True):
            assert a.dtype == b.dtype, name
            assert np.array_equal(a, b), name
        assert (slow.payload >= 0).all()
        assert (slow.ip_bytes >= slow.payload).all()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
