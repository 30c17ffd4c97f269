"""All sessions of a plan, and the files of the run."""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from llmflow.arrays import I64
from llmflow.errors import LabError
from llmflow.lab.net.paths import AccessPath
from llmflow.lab.net.topology import tap as interface
from llmflow.lab.records import append_records
from llmflow.lab.script import Session
from llmflow.lab.stage import DOMAIN, HOSTS
from llmflow.lab.virtual import pcapng
from llmflow.lab.virtual.session import EPOCH, Place, play
from llmflow.lab.virtual.wire import Tap

CAPTURE, KEYS = "capture.pcapng", "keys.log"
_CLIENT, _SERVER = "virtual.client.jsonl", "virtual.server.jsonl"
_SHARE = 16  # sessions that a process takes at a time


class _Share(NamedTuple):
    """Sessions that one process plays, and the folder for its files."""

    sessions: Sequence[Session]
    places: Mapping[str, Place]
    folder: Path


class _Part(NamedTuple):
    """What came of a share; the packets are in its capture, session by session."""

    folder: Path
    times: I64
    sizes: I64
    lost: int


def run_virtual(
    sessions: Sequence[Session],
    paths: Sequence[AccessPath],
    directory: Path,
    seed: int,
    *,
    tap: Tap = "server",
    workers: int = 2,
) -> dict[str, Any]:
    """Play sessions over HTTP/3 in virtual time, and write what clients, servers and a tap do.

    Both ends are aioquic; each session has its path for itself. ``capture.pcapng``, ``keys.log``,
    ``virtual.client.jsonl`` and ``virtual.server.jsonl`` have the same bytes for the same
    arguments, whatever the number of workers.

    Parameters
    ----------
    sessions : sequence of Session
        All over ``h3``.
    paths : sequence of AccessPath
        Those that the sessions name; their places give the addresses.
    directory : Path
        Where the files go; made if missing.
    seed : int
        Of losses, delays, identifiers and keys.
    tap : {"client", "server"}, optional
        At which end of the path packets are captured: packets from there have not met it yet.
    workers : int, optional
        Processes.

    Returns
    -------
    dict
        ``capture`` (its name), ``begun`` (unix seconds), ``packets`` in it, and packets
        ``dropped_on_paths``.

    Raises
    ------
    LabError
        A session is not over HTTP/3, or its server or path is not there.
    """
    places = {path.name: Place(path, at, tap, seed) for at, path in enumerate(paths)}
    _check(sessions, places)
    ordered = sorted(sessions, key=lambda session: session.number)
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=directory) as folder:
        shares = [
            _Share(ordered[at : at + _SHARE], places, Path(folder) / str(at))
            for at in range(0, len(ordered), _SHARE)
        ]
        parts = _play_all(shares, workers)
        for name in (_CLIENT, _SERVER, KEYS):
            _join([part.folder / name for part in parts], directory / name)
        head = pcapng.head(interface(path.name, tap) for path in paths)
        _merge(parts, head, Path(folder) / CAPTURE)
        (Path(folder) / CAPTURE).replace(directory / CAPTURE)
    return {
        "capture": CAPTURE,
        "begun": EPOCH,
        "packets": sum(len(part.times) for part in parts),
        "dropped_on_paths": sum(part.lost for part in parts),
    }


def _check(sessions: Iterable[Session], places: Mapping[str, Place]) -> None:
    for session in sessions:
        what = ""
        if session.transport != "h3":
            what = f"goes over {session.transport}, and only h3 can be played in virtual time"
        elif session.path not in places:
            what = f"goes over a path {session.path!r} that is not there"
        elif f"{session.front}.{DOMAIN}" not in HOSTS:
            what = f"goes to a server {session.front!r} that is not there"
        if what:
            raise LabError(what, where=f"session {session.number}", hint="mend the plan")


def _play_all(shares: Sequence[_Share], workers: int) -> list[_Part]:
    if workers == 1:
        return [_play(share) for share in shares]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(_play, shares))


def _play(share: _Share) -> _Part:
    share.folder.mkdir()
    times: list[int] = []
    sizes: list[int] = []
    lost = 0
    log = share.folder / _CLIENT
    with (share.folder / CAPTURE).open("wb") as capture, (share.folder / KEYS).open("w") as keys:
        for session in share.sessions:
            one = play(session, share.places[session.path], str(log))
            capture.writelines(one.blocks)
            keys.write(one.keys)
            one.desk.write(None)
            append_records(share.folder / _SERVER, (played.record() for played in one.played))
            times += one.times
            sizes += map(len, one.blocks)
            lost += one.lost
    return _Part(share.folder, np.array(times, np.int64), np.array(sizes, np.int64), lost)


def _join(files: Iterable[Path], target: Path, head: bytes = b"") -> None:
    with target.open("wb") as joined:
        joined.write(head)
        for file in files:
            with file.open("rb") as part:
                shutil.copyfileobj(part, joined)
            file.unlink()


def _merge(parts: Sequence[_Part], head: bytes, target: Path) -> None:
    """Write the packets of all parts in order of time; of the same time, in that of sessions."""
    joined = target.with_suffix(".parts")
    _join([part.folder / CAPTURE for part in parts], joined, head)
    none = np.empty(0, np.int64)
    order = np.argsort(np.concatenate([none, *(part.times for part in parts)]), kind="stable")
    sizes = np.concatenate([none, *(part.sizes for part in parts)])
    ends = len(head) + np.cumsum(sizes)
    rows = zip((ends - sizes)[order].tolist(), ends[order].tolist(), strict=True)
    with (
        joined.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
        target.open("wb") as merged,
    ):
        merged.write(head)
        merged.writelines(view[begin:end] for begin, end in rows)
