"""The processes of one run: servers, programs and clients, started and ended together."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmflow.errors import LabError
from llmflow.lab.clients.config import ClientConfig, Endpoint
from llmflow.lab.net.namespaces import Host
from llmflow.lab.net.pki import Certificates
from llmflow.lab.net.processes import python
from llmflow.lab.net.topology import Topology
from llmflow.lab.programs import ServerPlace, programs, start
from llmflow.lab.programs.config import Config as VisitConfig
from llmflow.lab.scenario import FRONTS, PROGRAM
from llmflow.lab.script import Session
from llmflow.lab.servers.config import ServerConfig

Talk = Callable[[str], None]

DOMAIN = "lab.example"  # RFC 2606: nobody's
SOFTWARE = tuple(dict.fromkeys(front for fronts in FRONTS.values() for front in fronts))
PROGRAM_ADDRESS = 16  # place of the programs' server address; they differ in their ports
# Names that clients know, and the places of the server addresses behind them.
HOSTS = {f"{name}.{DOMAIN}": place for place, name in enumerate(SOFTWARE)} | {
    f"programs.{DOMAIN}": PROGRAM_ADDRESS
}
# SCHED_FIFO: bridges run at 10, so that the network never waits for those who use it.
_SERVER_PRIORITY, _CLIENT_PRIORITY = 5, 4
_WARM_UP = 6.0  # seconds for the clients to import what they need
_READY = 40.0  # for servers to listen
_GRACE = 60.0  # beyond the end of the plan; then clients are stopped
_LOGS = 30.0  # for a process to write its log


@dataclass(slots=True)
class Stage:
    """All that plays in one run.

    Parameters
    ----------
    net : Topology
        Where it plays.
    folder, work : Path
        Of the run, with its plan; and for what is thrown away when its logs are joined.
    sessions : sequence of Session
    certificates : Certificates
    gids : dict of str to int
        Group of each kind and program.
    talk : callable
        Called with a line on what goes on.
    """

    net: Topology
    folder: Path
    work: Path
    sessions: Sequence[Session]
    certificates: Certificates
    gids: dict[str, int]
    talk: Talk

    @contextmanager
    def servers(self) -> Iterator[None]:
        """Every server software and program that the sessions need, listening."""
        fronts = sorted({one.front for one in self.sessions} - {PROGRAM})
        visited = sorted({one.kind for one in self.sessions if one.front == PROGRAM})
        with _ended_together() as running:
            running.extend(map(self._server, fronts))
            started = dict(zip(fronts, running, strict=True))
            for name in visited:
                self.talk(f"starting {name}")
                running.extend(start(programs()[name], self._place(name)))
            _wait_for({front: (self.work / f"{front}.ready", started[front]) for front in fronts})
            yield

    def _server(self, front: str) -> subprocess.Popen[bytes]:
        place = SOFTWARE.index(front)
        config = ServerConfig(
            software=front,
            addresses=[self.net.addresses(path)[place] for path in self.net.paths],
            plan=str(self.folder / "plan.jsonl"),
            certificate=str(self.certificates.chain),
            key=str(self.certificates.key),
            log=str(self.work / f"{front}.server.jsonl"),
            ready=str(self.work / f"{front}.ready"),
            folder=str(self.work / front),
        )
        return self._start("servers", front, self.net.server, asdict(config), _SERVER_PRIORITY)

    def _start(
        self, part: str, name: str, host: Host, config: dict[str, Any], priority: int
    ) -> subprocess.Popen[bytes]:
        told = self.work / f"{name}.{part}.json"
        told.write_text(json.dumps(config, default=str))
        with (self.work / f"{name}.{part}.log").open("wb") as log:
            argv = python(f"llmflow.lab.{part}", str(told))
            return host.popen(argv, priority=priority, stdout=log, stderr=subprocess.STDOUT)

    def _place(self, name: str) -> ServerPlace:
        scratch = self._scratch(name)
        scratch.mkdir(parents=True)
        addresses = tuple(self.net.addresses(path)[PROGRAM_ADDRESS] for path in self.net.paths)
        return ServerPlace(
            scratch, addresses, self.certificates.chain, self.certificates.key, self._in_server
        )

    def _in_server(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:  # noqa: ANN401
        return subprocess.Popen(self.net.server.command(argv), start_new_session=True, **options)

    def _scratch(self, name: str) -> Path:
        return self.work / "programs" / name

    def play(self) -> None:
        """Play all sessions, and wait for their end."""
        t0 = time.time() + _WARM_UP
        end = t0 + max(one.start + one.seconds for one in self.sessions)
        with _ended_together() as players:
            players.extend(self._clients(t0))
            players.extend(self._visits(t0))
            self.talk(f"{len(self.sessions)} sessions, about {end - time.time():.0f} s")
            while any(player.poll() is None for player in players):
                if time.time() > end + _GRACE:
                    self.talk("some sessions did not end and are stopped")
                    break
                self.net.check()
                time.sleep(0.5)
        failed = [player for player in players if player.returncode not in (0, -15)]
        if failed:
            said = " ".join(map(_said, failed))
            raise LabError(f"clients failed: {said}", hint="see `llmflow lab doctor`")

    def _clients(self, t0: float) -> Iterator[subprocess.Popen[bytes]]:
        for path in sorted({one.path for one in self.sessions if one.front != PROGRAM}):
            addresses = self.net.addresses(path)
            config = ClientConfig(
                plan=str(self.folder / "plan.jsonl"),
                path=path,
                t0=t0,
                servers={
                    name: Endpoint(addresses[place], f"{name}.{DOMAIN}")
                    for place, name in enumerate(SOFTWARE)
                },
                ca=str(self.certificates.root),
                log=str(self.work / f"{path}.client.jsonl"),
                keys=str(self.folder / "keys.log"),
                folder=str(self.work / f"clients-{path}"),
                hosts=list(self.net.client(path).addresses),
                gids=self.gids,
                spki=[self.certificates.spki],
            )
            host = self.net.client(path)
            yield self._start("clients", path, host, asdict(config), _CLIENT_PRIORITY)

    def _visits(self, t0: float) -> Iterator[subprocess.Popen[bytes]]:
        visited = sorted({one.kind for one in self.sessions if one.front == PROGRAM})
        for path in sorted({one.path for one in self.sessions if one.front == PROGRAM}):
            config = VisitConfig(
                t0=t0,
                path=path,
                plan=self.folder / "plan.jsonl",
                log=self.work / f"{path}.visits.jsonl",
                authority=self.certificates.root,
                servers=dict.fromkeys(visited, self.net.addresses(path)[PROGRAM_ADDRESS]),
                shared={name: self._scratch(name) for name in visited},
                gids={name: self.gids[name] for name in visited},
            )
            host = self.net.client(path)
            yield self._start("programs", path, host, asdict(config), _CLIENT_PRIORITY)


@contextmanager
def _ended_together() -> Iterator[list[subprocess.Popen[Any]]]:
    """Give a list of processes, which are ended with the block; they may be writing their logs."""
    running: list[subprocess.Popen[Any]] = []
    try:
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(_LOGS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _said(process: subprocess.Popen[Any]) -> str:
    """Give the last words of a process of ours, from the log beside its configuration."""
    log = Path(str(process.args[-1])).with_suffix(".log")  # type: ignore[index]
    return log.read_text(errors="replace").strip()[-300:]


def _wait_for(servers: dict[str, tuple[Path, subprocess.Popen[bytes]]]) -> None:
    deadline = time.monotonic() + _READY
    for front, (ready, process) in servers.items():
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(
                    f"did not start: {_said(process)}", where=front, hint="see `llmflow lab doctor`"
                )
            time.sleep(0.05)
