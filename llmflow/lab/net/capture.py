"""One capture over all access paths, taken in the router."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from llmflow.errors import LabError
from llmflow.lab.net.processes import failed
from llmflow.lab.net.topology import Topology, tap

BUFFER = 64  # MiB of the kernel, for each interface
PRIORITY = 12  # SCHED_FIFO, above all that sends: what it misses is missed for good
SETTLE = 0.5  # seconds until packets seen by the kernel have reached the program
PATIENCE = 30  # seconds for the rest of a large capture to be written
COUNTS = re.compile(r"received/dropped on interface '([^']+)': (\d+)/(\d+)")


@dataclass(slots=True)
class Capture:
    """Captures what passes while the ``with`` block runs, as pcapng with nanoseconds.

    Packets of one path stand in the order of time; those of different paths need not, by some
    tenths of a second.

    Parameters
    ----------
    net : Topology
        Whose router it runs in.
    file : pathlib.Path
        Where the capture goes.
    taps : mapping, optional
        ``client`` or ``server`` by name of a path: the side of its impairment where packets are
        seen. ``server`` where nothing is said: as in front of the servers.
    snaplen : int
        Bytes kept of each packet; 0: all.

    Attributes
    ----------
    received, dropped : dict
        After the block: packets captured and missed, by interface.

    Raises
    ------
    LabError
        If the program cannot start, or ends before its time.
    """

    net: Topology
    file: Path
    taps: Mapping[str, str] = field(default_factory=dict)
    snaplen: int = 0
    received: dict[str, int] = field(default_factory=dict, init=False)
    dropped: dict[str, int] = field(default_factory=dict, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        interfaces = [tap(path, self.taps.get(path, "server")) for path in self.net.paths]
        options = ["-B", str(BUFFER), "-s", str(self.snaplen)]
        options += [word for interface in interfaces for word in ("-i", interface)]
        try:  # the program may not be allowed to make the file, so it gets it open
            with self.file.open("wb") as output:
                self._process = self.net.router.popen(
                    ["dumpcap", "-q", *options, "-w", "-"],
                    priority=PRIORITY,
                    stdout=output,
                    stderr=subprocess.PIPE,
                )
        except OSError as error:
            raise LabError(
                f"the capture cannot be written: {error.strerror}",
                where=str(self.file),
                hint="choose another folder",
            ) from None
        # It opens its interfaces before it names its file.
        if not any(line.startswith(b"File:") for line in self._process.stderr or ()):
            raise failed(self._process, "did not start")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is None:
            return
        time.sleep(SETTLE)
        self._process.send_signal(signal.SIGINT)
        _, said = self._process.communicate(timeout=PATIENCE)
        if self._process.returncode:
            raise failed(self._process, "ended before its time")
        for interface, received, dropped in COUNTS.findall(said.decode(errors="replace")):
            self.received[interface], self.dropped[interface] = int(received), int(dropped)
