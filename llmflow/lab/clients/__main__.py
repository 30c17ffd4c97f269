"""Run the clients of one access path: load once, then one process for each kind of traffic.

Kinds have processes of their own because the kernel's label of a connection is the group of the
process that opened it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections import defaultdict
from pathlib import Path
from types import FrameType

import uvloop

from llmflow.errors import LabError, LlmflowError
from llmflow.lab.clients.config import ClientConfig
from llmflow.lab.clients.play import CLIENTS, client_of, play
from llmflow.lab.kinds import kinds
from llmflow.lab.plan import read_plan
from llmflow.lab.script import Session


def run(config: ClientConfig) -> int:
    """Play all sessions of the path that clients of this package play; how many processes failed.

    Raises
    ------
    LabError
        The plan has a server that the configuration lacks.
    """
    groups: dict[str, list[Session]] = defaultdict(list)
    for session in sorted(read_plan(Path(config.plan)), key=lambda item: item.start):
        if session.path != config.path or session.client not in CLIENTS:
            continue
        if session.front not in config.servers:
            raise LabError("has no server in the configuration", where=session.front, hint="add it")
        client_of(session)  # loads its software
        groups[session.kind].append(session)
    kinds()
    gc.collect()
    gc.freeze()
    children = [_fork(config, kind, sessions) for kind, sessions in groups.items()]

    def stop(number: int, _: FrameType | None) -> None:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if config.ready:
        Path(config.ready).write_text(f"{os.getpid()}\n")
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


def _fork(config: ClientConfig, kind: str, sessions: list[Session]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        if kind in config.gids:
            os.setgid(config.gids[kind])
        uvloop.run(play(config, sessions))
        status = 0
    except BaseException as error:  # noqa: BLE001 - nothing of the parent may run in the child
        sys.stderr.write(f"llmflow.lab.clients: {kind}: {error!r}\n")
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Start as the command line says: one argument, the configuration."""
    try:
        failed = run(ClientConfig.from_json(Path(sys.argv[1])))
    except (LlmflowError, IndexError, OSError) as error:
        sys.exit(f"llmflow.lab.clients: {error}")
    if failed:
        sys.exit(f"llmflow.lab.clients: {failed} processes failed; see above")


if __name__ == "__main__":
    main()
