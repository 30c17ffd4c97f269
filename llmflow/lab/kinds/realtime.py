"""Look-alikes: datagrams on a clock, from games and calls to machines, and their kin over TCP.

One exchange each: the first datagram of the client, then both go on until the end.
"""

from __future__ import annotations

from llmflow.lab.kinds._draw import Flow, Range
from llmflow.lab.kinds._rounds import Round, Rounds
from llmflow.lab.script import OTHER, Kind

DATAGRAM = 1_200  # bytes that pass everywhere
UDP = ("udp",)
STEADY = ("clock", "ticks")


def _sent(
    rate: Range,
    size: Range,
    clocks: tuple[str, ...] = STEADY,
    sizes: tuple[str, ...] = ("fixed", "varied", "few", "mixed", "quantised"),
    chance: float = 1.0,
    echo: Range | None = None,
) -> Flow:
    return Flow(rate, size, clocks, sizes, chance, 12_000, DATAGRAM, echo, even=True)


def _kind(
    name: str,
    down: Flow,
    *up: Flow,
    also: tuple[Flow, ...] = (),
    transports: tuple[str, ...] = UDP,
    wait: Range = (0.01, 2),
) -> Kind:
    shape = Round(
        reply=down,
        lasts=(10, 600),
        request=(20, 1_000),
        wait=wait,
        also=also,
        up=up,
    )
    return Kind(name, OTHER, "realtime", transports, Rounds(shape, rounds=(1, 1)))


VOICE = ("clock", "on-off")  # silence is sent, or not
FRAMES = ("clock", "ticks", "drift")

KINDS = (
    _kind("game-fast", _sent((20, 60), (60, 700)), _sent((20, 60), (30, 120))),
    _kind(
        "game-slow",
        _sent((4, 20), (20, 500), ("clock", "ticks", "bursts")),
        _sent((2, 20), (20, 90)),
    ),
    _kind(
        "game-lobby",
        _sent((1, 8), (20, 900), ("poisson", "bursts", "clock")),
        _sent((0.5, 4), (20, 200)),
    ),
    _kind("call", _sent((20, 50), (30, 180), VOICE), _sent((20, 50), (30, 180), VOICE)),
    _kind(
        "call-one-way",
        _sent((20, 50), (20, 180), VOICE),
        _sent((0.2, 5), (20, 90), ("clock", "on-off")),
    ),
    _kind(
        "conference",
        _sent((8, 30), (200, 6_000), FRAMES, ("mixed", "varied")),
        _sent((8, 30), (200, 4_000), FRAMES, ("mixed", "varied"), chance=0.7),
        _sent((20, 50), (40, 160), VOICE),
        also=(_sent((20, 50), (40, 160), VOICE),),
    ),
    _kind(
        "screen-share",
        _sent((2, 15), (100, 6_000), ("on-off", "bursts", "drift"), ("mixed", "varied")),
        _sent((0.5, 10), (20, 120), ("clock", "bursts")),
    ),
    _kind(
        "name-lookups",
        _sent((0.7, 20), (20, 500), ("bursts", "poisson", "on-off")),
        _sent((0.7, 20), (30, 80), ("bursts", "poisson"), echo=(20, 500)),
    ),
    _kind(
        "live-video",
        _sent((10, 40), (300, 5_000), FRAMES, ("mixed", "varied")),
        _sent((1, 20), (20, 60), ("clock",), ("fixed",)),
    ),
    _kind(
        "live-contribution",
        _sent((2, 50), (16, 60), ("clock", "ticks", "bursts"), ("fixed", "few")),
        _sent((10, 40), (300, 5_000), FRAMES, ("mixed", "varied")),
    ),
    _kind(
        "live-video-tcp",
        _sent((10, 40), (300, 8_000), FRAMES, ("mixed", "varied")),
        _sent((0.2, 2), (16, 60), ("clock",), ("fixed",)),
        transports=("tcp", "tls"),
    ),
    _kind(
        "observed-sensor",
        _sent((0.8, 10), (20, 200), ("clock", "ticks", "poisson")),
        _sent((0.2, 10), (4, 20), ("clock", "ticks"), ("fixed",), chance=0.6),
    ),
    _kind(
        "phasor",
        _sent((10, 60), (20, 400), ("clock",), ("fixed", "few")),
        _sent((0.03, 0.5), (18, 40), ("clock",), ("fixed",), chance=0.5),
        transports=("udp", "tcp"),
    ),
    _kind(
        "plant-polling",
        _sent((0.5, 3), (10, 260), ("poisson", "clock")),
        _sent((1, 20), (12, 40), ("clock", "ticks"), ("fixed", "few"), echo=(12, 260)),
        transports=("tcp", "udp"),
    ),
    _kind(
        "flight-telemetry",
        _sent((5, 60), (20, 300), ("clock", "ticks", "bursts"), ("few", "mixed")),
        _sent((1, 10), (20, 60), ("clock",), ("fixed",)),
    ),
    _kind(
        "data-channel",
        _sent((2, 60), (20, 900), ("lognormal", "bursts", "clock", "on-off", "drift")),
        _sent((0.5, 40), (20, 600), ("clock", "on-off", "bursts"), chance=0.8),
    ),
    _kind(
        "tunnel",
        _sent((2, 50), (80, 1_200), ("on-off", "bursts", "drift", "lognormal"), ("few", "mixed")),
        _sent((1, 40), (80, 900), ("on-off", "bursts", "drift"), ("few", "mixed")),
    ),
    _kind(
        "music-cast",
        _sent((5, 60), (200, 1_200), ("clock", "drift"), ("fixed", "varied")),
        _sent((0.3, 10), (12, 60), ("clock",), ("fixed",)),
    ),
)
