"""Network namespaces of a run: commands in them, and how nothing of them stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmflow.errors import LabError
from llmflow.lab.net.processes import run

NAMESPACES, FILES = Path("/run/netns"), Path("/etc/netns")
ROUNDS, PAUSE = 250, 0.02  # of killing processes, and seconds in between


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace with addresses, in which commands can be run.

    Parameters
    ----------
    namespace : str
        Its name, as ``ip netns`` shows it.
    addresses : tuple of str
        Its IPv4 addresses.
    real_time : bool
        Whether priorities can be given; without permission they are left out.
    """

    namespace: str
    addresses: tuple[str, ...] = ()
    real_time: bool = False

    def command(
        self, argv: Sequence[str], *, gid: int | None = None, priority: int = 0
    ) -> list[str]:
        """Give the command that runs ``argv`` here; it keeps its process id."""
        command = ["ip", "netns", "exec", self.namespace]
        if priority and self.real_time:
            command += ["chrt", "--fifo", str(priority)]
        if gid is not None:
            command += ["setpriv", "--regid", str(gid), "--keep-groups"]
        return [*command, *argv]

    def popen(
        self,
        argv: Sequence[str],
        *,
        gid: int | None = None,
        priority: int = 0,
        env: Mapping[str, str] | None = None,
        **options: Any,  # noqa: ANN401 - those of Popen
    ) -> subprocess.Popen[Any]:
        """Start a program here.

        Parameters
        ----------
        argv : sequence of str
            Program and arguments; no shell is involved.
        gid : int, optional
            Group it runs as, which becomes the mark of its connections.
        priority : int
            1 to 99: ``SCHED_FIFO`` of this priority; 0: usual scheduling.
        env : mapping, optional
            Variables on top of those of this process.
        **options
            Of :class:`subprocess.Popen`. If nothing else is said, standard input is empty, and
            the program gets a session of its own, so that Ctrl-C reaches the lab alone.
        """
        return subprocess.Popen(
            self.command(argv, gid=gid, priority=priority),
            env={**os.environ, **(env or {})},
            **{"stdin": subprocess.DEVNULL, "start_new_session": True, **options},
        )

    def run(
        self, argv: Sequence[str], *, gid: int | None = None, stdin: str = "", timeout: float = 30
    ) -> str:
        """Run a program to its end and give its standard output.

        Raises
        ------
        LabError
            If it fails, is missing or takes longer than ``timeout`` seconds.
        """
        return run(self.command(argv, gid=gid), stdin=stdin, timeout=timeout)

    def ip(self, lines: Iterable[str]) -> None:
        """Run commands of ``ip`` here, all in one process."""
        run(["ip", "-netns", self.namespace, "-batch", "-"], stdin="\n".join(lines) + "\n")


def ask_real_time(priority: int) -> bool:
    """Ask for real-time scheduling of this process; whether it was granted."""
    if not hasattr(os, "sched_setscheduler"):  # not Linux
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        return False
    return True


def real_time_allowed() -> bool:
    """Whether this process may use real-time scheduling; it goes on as it was."""
    if not hasattr(os, "sched_setscheduler"):
        return False
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    allowed = ask_real_time(1)
    os.sched_setscheduler(0, policy, param)
    return allowed


def remove(prefix: str) -> None:
    """Kill what runs in the namespaces of this prefix, and delete them and their files.

    Raises
    ------
    LabError
        If processes survive or a namespace cannot be deleted.
    """
    names = [path.name for path in NAMESPACES.glob(f"{prefix}*")]
    for _ in range(ROUNDS):
        alive = [pid for name in names for pid in run(["ip", "netns", "pids", name]).split()]
        if not alive:
            break
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(PAUSE)
    else:
        raise LabError(f"processes {' '.join(alive)} do not end", where=prefix)
    for name in names:
        run(["ip", "netns", "delete", name])
    for path in FILES.glob(f"{prefix}*"):
        shutil.rmtree(path)
