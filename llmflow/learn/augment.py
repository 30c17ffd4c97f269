"""Copies of training segments as another tap would have seen them.

Where the uplink is hidden for one class more often than for the other, a model learns the tap
instead of the traffic. Three copies keep it from that, and from leaning on the request alone.
"""

from __future__ import annotations

import numpy as np

from llmflow.arrays import F64, Bool
from llmflow.features.extract import MODEL_FEATURES

_NAMES = list(MODEL_FEATURES)
_UPLINK = np.array([entry.needs_uplink for entry in MODEL_FEATURES.values()])
# What lies around a reply: other requests and turns ride along, or the tap came too late.
_AROUND = np.array([entry.group in ("request", "connection") for entry in MODEL_FEATURES.values()])
# What an uplink that only acknowledges looks like, apart from how often it does so.
_QUIET = {
    "up_payload_share": 0.0,
    "up_data_per_chunk": 0.0,
    "up_ack_share": 1.0,
    "up_byte_rate": 0.0,
    "up_data_rate": 0.0,
    "answer_share": 0.0,
    "byte_symmetry": 0.0,
    "packet_symmetry": 0.0,
    "up_burst_rate": 0.0,
}
_ACKS = (0.3, 1.0)  # acknowledgements per downlink data packet: delayed, or every packet


def one_way(values: F64) -> Bool:
    """Which segments come from captures that show no uplink."""
    missing: Bool = np.isnan(values[:, _NAMES.index("up_packet_share")])
    return missing


def hide_uplink(values: F64) -> F64:
    """The segments as a tap on the downlink alone sees them."""
    hidden = values.copy()
    hidden[:, _UPLINK] = np.nan
    return hidden


def hide_request(values: F64) -> F64:
    """The segments as if nobody had seen what was asked, nor the turns around."""
    hidden = values.copy()
    hidden[:, _AROUND] = np.nan
    return hidden


def acknowledge_only(values: F64, seed: int) -> F64:
    """The segments of one-way captures as if the client had only acknowledged.

    That is what API clients do while a reply streams.
    """
    quiet = values.copy()
    for name, value in _QUIET.items():
        quiet[:, _NAMES.index(name)] = value
    acks = np.random.default_rng(seed).uniform(*_ACKS, len(values))
    quiet[:, _NAMES.index("acks_per_packet")] = acks
    quiet[:, _NAMES.index("up_packet_share")] = acks / (1 + acks)
    return quiet
