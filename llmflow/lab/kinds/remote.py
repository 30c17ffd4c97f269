"""Look-alikes: work on other machines and files moved between them, over TLS, TCP or alike."""

from __future__ import annotations

from llmflow.lab.kinds._draw import Flow, Range
from llmflow.lab.kinds._rounds import RECEIPTS, Round, Rounds
from llmflow.lab.script import OTHER, Kind

SECRET = ("tls", "tcp")
CLEAR = ("tcp", "tls")


def _kind(name: str, transports: tuple[str, ...], *shapes: Round, rounds: Range = (1, 400)) -> Kind:
    return Kind(name, OTHER, "remote", transports, Rounds(*shapes, rounds=rounds, up=RECEIPTS))


KEYS = Flow((2, 9), (36, 60), ("lognormal", "on-off", "bursts"), ("fixed", "few"), echo=(36, 90))
TYPING = Round(
    reply=Flow((0.2, 1), (36, 100), ("poisson",), ("fixed",)),
    lasts=(2, 15),
    request=(36, 60),
    wait=(0.005, 0.1),
    think=(0.1, 3),
    up=(KEYS,),
)
OUTPUT = Round(
    reply=Flow((3, 50), (20, 1_500), ("bursts", "lognormal", "drift", "on-off")),
    lasts=(0.5, 40),
    request=(36, 90),
    wait=(0.02, 6),
    think=(0.5, 10),
    closing=(60, 200),
)
TAIL = Round(
    reply=Flow((1, 40), (60, 900), ("bursts", "poisson", "on-off", "lognormal")),
    lasts=(5, 120),
    request=(36, 120),
    wait=(0.01, 1),
    think=(0.5, 8),
)
PAGER = Round(
    reply=Flow((30, 60), (100, 2_500), ("bursts",)),
    count=(1, 4),
    request=(36, 40),
    wait=(0.005, 0.15),
    think=(0.1, 2),
)
WATCHED = Round(
    reply=Flow((0.7, 4), (200, 3_000), ("clock", "ticks"), ("varied", "mixed")),
    lasts=(8, 300),
    request=(36, 100),
    think=(0.5, 5),
)
POINTER = Flow((2, 40), (6, 60), ("on-off", "lognormal", "bursts"), ("fixed", "few"), chance=0.8)
SCREEN = Round(
    reply=Flow((3, 40), (20, 9_000), ("on-off", "bursts", "drift", "clock"), ("mixed", "varied")),
    lasts=(3, 300),
    request=(10, 300),
    wait=(0.01, 1),
    think=(0.2, 5),
    opening=(4_000, 60_000),
    up=(POINTER,),
)
# The viewer asks for each update: one request up per picture down.
SCREEN_ASKED = Round(
    reply=Flow((0.5, 3), (60, 4_000), ("poisson", "bursts")),
    lasts=(8, 300),
    request=(10, 30),
    up=(Flow((3, 40), (10, 20), ("clock", "on-off", "drift"), ("fixed",), echo=(40, 6_000)),),
)
CAMERA = Round(
    reply=Flow((5, 30), (300, 12_000), ("clock", "ticks"), ("mixed", "varied", "few")),
    lasts=(8, 600),
    request=(100, 600),
    wait=(0.02, 2),
    up=(Flow((0.1, 1), (30, 120), ("clock",), ("fixed",)),),
)
SWARM = Round(
    reply=Flow((2, 60), (20, 16_000), ("bursts", "on-off", "drift"), ("mixed", "few", "fixed")),
    lasts=(8, 600),
    request=(68, 200),
    wait=(0.02, 2),
    up=(Flow((2, 60), (5, 4_000), ("bursts", "on-off", "poisson"), ("mixed", "few", "fixed")),),
)
HAVES = Round(
    reply=Flow((2, 40), (9, 60), ("poisson", "bursts", "drift"), ("fixed", "few")),
    lasts=(8, 600),
    request=(68, 200),
    opening=(60, 3_000),
    up=(Flow((0.5, 20), (9, 40), chance=0.8),),
)
# "Counting objects" on the sideband, then the pack with progress in between.
COUNTING = Round(
    reply=Flow((4, 30), (40, 120), ("clock", "ticks", "drift", "bursts"), ("fixed", "varied")),
    lasts=(1.5, 20),
    request=(100, 20_000),
    wait=(0.1, 4),
    think=(0.1, 6),
    also=(Flow((5, 50), (400, 8_000), ("bursts", "drift", "lognormal"), chance=0.5),),
    closing=(40, 300),
)
REFERENCES = Round(
    reply=Flow((20, 60), (200, 8_000), ("bursts",)),
    count=(1, 20),
    request=(60, 600),
    wait=(0.02, 1),
    think=(0.05, 2),
    often=0.4,
)
COPY = Round(
    reply=Flow((3, 60), (40, 9_000), ("bursts", "lognormal", "drift"), ("mixed", "varied")),
    lasts=(1.5, 60),
    request=(100, 30_000),
    wait=(0.05, 3),
    think=(0.1, 6),
    up=(Flow((0.5, 30), (10, 600), ("bursts", "poisson", "clock"), chance=0.8),),
)
DUMP = Round(
    reply=Flow((10, 60), (400, 9_000), ("clock", "lognormal", "bursts"), ("varied", "fixed")),
    lasts=(1, 40),
    request=(30, 300),
    wait=(0.02, 5),
    think=(0.02, 3),
)
PUPPET = Round(
    reply=Flow((1, 20), (60, 900), ("lognormal", "bursts", "poisson", "drift")),
    lasts=(1.5, 60),
    request=(2_000, 100_000),
    wait=(0.2, 8),
    think=(0.5, 15),
    closing=(200, 3_000),
)
DEBUGGER = Round(
    reply=Flow((4, 60), (60, 2_500), ("bursts", "lognormal", "poisson")),
    count=(2, 30),
    request=(80, 600),
    wait=(0.005, 2),
    think=(0.1, 5),
)
COMPLETION = Round(
    reply=Flow((5, 60), (150, 6_000), ("bursts", "lognormal"), ("varied", "mixed", "growing")),
    count=(1, 12),
    request=(200, 8_000),
    wait=(0.02, 1.5),
    think=(0.1, 4),
)
SERIAL = Round(
    reply=Flow((2, 60), (20, 250), ("clock", "lognormal", "bursts", "drift"), ("varied", "few")),
    lasts=(2, 90),
    request=(1, 120),
    wait=(0.01, 3),
    think=(0.3, 10),
)

KINDS = (
    _kind("shell", SECRET, TYPING, OUTPUT, PAGER),
    _kind("shell-build", SECRET, OUTPUT),
    _kind("shell-tail", SECRET, TAIL),
    _kind("shell-monitor", SECRET, WATCHED),
    _kind("remote-desktop", SECRET, SCREEN),
    _kind("remote-screen", CLEAR, SCREEN_ASKED),
    _kind("camera-rtsp", CLEAR, CAMERA),
    _kind("swarm-pieces", CLEAR, SWARM),
    _kind("swarm-haves", CLEAR, HAVES),
    _kind("git-fetch", SECRET, COUNTING, REFERENCES),
    _kind("file-sync", SECRET, COPY),
    _kind("database-dump", CLEAR, DUMP),
    _kind("provisioning", SECRET, PUPPET),
    _kind("debugger", CLEAR, DEBUGGER),
    _kind("language-server", CLEAR, COMPLETION, rounds=(4, 400)),
    _kind("serial-console", CLEAR, SERIAL),
)
