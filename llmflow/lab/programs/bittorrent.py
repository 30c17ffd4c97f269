"""BitTorrent: files from a few peers, at the rate of a home line."""

from __future__ import annotations

import hashlib
import sys

from llmflow.lab.programs import ClientPlace, Program, ServerPlace
from llmflow.lab.programs._place import Popen
from llmflow.lab.script import OTHER

TRACKER, PORT, PEERS = 6969, 6881, 3
PIECE, PIECES = 2**18, 120  # bytes, count
ALONE = (
    *("--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--no-conf=true"),
    *("--enable-peer-exchange=false", "--disable-ipv6=true", "--file-allocation=none", "-q"),
)


def serve(place: ServerPlace) -> list[Popen]:
    """Three aria2 peers that have everything, and a tracker that always gives the same answer."""
    content = b"".join(bytes((number,)) * PIECE for number in range(PIECES))
    hashes = [hashlib.sha1(content[at : at + PIECE]) for at in range(0, len(content), PIECE)]  # noqa: S324
    info = {
        "length": len(content),
        "name": "file",
        "piece length": PIECE,
        "pieces": b"".join(one.digest() for one in hashes),
    }
    (place.scratch / "file").write_bytes(content)
    started = []
    for address in place.addresses:
        announce = f"http://{address}:{TRACKER}/announce"
        torrent = place.scratch / f"{address}.torrent"
        torrent.write_bytes(_bencode({"announce": announce, "info": info}))
        answers = place.scratch / address
        answers.mkdir()
        host = bytes(map(int, address.split(".")))
        peers = b"".join(host + (PORT + peer).to_bytes(2, "big") for peer in range(PEERS))
        (answers / "announce").write_bytes(_bencode({"interval": 1800, "peers": peers}))
        tracker = (sys.executable, "-m", "http.server", str(TRACKER), "--bind", address)
        started.append(place.start(*tracker, "--directory", answers))
    for peer in range(PEERS):
        seed = ("aria2c", *ALONE, "--seed-ratio=0", "--check-integrity=true", "-d", place.scratch)
        # The tracker answers seeders too, who then find that the others have everything as well.
        started.append(place.start(*seed, f"--listen-port={PORT + peer}", torrent))
    return started


def _bencode(value: object) -> bytes:
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        return _bencode(value.encode())
    if isinstance(value, bytes):
        return b"%d:%b" % (len(value), value)
    if isinstance(value, dict):
        return b"d%be" % b"".join(_bencode(key) + _bencode(value[key]) for key in sorted(value))
    raise TypeError(type(value).__name__)


def visit(place: ClientPlace) -> None:
    """Download a part of it."""
    rng = place.rng
    limit = int(10 ** rng.uniform(4, 6))
    secret = ["--bt-require-crypto=true", "--bt-min-crypto-level=arc4"]
    with place.popen(
        *("aria2c", *ALONE, "--seed-time=0", f"--max-download-limit={limit}", "-d", place.scratch),
        *(secret if rng.random() < 0.5 else []),
        place.shared / f"{place.server}.torrent",
    ) as process:
        while place.left > 0 and process.poll() is None:
            place.pause(0.2)


PROGRAMS = (
    Program(
        name="bittorrent",
        label=OTHER,
        category="download",
        needs=("aria2c",),
        modules=(),
        ports=(("tcp", TRACKER), *(("tcp", PORT + peer) for peer in range(PEERS))),
        serve=serve,
        visit=visit,
    ),
)
