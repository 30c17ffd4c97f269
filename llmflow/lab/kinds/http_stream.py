"""Look-alikes: HTTP replies that take their time, from media to tables sent row by row."""

from __future__ import annotations

from llmflow.lab.kinds._draw import Flow, Range
from llmflow.lab.kinds._rounds import BROWSER, HTTP, TELEMETRY, Round, Rounds, Side
from llmflow.lab.script import OTHER, Kind

MEDIA = "video/mp4"
ROWS = "application/x-ndjson"


def _kind(
    name: str, *shapes: Round, transports: tuple[str, ...] = HTTP, rounds: Range = (1, 400)
) -> Kind:
    clients = BROWSER if transports == HTTP else ()
    return Kind(
        name,
        OTHER,
        "http-stream",
        transports,
        Rounds(*shapes, rounds=rounds, side=TELEMETRY),
        clients,
    )


DOWNLOAD = Round(
    reply=Flow((4, 50), (400, 16_000), ("clock", "drift", "bursts", "lognormal"), ("fixed",)),
    lasts=(2, 90),
    request=(20, 3_000),
    wait=(0.01, 3),
    think=(0.2, 15),
    method="GET",
    path="/download",
    content_type="application/octet-stream",
)
# A segment of 1 to 6 s is fetched at once, then nothing until the next is due.
SEGMENTS = Round(
    reply=Flow((40, 60), (2_000, 16_000), ("bursts", "lognormal"), ("fixed", "varied")),
    count=(3, 25),
    request=(20, 1_200),
    wait=(0.005, 0.3),
    think=(0.6, 6),
    method="GET",
    path="/segment",
    content_type=MEDIA,
)
PLAYLIST = Round(
    reply=Flow((40, 60), (200, 3_000), sizes=("fixed", "growing")),
    count=(1, 2),
    request=(20, 1_200),
    wait=(0.005, 0.2),
    think=(0.01, 2),
    method="GET",
    path="/playlist",
    content_type="application/vnd.apple.mpegurl",
)
# Low latency: parts of 100 to 500 ms, each held back by the server until it is there.
PARTS = Round(
    reply=Flow((2, 30), (200, 16_000), ("clock", "ticks", "bursts"), ("varied", "few", "mixed")),
    lasts=(0.5, 6),
    request=(20, 1_200),
    wait=(0.02, 0.8),
    think=(0.005, 0.2),
    method="GET",
    path="/part",
    content_type=MEDIA,
)
RADIO_TRICKLE = Round(
    reply=Flow((3, 40), (200, 4_000), ("clock", "drift"), ("fixed", "varied", "few")),
    lasts=(10, 600),
    request=(20, 800),
    wait=(0.02, 2),
    opening=(4_000, 64_000),
    method="GET",
    path="/radio",
    content_type="audio/mpeg",
)
RADIO_BURSTS = Round(
    reply=Flow((0.8, 3), (2_000, 16_000), ("bursts",), ("fixed", "varied")),
    lasts=(10, 600),
    request=(20, 800),
    wait=(0.02, 2),
    opening=(4_000, 64_000),
    method="GET",
    path="/music",
    content_type="audio/mpeg",
)
EXPORT = Round(
    reply=Flow((3, 50), (60, 6_000), sizes=("varied", "fixed", "quantised", "few")),
    lasts=(1.5, 60),
    request=(100, 20_000),
    wait=(0.05, 8),
    think=(1, 25),
    path="/export",
    content_type=ROWS,
)
RESULTS = Round(
    reply=Flow((2.5, 20), (150, 5_000), ("bursts", "lognormal", "drift", "poisson")),
    lasts=(0.8, 12),
    request=(60, 3_000),
    wait=(0.1, 4),
    think=(0.8, 15),
    closing=(40, 3_000),
    path="/search",
    content_type=ROWS,
)
REPORT = Round(
    reply=Flow((3, 40), (20, 1_500), ("lognormal", "poisson", "drift", "clock", "bursts")),
    lasts=(1.5, 60),
    request=(200, 100_000),
    wait=(0.3, 10),
    think=(1, 25),
    opening=(300, 8_000),
    closing=(50, 9_000),
    path="/report",
    content_type="text/html",
)
ASSETS = Side(
    Round(
        reply=Flow((20, 60), (800, 16_000), ("bursts",)),
        count=(1, 6),
        request=(20, 2_000),
        wait=(0.005, 0.2),
        method="GET",
        path="/asset",
        content_type="image/webp",
    ),
    every=(0.02, 0.4),
    most=(2, 15),
    chance=0.7,
)
RENDERED = Round(
    reply=Flow((3, 40), (200, 9_000), ("bursts", "lognormal", "poisson"), ("varied", "mixed")),
    count=(4, 40),
    request=(100, 3_000),
    wait=(0.02, 3),
    think=(0.8, 12),
    opening=(1_000, 16_000),
    sides=(ASSETS,),
    method="GET",
    path="/page",
    content_type="text/html",
)
# Layers that come down together tell their progress in many small lines.
PULL = Round(
    reply=Flow((4, 60), (80, 600), ("clock", "ticks", "bursts", "drift"), ("fixed", "few")),
    lasts=(3, 60),
    request=(40, 1_000),
    wait=(0.1, 4),
    think=(1, 20),
    closing=(60, 400),
    path="/images/create",
    content_type="application/json",
)
UPLOAD = Round(
    reply=Flow((1.5, 15), (30, 300), ("clock", "ticks", "lognormal"), ("fixed", "few")),
    lasts=(2, 40),
    request=(200, 2_000),
    wait=(0.05, 1),
    think=(0.5, 12),
    closing=(60, 1_500),
    up=(Flow((3, 30), (2_000, 16_000), ("clock", "drift", "bursts"), ("fixed",)),),
    path="/upload",
    content_type=ROWS,
)
UPLOAD_PIECE = Round(
    reply=Flow((5, 60), (20, 400)),
    count=(1, 3),
    request=(4_000, 60_000),
    wait=(0.01, 0.8),
    think=(0.01, 0.4),
    path="/upload",
    content_type="application/json",
)
SCAN = Round(
    reply=Flow((2, 25), (20, 900), ("lognormal", "on-off", "poisson"), ("few", "varied")),
    lasts=(2, 60),
    request=(1_000, 100_000),
    wait=(0.2, 8),
    think=(1, 20),
    closing=(100, 5_000),
    path="/scan",
    content_type="text/plain",
)
CAMERA = Round(
    reply=Flow((2, 20), (2_000, 14_000), ("clock", "ticks"), ("varied", "quantised")),
    lasts=(8, 600),
    request=(20, 600),
    wait=(0.02, 2),
    method="GET",
    path="/camera",
    content_type="multipart/x-mixed-replace; boundary=frame",
)
# Each snapshot of a dashboard's answer holds the rows before and some more.
PREVIEW = Round(
    reply=Flow((4, 15), (200, 3_000), ("clock", "lognormal", "drift"), ("growing",)),
    lasts=(1.5, 25),
    request=(200, 20_000),
    wait=(0.1, 5),
    think=(1, 20),
    path="/preview",
    content_type="application/json",
)

KINDS = (
    _kind("paced-download", DOWNLOAD),
    _kind("hls", SEGMENTS, PLAYLIST, rounds=(6, 60)),
    _kind("ll-hls", PARTS, PLAYLIST, rounds=(8, 400)),
    _kind("dash", SEGMENTS),
    _kind("radio-trickle", RADIO_TRICKLE),
    _kind("music-bursts", RADIO_BURSTS),
    _kind("row-export", EXPORT),
    _kind("search-results", RESULTS),
    _kind("row-report", REPORT),
    _kind("streamed-page", RENDERED),
    _kind("image-pull", PULL),
    _kind("upload-progress", UPLOAD, transports=("h2", "h3")),
    _kind("upload-pieces", UPLOAD_PIECE, rounds=(8, 400)),
    _kind("file-scan", SCAN),
    _kind("camera", CAMERA),
    _kind("growing-preview", PREVIEW),
)
