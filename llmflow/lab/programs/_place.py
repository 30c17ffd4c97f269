"""What a program is given: where its server binds, and what one visit of a client may use."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from llmflow.errors import LabError

Popen = subprocess.Popen[Any]
# A process of a program never outlives the one that started it, not even a killed one.
MORTAL = ("setpriv", "--pdeathsig", "KILL", "--")


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """Where a program's server runs.

    Parameters
    ----------
    scratch : Path
        Empty directory of this program; what the client needs to know is left in it.
    addresses : tuple of str
        IP addresses to bind, one per access path.
    certificate, key : Path
        Chain and private key of the server, PEM.
    popen : callable
        Starts a process in the server's namespace: ``popen(argv, **options of subprocess.Popen)``.
    """

    scratch: Path
    addresses: tuple[str, ...]
    certificate: Path
    key: Path
    popen: Callable[..., Popen]

    def run(self, *argv: str | Path, **options: Any) -> str:
        """Run a command of the server's namespace to its end and return what it wrote."""
        process = self.popen([str(word) for word in argv], **PIPES, **options)
        return _finish(process, argv[0], 60)

    def start(self, *argv: str | Path, **options: Any) -> Popen:
        """Start a server; what it says goes into ``log`` of the scratch directory."""
        with (self.scratch / "log").open("ab") as log:
            return self.popen([str(word) for word in argv], stdout=log, stderr=log, **options)


@dataclass(frozen=True, slots=True)
class ClientPlace:
    """Where one visit of a client runs.

    Parameters
    ----------
    rng : Random
        All randomness of the visit.
    seconds : float
        About how long the visit may last.
    number : int
        Of the session: unique in the run.
    server : str
        IP address of the program's server.
    authority : Path
        Certificates to trust, PEM.
    shared : Path
        The server's scratch directory, to read.
    scratch : Path
        Directory of this visit alone.
    connected : callable
        ``connected(protocol, local, remote)`` records a connection of the visit, where a program
        knows its own sockets; ``local`` and ``remote`` are pairs of address and port.
    """

    rng: Random
    seconds: float
    number: int
    server: str
    authority: Path
    shared: Path
    scratch: Path
    connected: Callable[[str, Any, Any], None]
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left of the visit."""
        return self.began + self.seconds - time.monotonic()

    def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the visit's end."""
        time.sleep(max(0.0, min(seconds, self.left)))

    async def rest(self, seconds: float) -> None:
        """Sleep as :meth:`pause` does, in a coroutine."""
        await asyncio.sleep(max(0.0, min(seconds, self.left)))

    @contextmanager
    def popen(self, *argv: str | Path, **options: Any) -> Iterator[Popen]:
        """Run a process that is ended at the end of the block, if not before."""
        options = QUIET | options
        with subprocess.Popen([*MORTAL, *map(str, argv)], **options) as process:
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(2)
                except subprocess.TimeoutExpired:
                    process.kill()

    def feed(self, *argv: str | Path, lines: Iterable[str], gap: Callable[[], float]) -> None:
        """Run a process that gets one line after the other, ``gap()`` seconds apart."""
        with self.popen(*argv, stdin=subprocess.PIPE, text=True, bufsize=1) as process:
            for line in lines:
                print(line, file=process.stdin)
                self.pause(gap())
                if self.left <= 0:
                    break

    def run(self, *argv: str | Path, **options: Any) -> str:
        """Run a command to its end and return what it wrote."""
        with self.popen(*argv, **PIPES, **options) as process:
            return _finish(process, argv[0], self.left + 10)


PIPES: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "text": True,
}
QUIET: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}


def _finish(process: Popen, name: str | Path, seconds: float) -> str:
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    if process.returncode:
        raise LabError(f"ended with {process.returncode}: {said[-300:]}", where=Path(name).name)
    return str(said)


def trusting(authority: Path) -> ssl.SSLContext:
    """TLS of a client that calls servers by their address."""
    made = ssl.create_default_context(cafile=str(authority))
    made.check_hostname = False
    return made


def await_path(path: Path, seconds: float = 15) -> None:
    """Wait until a server has made its socket."""
    until = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > until:
            raise LabError(f"not there after {seconds:.0f} s", where=str(path))
        time.sleep(0.05)


@contextmanager
def scratch_directory(parent: Path | None = None) -> Iterator[Path]:
    """A directory every user may pass through, as some servers give up being root."""
    made = Path(tempfile.mkdtemp(prefix="llmflow-", dir=parent))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
