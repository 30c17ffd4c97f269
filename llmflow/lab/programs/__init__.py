"""Genuine programs as traffic: a server in the server's namespace, visits from the clients'.

One file per program with a tuple ``PROGRAMS``; a leading _ marks helpers. :func:`start` brings a
server up; ``python -m llmflow.lab.programs CONFIG.json`` plays the visits of one access path
(:mod:`llmflow.lab.programs.config`).
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from llmflow.errors import LabError
from llmflow.lab.programs._place import ClientPlace, Popen, ServerPlace

__all__ = ["ClientPlace", "Program", "ServerPlace", "missing", "programs", "start"]

READY = 30.0  # seconds a server may take to listen
NEEDS = ("setpriv", "ss")  # executables, whatever the program


@dataclass(frozen=True, slots=True)
class Program:
    """A genuine program with a server and a client side.

    Parameters
    ----------
    name : str
        Unique, also among the kinds; words joined by hyphens.
    label : str
        What its connections are: ``other``, or ``llm-vpn`` for a tunnel around one LLM stream.
    category : str
        Family it is reported under.
    needs : tuple of str
        Executables of both sides.
    modules : tuple of str
        Python modules of the client's side, imported before visits are forked.
    ports : tuple of (str, int)
        Protocol (``tcp``, ``udp``) and port on which the server listens once it is ready; no
        other program has it.
    serve : callable
        ``serve(place)`` starts the servers and returns their processes, the last started last.
    visit : callable
        ``visit(place)`` plays one session of a client; raises if it fails.
    """

    name: str
    label: str
    category: str
    needs: tuple[str, ...]
    modules: tuple[str, ...]
    ports: tuple[tuple[str, int], ...]
    serve: Callable[[ServerPlace], list[Popen]]
    visit: Callable[[ClientPlace], None]


@lru_cache(maxsize=1)
def programs() -> dict[str, Program]:
    """All programs by name."""
    found: dict[str, Program] = {}
    files = sorted(module.name for module in pkgutil.iter_modules(__path__))
    for file in (name for name in files if not name.startswith("_") and name != "config"):
        for program in importlib.import_module(f"{__name__}.{file}").PROGRAMS:
            if program.name in found:
                raise ValueError(f"two programs are called {program.name}")
            found[program.name] = program
    return found


def missing(program: Program) -> list[str]:
    """Executables and modules a program needs and does not find here."""
    absent = [name for name in NEEDS + program.needs if not shutil.which(name)]
    packages = {name.partition(".")[0] for name in program.modules}
    return absent + sorted(name for name in packages if not importlib.util.find_spec(name))


def start(program: Program, place: ServerPlace) -> list[Popen]:
    """Start a program's server and wait until it listens.

    Parameters
    ----------
    program : Program
        The program.
    place : ServerPlace
        Where its server runs.

    Returns
    -------
    list of subprocess.Popen
        The server's processes, for the caller to end.

    Raises
    ------
    LabError
        If a process ends, or half a minute passes, before the server listens.
    """
    processes = program.serve(place)
    waits_until = time.monotonic() + READY
    while not _listens(program, place):
        ended = [process for process in processes if process.poll() is not None]
        if ended or time.monotonic() > waits_until:
            for process in processes:
                process.kill()
            log = place.scratch / "log"  # goes with the run
            said = log.read_text(errors="replace").strip()[-300:] if log.exists() else ""
            what = "the server ended at once" if ended else f"no server after {READY:.0f} s"
            raise LabError(f"{what}: {said}", where=program.name, hint="see `llmflow lab doctor`")
        time.sleep(0.1)
    return processes


def _listens(program: Program, place: ServerPlace) -> bool:
    # The kernel's table rather than a connection, which would be traffic nobody planned.
    rows = [line.split() for line in place.run("ss", "-Hltun").splitlines()]
    bound = {(row[0], *row[4].rsplit(":", 1)) for row in rows}
    return all(
        any((protocol, host, str(port)) in bound for host in (address, "0.0.0.0", "*"))  # noqa: S104
        for protocol, port in program.ports
        for address in place.addresses
    )
