"""Look-alikes: what goes both ways over WebSockets, from tickers to typing together."""

from __future__ import annotations

from llmflow.lab.kinds._draw import Flow, Range
from llmflow.lab.kinds._rounds import RECEIPTS, Round, Rounds
from llmflow.lab.script import OTHER, Kind

PING = Flow((0.03, 0.5), (1, 12), ("clock",), ("fixed",), chance=0.5)
TYPING = Flow((1, 9), (20, 300), ("lognormal", "on-off", "bursts"))


def _socket(
    name: str,
    reply: Flow,
    *also: Flow,
    up: tuple[Flow, ...] = (),
    lasts: Range = (10, 600),
    opening: Range | None = None,
) -> Kind:
    """Build a kind that subscribes once, or again after a break."""
    shape = Round(
        reply=reply,
        lasts=lasts,
        opening=opening,
        request=(20, 3_000),
        wait=(0.005, 2),
        think=(0.2, 10),
        also=(PING, *also),
        up=(PING, RECEIPTS, *up),
    )
    return Kind(f"ws-{name}", OTHER, "push-ws", ("ws",), Rounds(shape))


def _asked(name: str, *shapes: Round) -> Kind:
    """Build a kind whose rounds each begin with a message of the client."""
    return Kind(f"ws-{name}", OTHER, "push-ws", ("ws",), Rounds(*shapes, up=RECEIPTS))


# Presence and "somebody is typing" make most of what a chat sends.
PRESENCE = Flow((0.5, 10), (20, 260), ("poisson", "bursts", "on-off"), ("few", "fixed"))
CHAT = Round(
    reply=Flow((0.7, 8), (80, 1_500), ("poisson", "bursts", "on-off", "drift")),
    lasts=(1, 60),
    request=(60, 1_200),
    wait=(0.02, 2),
    think=(0.5, 15),
    also=(PRESENCE,),
    up=(Flow((0.3, 4), (40, 200), ("on-off", "bursts"), ("fixed", "few"), chance=0.7), PING),
)
KERNEL = Round(
    reply=Flow((1, 50), (150, 2_000), sizes=("varied", "few", "mixed", "growing")),
    lasts=(0.5, 40),
    request=(300, 8_000),
    wait=(0.01, 8),
    think=(1, 20),
    opening=(200, 500),
    closing=(200, 30_000),
    also=(Flow((0.3, 2), (200, 400), ("clock",), ("fixed",), chance=0.6),),
)
SHELL_TYPING = Round(
    reply=Flow((0.2, 1), (5, 60)),
    lasts=(2, 12),
    request=(1, 10),
    wait=(0.005, 0.1),
    think=(0.1, 2),
    up=(Flow((2, 9), (1, 12), ("lognormal", "on-off"), ("fixed", "few"), echo=(1, 60)),),
)
SHELL_OUTPUT = Round(
    reply=Flow((2, 50), (20, 1_500), ("bursts", "lognormal", "on-off", "drift")),
    lasts=(0.5, 30),
    request=(1, 60),
    wait=(0.01, 3),
    think=(0.5, 10),
)
GAME_TURN = Round(
    reply=Flow((1, 12), (40, 700), ("poisson", "bursts", "lognormal", "clock")),
    lasts=(0.5, 15),
    request=(20, 300),
    wait=(0.02, 6),
    think=(0.5, 12),
    also=(Flow((0.8, 1.2), (30, 80), ("clock",), ("fixed",), chance=0.7),),
    up=(Flow((0.2, 3), (20, 100), chance=0.4),),
)
QUERY = Round(
    reply=Flow((4, 40), (80, 3_000), sizes=("varied", "fixed", "growing", "quantised")),
    lasts=(0.5, 20),
    request=(200, 8_000),
    wait=(0.05, 6),
    think=(0.5, 15),
    closing=(20, 600),
)
JOB = Round(
    reply=Flow((2, 30), (60, 600), ("clock", "ticks", "drift", "lognormal", "bursts")),
    lasts=(2, 60),
    request=(100, 60_000),
    wait=(0.1, 10),
    think=(1, 25),
    closing=(80, 4_000),
)

KINDS = (
    _asked("chat", CHAT),
    _socket("chat-lurker", Flow((1, 12), (80, 1_200)), PRESENCE, opening=(2_000, 40_000)),
    _socket("ticker", Flow((2, 60), (20, 700), ("clock", "ticks", "poisson", "bursts"))),
    _socket(
        "order-book",
        Flow((4, 60), (60, 2_500), ("bursts", "drift", "poisson", "clock")),
        opening=(5_000, 60_000),
    ),
    _socket(
        "co-editing", Flow((2, 20), (60, 400), ("lognormal", "on-off", "bursts")), up=(TYPING,)
    ),
    _socket(
        "co-typing",
        Flow((3, 12), (20, 200), ("lognormal", "on-off"), ("fixed", "few", "varied")),
        up=(Flow((1, 9), (40, 200), ("lognormal", "on-off"), chance=0.5, echo=(20, 60)),),
    ),
    _asked("board-game", GAME_TURN),
    _socket("captions", Flow((2, 8), (60, 900), sizes=("growing", "varied"))),
    _socket("hub", Flow((0.7, 6), (60, 2_000)), opening=(500, 8_000)),
    _asked("notebook", KERNEL),
    _asked("terminal", SHELL_TYPING, SHELL_OUTPUT),
    _socket("socket-io", Flow((0.7, 10), (40, 600)), up=(Flow((0.1, 3), (10, 200)),)),
    _socket("graphql", Flow((0.7, 20), (150, 3_000)), opening=(200, 10_000)),
    _asked("query", QUERY),
    _asked("job", JOB),
    _socket(
        "whiteboard",
        Flow((5, 60), (20, 300), ("clock", "on-off", "bursts")),
        up=(Flow((5, 60), (20, 200), ("clock", "on-off"), chance=0.6),),
    ),
    _socket("device-shadow", Flow((1, 20), (60, 600), ("clock", "ticks", "drift"))),
)
