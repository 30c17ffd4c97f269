"""Kernel labels: which group opened which connection, without help from any program.

In the namespace of a client, a rule of nftables copies the group of the socket that opens a
connection into the mark of the connection, and ``conntrack`` tells of each new connection.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from tempfile import TemporaryFile
from typing import IO, Self, TypedDict

from llmflow.lab.net.namespaces import Host
from llmflow.lab.net.processes import failed

# Of several groups and marks, the types differ: only a map turns one into the other.
RULES = """
table inet llmflow {{
  map marks {{ type gid : mark; elements = {{ {marks} }} }}
  chain opened {{
    type filter hook output priority mangle; policy accept;
    ct state new ct mark set meta skgid map @marks
  }}
}}
"""
EVENTS = "net.netfilter.nf_conntrack_events=1"
BUFFER = 8 << 20  # bytes; events that do not fit are lost
PRIORITY = 6  # above servers and clients: times are taken when an event is read
SETTLE = 0.2  # seconds until the last events have been read
PATIENCE = 10.0  # seconds
LINE = re.compile(
    r"\[(?P<time>\d+\.\d+)\s*\]\s+\[NEW\]\s+ipv[46]\s+\d+\s+(?P<protocol>tcp|udp)\s.*?"
    r"src=(?P<client_ip>\S+) dst=(?P<server_ip>\S+)"
    r" sport=(?P<client_port>\d+) dport=(?P<server_port>\d+)(?:.*?\bmark=(?P<mark>\d+))?"
)


class Mark(TypedDict):
    """A connection that began, and the group of the program that opened it (0: unknown).

    ``time`` is when it was told of, unix seconds: a little after its first packet.
    """

    protocol: str
    client_ip: str
    client_port: int
    server_ip: str
    server_port: int
    mark: int
    time: float


def rules(groups: Iterable[int]) -> str:
    """Rules for nftables that mark connections with the group that opens them."""
    return RULES.format(marks=", ".join(f"{group} : {group}" for group in groups))


def parse(lines: Iterable[str]) -> Iterator[Mark]:
    """Read what ``conntrack -E -e NEW -o timestamp,extended`` says; other lines are passed over."""
    for line in lines:
        if found := LINE.match(line):
            yield Mark(
                protocol=found["protocol"],
                client_ip=found["client_ip"],
                client_port=int(found["client_port"]),
                server_ip=found["server_ip"],
                server_port=int(found["server_port"]),
                mark=int(found["mark"] or 0),
                time=float(found["time"]),
            )


class Marks:
    """Labels the connections of some hosts while the ``with`` block runs.

    Parameters
    ----------
    hosts : sequence of Host
        Namespaces of clients.
    groups : iterable of int
        Groups (gid) that programs run under there; connections of others have mark 0.

    Attributes
    ----------
    records : list of Mark
        After the block: the connections, in order of time. A UDP flow that was silent for longer
        than the kernel remembers it (30 to 120 s) is told of again.

    Raises
    ------
    LabError
        If a program cannot start, or events were lost.
    """

    def __init__(self, hosts: Sequence[Host], groups: Iterable[int]) -> None:
        self.hosts, self.groups = hosts, sorted({0, *groups})
        self.records: list[Mark] = []
        self._watchers: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []

    def __enter__(self) -> Self:
        for host in self.hosts:
            host.run(["sysctl", "-qw", EVENTS])
            host.run(["nft", "-f", "-"], stdin=rules(self.groups))
            log = TemporaryFile()
            watcher = host.popen(
                ["conntrack", "-E", "-e", "NEW", "-o", "timestamp,extended", "-b", str(BUFFER)],
                priority=PRIORITY,
                stdout=log,
                stderr=subprocess.PIPE,
            )
            # It has subscribed to events when it says how large its buffer is.
            if not any(b"buffer size" in line for line in watcher.stderr or ()):
                raise failed(watcher, "did not start")
            self._watchers.append((watcher, log))
        return self

    def __exit__(self, *exc: object) -> None:
        time.sleep(SETTLE)
        for watcher, log in self._watchers:
            watcher.terminate()
            _, said = watcher.communicate(timeout=PATIENCE)
            if watcher.returncode or b"ENOBUFS" in said:
                raise failed(watcher, "lost events")
            log.seek(0)
            self.records += parse(line.decode("ascii", "replace") for line in log)
            log.close()
        self.records.sort(key=itemgetter("time"))
