"""Media and files from nginx over TLS: video in segments, radio, downloads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llmflow.lab.programs import ClientPlace, Program, ServerPlace
from llmflow.lab.programs._place import Popen, trusting
from llmflow.lab.script import OTHER

if TYPE_CHECKING:
    import httpx

VIDEO_PORT, RADIO_PORT, FILE_PORT = 8443, 8444, 8445
LENGTH = 30  # seconds of media
BITRATES = {"low": 300, "middle": 900, "high": 2500}  # kbit/s
RADIO_BITRATES = (64, 128, 256)  # kbit/s
# One listener per address; a client may ask for a rate, as servers of media have one.
NGINX = """
user root; daemon off; worker_processes 1; pid {root}/pid; error_log stderr;
events {{ worker_connections 512; }}
http {{
  access_log off; default_type application/octet-stream;
  {directories}
  map $arg_rate $rate {{ default 0; "~^(?<digits>[0-9]+)$" $digits; }}
  server {{
    {listeners}
    ssl_certificate {certificate}; ssl_certificate_key {key};
    root {root}/media; limit_rate $rate; limit_rate_after 64k;
  }}
}}
"""


def serve(place: ServerPlace, port: int) -> list[Popen]:
    """Nginx, HTTP/1.1 and HTTP/2, with media made by ffmpeg."""
    media = place.scratch / "media"
    media.mkdir()
    {VIDEO_PORT: _make_video, RADIO_PORT: _make_radio, FILE_PORT: _make_files}[port](place, media)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    config = place.scratch / "nginx.conf"
    config.write_text(
        NGINX.format(
            root=place.scratch,
            directories=" ".join(f"{kind}_temp_path {place.scratch}/spool;" for kind in kinds),
            listeners=" ".join(f"listen {host}:{port} ssl http2;" for host in place.addresses),
            certificate=place.certificate,
            key=place.key,
        )
    )
    return [place.start("nginx", "-c", config, "-e", "stderr")]


def _make_video(place: ServerPlace, media: Path) -> None:
    source = f"testsrc2=size=480x270:rate=10:duration={LENGTH},noise=alls=30:allf=t"
    tone = f"anoisesrc=color=pink:amplitude=0.3:duration={LENGTH}"
    argv = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-f", "lavfi", "-i", tone]
    for seconds in (2, 4):
        for name, rate in BITRATES.items():
            argv += ["-c:v", "libx264", "-preset", "ultrafast", "-b:v", f"{rate}k"]
            argv += ["-maxrate", f"{rate}k", "-bufsize", f"{rate}k", "-g", "20", "-c:a", "aac"]
            argv += ["-f", "hls", "-hls_time", str(seconds), "-hls_playlist_type", "vod"]
            argv.append(str(media / f"{name}-{seconds}-.m3u8"))
    place.run(*argv)


def _make_radio(place: ServerPlace, media: Path) -> None:
    source = f"anoisesrc=color=pink:amplitude=0.3:duration={LENGTH * 4}"
    argv = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source]
    for rate in RADIO_BITRATES:
        argv += ["-c:a", "libmp3lame", "-b:a", f"{rate}k", str(media / f"{rate}.mp3")]
    place.run(*argv)


def _make_files(_: ServerPlace, media: Path) -> None:
    # A file with a hole: over TLS zeros look like anything else.
    with (media / "file").open("wb") as file:
        file.truncate(200_000_000)


def watch(place: ClientPlace) -> None:
    """A player: it fills its buffer, then fetches a segment whenever one has been played."""
    rng = place.rng
    seconds, names = rng.choice((2, 4)), list(BITRATES)
    name, live = rng.choice(names), rng.random() < 0.5
    with _client(place, VIDEO_PORT) as client:
        playlist = client.get(f"{name}-{seconds}-.m3u8").text
        count = sum(not line.startswith("#") for line in playlist.splitlines())
        position, buffered = rng.randrange(count), rng.randint(1, 8)
        while place.left > 0:
            if live:  # the playlist grows, so it is read again
                client.get(f"{name}-{seconds}-.m3u8")
            client.get(f"{name}-{seconds}-{position % count}.ts")
            position, buffered = position + 1, buffered - 1
            if rng.random() < 0.1:
                name = rng.choice(names)
            if buffered <= 0:
                place.pause(seconds * rng.uniform(0.85, 1.1))


def listen(place: ClientPlace) -> None:
    """Radio, which comes as fast as it is played."""
    rate = place.rng.choice(RADIO_BITRATES)
    pace = int(rate * 125 * place.rng.uniform(0.98, 1.1))
    _fetch(place, RADIO_PORT, f"{rate}.mp3?rate={pace}", pause=0)


def download(place: ClientPlace) -> None:
    """A file at the rate of the server, or of a client that does not read faster."""
    pace = int(10 ** place.rng.uniform(4, 6.3))
    if place.rng.random() < 0.6:
        _fetch(place, FILE_PORT, f"file?rate={pace}", pause=0)
    else:
        _fetch(place, FILE_PORT, "file", pause=16384 / pace)


def _fetch(place: ClientPlace, port: int, path: str, pause: float) -> None:
    with _client(place, port) as client, client.stream("GET", path) as answer:
        for _ in answer.iter_bytes(16384):
            place.pause(pause)
            if place.left <= 0:
                break


@contextmanager
def _client(place: ClientPlace, port: int) -> Iterator[httpx.Client]:
    import httpx

    known: set[object] = set()

    def note(answer: httpx.Response) -> None:
        stream = answer.extensions["network_stream"]
        ends = stream.get_extra_info("client_addr"), stream.get_extra_info("server_addr")
        if ends not in known:
            known.add(ends)
            place.connected("tcp", *ends)

    with httpx.Client(
        base_url=f"https://{place.server}:{port}/",
        verify=trusting(place.authority),
        http2=place.rng.random() < 0.7,
        event_hooks={"response": [note]},
    ) as client:
        yield client


PROGRAMS = tuple(
    Program(
        name=name,
        label=OTHER,
        category=category,
        needs=("nginx", *makers),
        modules=("httpx", "h2"),
        ports=(("tcp", port),),
        serve=partial(serve, port=port),
        visit=visit,
    )
    for name, category, port, visit, makers in (
        ("nginx-hls", "video_streaming", VIDEO_PORT, watch, ("ffmpeg",)),
        ("nginx-radio", "audio_streaming", RADIO_PORT, listen, ("ffmpeg",)),
        ("nginx-download", "download", FILE_PORT, download, ()),
    )
)
