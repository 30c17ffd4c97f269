"""Look-alikes: streams of remote procedure calls, one message per write."""

from __future__ import annotations

from llmflow.lab.kinds._draw import Flow, Range
from llmflow.lab.kinds._rounds import RECEIPTS, Round, Rounds
from llmflow.lab.script import OTHER, Kind

GRPC = ("grpc",)


def _rpc(name: str, *shapes: Round, rounds: Range = (1, 400)) -> Kind:
    return Kind(f"grpc-{name}", OTHER, "rpc", GRPC, Rounds(*shapes, rounds=rounds, up=RECEIPTS))


# Pods and keys change in waves: a deployment, a lease that is renewed, then nothing.
WATCH = Round(
    reply=Flow((0.8, 30), (80, 6_000), ("bursts", "on-off", "poisson", "drift")),
    lasts=(8, 600),
    request=(20, 400),
    wait=(0.002, 1),
    think=(0.1, 5),
    opening=(500, 60_000),
    also=(Flow((0.2, 2), (30, 120), ("clock",), ("fixed",), chance=0.4),),
)
WATCH_LEASES = Round(
    reply=Flow((2, 20), (20, 200), ("clock", "ticks", "bursts"), ("fixed", "few")),
    lasts=(8, 600),
    request=(20, 200),
    up=(Flow((0.1, 5), (10, 40), ("clock",), ("fixed",), echo=(20, 60)),),
)
EXPORT = Round(
    reply=Flow((1, 20), (2, 200), ("clock", "ticks", "bursts"), ("fixed", "few", "varied")),
    lasts=(8, 600),
    request=(200, 8_000),
    wait=(0.005, 0.5),
    up=(Flow((1, 20), (200, 12_000), ("clock", "ticks", "bursts")),),
)
PULL = Round(
    reply=Flow((1, 50), (80, 4_000)),
    lasts=(5, 600),
    request=(40, 300),
    wait=(0.005, 3),
    think=(0.1, 6),
    up=(Flow((0.5, 30), (15, 300), ("clock", "bursts", "poisson"), chance=0.8),),
)
REFLECTION = Round(
    reply=Flow((1, 60), (100, 8_000), ("lognormal",)),
    count=(1, 6),
    request=(10, 80),
    wait=(0.002, 0.2),
    think=(0.002, 0.6),
)
CHATTER = Round(
    reply=Flow((0.5, 20), (20, 1_500)),
    lasts=(1, 60),
    request=(10, 2_000),
    think=(0.1, 6),
    up=(Flow((1, 30), (10, 1_500), echo=(10, 900)),),
)
OPERATION = Round(
    reply=Flow((1.5, 30), (20, 500), ("clock", "ticks", "lognormal", "drift", "bursts")),
    lasts=(1.5, 60),
    request=(100, 100_000),
    wait=(0.1, 10),
    think=(1, 25),
    closing=(50, 20_000),
)
SCAN = Round(
    reply=Flow((4, 40), (60, 8_000), sizes=("varied", "fixed", "quantised", "growing")),
    lasts=(0.5, 30),
    request=(30, 4_000),
    wait=(0.02, 8),
    think=(0.5, 15),
)
TAIL = Round(
    reply=Flow((2, 40), (60, 900), ("lognormal", "bursts", "poisson", "on-off")),
    lasts=(3, 90),
    request=(40, 600),
    think=(0.5, 10),
)
HEALTH = Round(
    reply=Flow((0.8, 6), (4, 30), ("clock", "ticks"), ("fixed",)),
    lasts=(10, 600),
    request=(5, 60),
)
LOCATION = Round(
    reply=Flow((1, 20), (20, 250), ("clock", "ticks", "drift"), ("fixed", "quantised", "varied")),
    lasts=(5, 600),
    request=(20, 300),
    up=(Flow((0.2, 10), (30, 120), ("clock", "ticks"), chance=0.5),),
)
# A control plane: the configuration, acknowledged by the client, then what changes of it.
DISCOVERY = Round(
    reply=Flow((0.8, 10), (200, 12_000), ("bursts", "poisson", "on-off")),
    lasts=(10, 600),
    request=(100, 2_000),
    opening=(4_000, 60_000),
    up=(Flow((0.5, 8), (60, 400), ("bursts", "poisson")),),
)

KINDS = (
    _rpc("watch", WATCH),
    _rpc("watch-leases", WATCH_LEASES),
    _rpc("telemetry", EXPORT),
    _rpc("pull", PULL),
    _rpc("reflection", REFLECTION, rounds=(8, 100)),
    _rpc("chatter", CHATTER),
    _rpc("operation", OPERATION),
    _rpc("scan", SCAN),
    _rpc("log-tail", TAIL),
    _rpc("health", HEALTH),
    _rpc("location", LOCATION),
    _rpc("discovery", DISCOVERY),
)
