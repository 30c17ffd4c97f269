"""Look-alikes: message protocols of their own over TLS or TCP, from brokers to trading."""

from __future__ import annotations

from llmflow.lab.kinds._draw import Flow, Range
from llmflow.lab.kinds._rounds import RECEIPTS, Round, Rounds
from llmflow.lab.script import OTHER, Kind

SECRET = ("tls", "tcp")
CLEAR = ("tcp", "tls")
BEAT = Flow((0.03, 1), (2, 60), ("clock",), ("fixed",), chance=0.6)


def _kind(name: str, transports: tuple[str, ...], *shapes: Round, rounds: Range = (1, 400)) -> Kind:
    return Kind(name, OTHER, "messaging", transports, Rounds(*shapes, rounds=rounds, up=RECEIPTS))


TELEMETRY = Round(
    reply=Flow((0.7, 40), (20, 900), ("clock", "ticks", "poisson", "bursts")),
    lasts=(8, 600),
    request=(20, 200),
    wait=(0.005, 0.5),
    also=(BEAT,),
    up=(BEAT, Flow((0.5, 20), (20, 600), ("clock", "ticks"), chance=0.5, echo=(4, 4.5))),
)
COMMANDS = Round(
    reply=Flow((1, 15), (40, 400), ("lognormal", "clock", "bursts")),
    lasts=(1, 20),
    request=(30, 1_500),
    wait=(0.05, 4),
    think=(0.5, 12),
    up=(BEAT,),
)
ROOM = Round(
    reply=Flow((0.7, 10), (40, 500), ("poisson", "on-off", "bursts", "drift")),
    lasts=(2, 120),
    request=(20, 400),
    wait=(0.02, 2),
    think=(0.5, 12),
    up=(BEAT,),
)
# Idle until mail comes, then the client fetches it.
IDLE = Round(
    reply=Flow((0.1, 2), (20, 120), ("bursts", "poisson")),
    count=(1, 5),
    request=(6, 30),
    wait=(0.05, 8),
    think=(0.02, 0.5),
)
FETCH = Round(
    reply=Flow((8, 60), (60, 6_000), ("bursts", "lognormal", "drift")),
    count=(2, 60),
    request=(20, 120),
    wait=(0.01, 1),
    think=(0.01, 1),
)
SUBSCRIBED = Round(
    reply=Flow((1, 60), (30, 2_000)),
    lasts=(5, 600),
    request=(20, 300),
    wait=(0.001, 0.5),
    up=(BEAT,),
)
MONITORED = Round(
    reply=Flow((4, 60), (20, 200), ("poisson", "bursts", "lognormal", "drift"), ("few", "varied")),
    lasts=(3, 600),
    request=(9, 40),
    wait=(0.001, 0.1),
)
CURSOR = Round(
    reply=Flow((3, 50), (60, 9_000), ("clock", "lognormal", "bursts"), ("varied", "fixed", "few")),
    lasts=(0.5, 40),
    request=(60, 4_000),
    wait=(0.02, 8),
    think=(0.2, 12),
    closing=(12, 40),
)
CURSOR_PAGES = Round(
    reply=Flow((20, 60), (200, 9_000), ("bursts", "lognormal")),
    count=(1, 8),
    request=(20, 90),
    wait=(0.002, 0.5),
    think=(0.01, 0.7),
)
LISTEN = Round(
    reply=Flow((0.7, 12), (40, 900), ("poisson", "bursts", "on-off", "drift")),
    lasts=(5, 600),
    request=(20, 120),
    wait=(0.002, 1),
    also=(BEAT,),
)
REPLICA = Round(
    reply=Flow((2, 60), (60, 6_000), ("bursts", "drift", "poisson", "on-off")),
    lasts=(8, 600),
    request=(60, 300),
    wait=(0.002, 1),
    up=(Flow((0.1, 10), (34, 40), ("clock", "ticks"), ("fixed",)),),
)
SYSLOG = Round(
    reply=Flow((0.7, 20), (2, 60), ("clock", "bursts", "poisson"), ("fixed", "few")),
    lasts=(8, 600),
    request=(100, 600),
    up=(Flow((1, 50), (90, 900), ("poisson", "bursts", "on-off", "drift")),),
)
QUOTES = Round(
    reply=Flow((2, 60), (90, 700), ("poisson", "bursts", "drift", "clock"), ("fixed", "few")),
    lasts=(5, 600),
    request=(90, 600),
    wait=(0.001, 0.6),
    also=(BEAT,),
    up=(BEAT,),
)
ORDERS = Round(
    reply=Flow((2, 40), (120, 500), ("bursts", "lognormal", "poisson"), ("few", "varied")),
    count=(2, 40),
    request=(120, 500),
    wait=(0.001, 2),
    think=(0.05, 6),
    up=(Flow((0.5, 10), (120, 400), chance=0.5, echo=(120, 400)),),
)
SIGNALLING = Round(
    reply=Flow((2, 30), (250, 1_200), ("bursts", "lognormal", "poisson"), ("few", "varied")),
    count=(2, 8),
    request=(300, 1_500),
    wait=(0.02, 3),
    think=(0.1, 4),
)
STANZAS = Round(
    reply=Flow((0.7, 10), (90, 1_200), ("poisson", "bursts", "on-off")),
    lasts=(2, 120),
    request=(100, 1_000),
    wait=(0.02, 2),
    think=(0.5, 10),
    also=(Flow((0.3, 4), (80, 260), ("on-off", "bursts", "poisson"), ("few",), chance=0.7),),
    up=(Flow((0.2, 3), (80, 250), ("on-off", "bursts"), ("few",), chance=0.6),),
)
QUEUE = Round(
    reply=Flow((1, 60), (60, 3_000), ("bursts", "poisson", "clock", "on-off", "lognormal")),
    lasts=(5, 600),
    request=(30, 400),
    wait=(0.002, 1),
    up=(Flow((1, 40), (20, 60), ("bursts", "poisson", "clock"), ("fixed",), chance=0.8),),
)
POLLED_LOG = Round(
    reply=Flow((10, 60), (80, 9_000), ("bursts", "lognormal")),
    count=(1, 5),
    request=(80, 300),
    wait=(0.005, 0.6),
    think=(0.001, 0.3),
)
PRINTER = Round(
    reply=Flow((1, 20), (20, 300), ("clock", "ticks", "lognormal"), ("fixed", "few", "varied")),
    lasts=(2, 60),
    request=(500, 60_000),
    wait=(0.05, 5),
    think=(0.5, 15),
)
POSITIONS = Round(
    reply=Flow((1, 40), (20, 300), ("ticks", "poisson", "bursts", "clock"), ("few", "quantised")),
    lasts=(8, 600),
    request=(20, 120),
    wait=(0.005, 1),
)

KINDS = (
    _kind("broker-telemetry", SECRET, TELEMETRY),
    _kind("broker-commands", SECRET, COMMANDS),
    _kind("irc", SECRET, ROOM),
    _kind("imap-idle", SECRET, IDLE, FETCH, rounds=(4, 400)),
    _kind("cache-subscribe", CLEAR, SUBSCRIBED),
    _kind("cache-monitor", CLEAR, MONITORED),
    _kind("database-cursor", CLEAR, CURSOR),
    _kind("database-pages", CLEAR, CURSOR_PAGES, rounds=(20, 400)),
    _kind("database-listen", CLEAR, LISTEN),
    _kind("database-replica", CLEAR, REPLICA),
    _kind("syslog", SECRET, SYSLOG),
    _kind("trading-quotes", SECRET, QUOTES),
    _kind("trading-orders", SECRET, ORDERS),
    _kind("sip", SECRET, SIGNALLING, rounds=(6, 400)),
    _kind("xmpp", SECRET, STANZAS),
    _kind("message-queue", SECRET, QUEUE),
    _kind("log-broker", CLEAR, POLLED_LOG, rounds=(20, 400)),
    _kind("machine-job", CLEAR, PRINTER),
    _kind("positions", CLEAR, POSITIONS),
)
