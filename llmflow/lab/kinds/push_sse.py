"""Look-alikes: events that a server pushes over server-sent events.

One GET, then news for as long as the page is open; some of them end and are asked for again.
"""

from __future__ import annotations

from llmflow.lab.kinds._draw import Flow, Range
from llmflow.lab.kinds._rounds import BROWSER, HTTP, TELEMETRY, Round, Rounds
from llmflow.lab.script import OTHER, Kind

KEEP_ALIVE = Flow((0.03, 1), (2, 40), ("clock",), ("fixed",), chance=0.5)


def _push(
    name: str,
    reply: Flow,
    lasts: Range = (8, 600),
    opening: Range | None = None,
    closing: Range | None = None,
    wait: Range = (0.005, 3),
) -> Kind:
    shape = Round(
        reply=reply,
        lasts=lasts,
        opening=opening,
        closing=closing,
        request=(20, 3_000),
        wait=wait,
        think=(0.3, 8),
        also=(KEEP_ALIVE,),
        sides=(TELEMETRY,),
        method="GET",
        path=f"/{name}",
        head=True,
        leave=0.1,
    )
    return Kind(f"sse-{name}", OTHER, "push-sse", HTTP, Rounds(shape), BROWSER)


def _started(
    name: str,
    reply: Flow,
    lasts: Range,
    request: Range = (100, 100_000),
    wait: Range = (0.1, 10),
    closing: Range | None = None,
) -> Kind:
    """Build a kind of which each stream is started by a POST and ends: the nearest to a model's."""
    shape = Round(
        reply=reply,
        lasts=lasts,
        closing=closing,
        request=request,
        wait=wait,
        think=(1, 30),
        also=(KEEP_ALIVE,),
        sides=(TELEMETRY,),
        path=f"/{name}",
    )
    return Kind(f"sse-{name}", OTHER, "push-sse", HTTP, Rounds(shape), BROWSER)


KINDS = (
    _push("stock-ticker", Flow((1, 60), (20, 700)), opening=(300, 12_000)),
    _push("crypto-ticker", Flow((2, 60), (80, 900), ("clock", "ticks", "bursts", "drift"))),
    _push("sports", Flow((0.7, 10), (60, 2_500), ("poisson", "on-off", "bursts")), (15, 600)),
    _push("log-tail", Flow((1, 50), (60, 800), ("bursts", "poisson", "lognormal", "on-off"))),
    _push("notifications", Flow((0.2, 3), (100, 3_000), ("poisson", "bursts")), (20, 600)),
    _push("social-feed", Flow((0.7, 8), (300, 8_000)), opening=(2_000, 40_000)),
    _push("metrics", Flow((1, 10), (200, 8_000), ("clock", "ticks"))),
    _push("live-poll", Flow((1, 10), (60, 900), sizes=("fixed", "quantised", "growing"))),
    _push("auction", Flow((0.7, 12), (90, 700), ("poisson", "drift", "bursts")), (10, 120)),
    _push("delivery", Flow((0.5, 4), (80, 500), ("clock", "ticks", "lognormal")), (20, 600)),
    _push("firehose", Flow((3, 60), (150, 2_500), sizes=("growing", "varied", "mixed"))),
    _push("cursors", Flow((5, 30), (20, 160), ("clock", "on-off", "bursts"))),
    _started("ci-output", Flow((2, 40), (50, 700)), (2, 60), closing=(100, 6_000)),
    _started("build-progress", Flow((2, 20), (20, 300), ("clock", "ticks", "drift")), (2, 40)),
    _started(
        "import-progress",
        Flow((2, 12), (60, 500), ("clock", "lognormal"), ("fixed", "growing")),
        (2, 60),
        request=(2_000, 100_000),
    ),
    _started(
        "query-plan",
        Flow((4, 40), (60, 800), sizes=("varied", "growing", "few")),
        (1, 30),
        closing=(500, 20_000),
    ),
)
