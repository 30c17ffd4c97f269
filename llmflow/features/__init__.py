"""Turns to feature columns: the registry of definitions, and the numpy kernels behind them.

Only size, time and direction enter, and only relative to the segment or its flow: no address,
port, name, TTL, sequence number or absolute time.
"""

# Features stand in the registry in the order of these modules, whichever is asked for first.
from llmflow.features import cadence, sizes, uplink, connection  # noqa: F401, I001
