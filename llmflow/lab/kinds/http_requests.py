"""Look-alikes: many short requests, of people who browse and type and of programs that poll."""

from __future__ import annotations

from llmflow.lab.kinds._draw import Flow, Range
from llmflow.lab.kinds._rounds import BROWSER, HTTP, TELEMETRY, Round, Rounds, Side
from llmflow.lab.script import OTHER, Kind

JSON = "application/json"
MANY = (8, 400)  # rounds
BODY = Flow((20, 60), (100, 8_000), ("bursts", "lognormal", "poisson"))


def _kind(name: str, *shapes: Round, transports: tuple[str, ...] = HTTP) -> Kind:
    return Kind(
        name,
        OTHER,
        "http-requests",
        transports,
        Rounds(*shapes, rounds=MANY, side=TELEMETRY),
        BROWSER,
    )


def _assets(size: Range, most: Range, every: Range = (0.01, 0.3)) -> Side:
    asset = Round(
        reply=Flow((20, 60), size, ("bursts", "lognormal"), ("fixed", "varied", "mixed")),
        count=(1, 4),
        request=(20, 2_000),
        wait=(0.003, 0.4),
        method="GET",
        path="/asset",
        content_type="application/javascript",
    )
    return Side(asset, every, most)


# Held until something happens or the server gives up; then asked again at once.
LONG_POLL = Round(
    reply=Flow((20, 60), (60, 3_000)),
    count=(1, 3),
    request=(50, 2_500),
    wait=(0.1, 25),
    think=(0.002, 0.2),
    path="/poll",
    content_type=JSON,
)
POLL = Round(
    reply=Flow((20, 60), (20, 6_000)),
    count=(1, 3),
    request=(20, 2_500),
    wait=(0.005, 1),
    think=(0.2, 5),
    method="GET",
    path="/status",
    content_type=JSON,
)
# The reply to "is it done?" grows with what is done.
POLL_JOB = Round(
    reply=Flow((5, 60), (20, 3_000), sizes=("growing", "fixed", "varied")),
    count=(1, 8),
    request=(100, 4_000),
    wait=(0.02, 2),
    think=(0.1, 1.5),
    path="/job",
    content_type=JSON,
)
PAGE = Round(
    reply=BODY,
    count=(2, 20),
    request=(100, 3_000),
    wait=(0.02, 2),
    think=(1, 12),
    opening=(2_000, 40_000),
    sides=(_assets((400, 16_000), (10, 60)),),
    method="GET",
    path="/page",
    content_type="text/html",
)
TILES = Round(
    reply=Flow((20, 60), (600, 16_000), ("bursts",), ("varied", "fixed")),
    count=(1, 3),
    request=(20, 1_500),
    wait=(0.005, 0.4),
    think=(0.1, 4),
    sides=(_assets((600, 14_000), (4, 20), (0.005, 0.1)),),
    method="GET",
    path="/tile",
    content_type="image/png",
)
GALLERY = Round(
    reply=BODY,
    count=(1, 6),
    request=(50, 2_000),
    wait=(0.02, 1),
    think=(1, 10),
    sides=(_assets((1_000, 16_000), (6, 40)),),
    method="GET",
    path="/album",
    content_type=JSON,
)
KEYSTROKE = Round(
    reply=Flow((20, 60), (20, 3_000)),
    count=(1, 2),
    request=(30, 2_500),
    wait=(0.01, 0.4),
    think=(0.06, 0.6),
    method="GET",
    path="/suggest",
    content_type=JSON,
)
SCROLL = Round(
    reply=Flow((5, 60), (200, 9_000)),
    count=(2, 30),
    request=(100, 3_000),
    wait=(0.03, 1.5),
    think=(0.5, 6),
    sides=(_assets((500, 14_000), (3, 20)),),
    path="/feed",
    content_type=JSON,
)
MAIL = Round(
    reply=Flow((5, 60), (100, 9_000)),
    count=(1, 15),
    request=(100, 8_000),
    wait=(0.03, 1.5),
    think=(0.5, 10),
    path="/mail",
    content_type=JSON,
)
MAIL_NEWS = Round(
    reply=Flow((0.5, 3), (20, 900), ("bursts", "poisson", "clock")),
    lasts=(3, 30),
    request=(50, 1_500),
    think=(0.1, 5),
    method="GET",
    path="/channel",
    content_type="text/plain",
    often=0.3,
)
NAMES = Round(
    reply=Flow((20, 60), (50, 500), sizes=("quantised", "varied", "fixed")),
    count=(1, 1),
    request=(30, 130),
    wait=(0.002, 0.2),
    think=(0.01, 2),
    path="/dns-query",
    content_type="application/dns-message",
)
BEACONS = Round(
    reply=Flow((20, 60), (2, 400), sizes=("fixed", "few")),
    count=(1, 1),
    request=(200, 60_000),
    wait=(0.005, 0.3),
    think=(0.1, 3),
    path="/collect",
    content_type=JSON,
)
UPDATES = Round(
    reply=Flow((2, 40), (200, 12_000), ("clock", "bursts", "drift", "lognormal")),
    count=(1, 60),
    request=(200, 8_000),
    wait=(0.05, 2),
    think=(0.5, 15),
    path="/updates",
    content_type=JSON,
)
# Open for hours for the sake of one message; what is seen is that it is still there.
IDLE = Round(
    reply=Flow((0.03, 0.5), (2, 60), ("clock",), ("fixed",)),
    lasts=(20, 600),
    request=(20, 2_000),
    opening=(10, 500),
    method="GET",
    path="/listen",
)
BATCH = Round(
    reply=Flow((2, 30), (60, 3_000), ("lognormal", "bursts", "poisson", "clock")),
    count=(3, 60),
    request=(500, 60_000),
    wait=(0.05, 4),
    think=(0.3, 10),
    path="/batch",
    content_type="multipart/mixed",
)
AGENT = Round(
    reply=Flow((10, 60), (100, 12_000), ("bursts", "lognormal")),
    count=(1, 10),
    request=(300, 40_000),
    wait=(0.05, 4),
    think=(0.05, 3),
    path="/api",
    content_type=JSON,
)
SHOP = Round(
    reply=Flow((3, 40), (150, 4_000), ("bursts", "lognormal", "poisson")),
    count=(3, 40),
    request=(200, 3_000),
    wait=(0.1, 3),
    think=(1, 10),
    sides=(_assets((800, 9_000), (4, 30)),),
    path="/offers",
    content_type=JSON,
)

KINDS = (
    _kind("long-poll", LONG_POLL),
    _kind("rest-poll", POLL),
    _kind("job-poll", POLL_JOB),
    _kind("web-page", PAGE),
    _kind("map-tiles", TILES),
    _kind("image-gallery", GALLERY),
    _kind("autocomplete", KEYSTROKE),
    _kind("infinite-scroll", SCROLL),
    _kind("web-mail", MAIL, MAIL_NEWS),
    _kind("dns-over-https", NAMES, transports=("h2", "h3")),
    _kind("beacons", BEACONS),
    _kind("update-check", UPDATES),
    _kind("idle-push", IDLE),
    _kind("batch-calls", BATCH),
    _kind("rest-calls", AGENT),
    _kind("shop", SHOP),
)
