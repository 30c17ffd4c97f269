"""A bridge between two interfaces that impairs what passes: one process per access path.

It stands in for ``sch_netem``, which many kernels lack. Frames are read from and written to raw
sockets with their offload header, so frames larger than the MTU pass too where offloads are on.

``python -m llmflow.lab.net.bridge CLIENT-INTERFACE SERVER-INTERFACE JSON`` runs until standard
input ends, says ``ready`` on standard output when it forwards, and ends with a line of counters.
JSON has ``up``, ``down`` (fields of a direction) and ``seed``.
"""

from __future__ import annotations

import ctypes
import gc
import json
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import asdict
from heapq import heappop, heappush
from select import select
from time import monotonic_ns
from typing import TYPE_CHECKING

from llmflow.errors import LabError
from llmflow.lab.net.impairment import SECOND, Link
from llmflow.lab.net.namespaces import ask_real_time
from llmflow.lab.net.paths import AccessPath, direction
from llmflow.lab.net.processes import READY, say

if TYPE_CHECKING:
    from collections.abc import Mapping

# From the kernel's headers; Python does not name them.
SOL_PACKET = 263
PACKET_STATISTICS, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 6, 15, 23
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
PR_SET_TIMERSLACK = 29
ETH_P_ALL = 3

OFFLOAD_HEADER = 10  # virtio_net_hdr: checksum and segmentation left to do
ETHERTYPE = slice(OFFLOAD_HEADER + 12, OFFLOAD_HEADER + 14)
ARP = b"\x08\x06"
BUFFER = 32 << 20
LARGEST = OFFLOAD_HEADER + 14 + 65_535 + 4
BURST = 64  # frames read before deadlines are looked at again
PRIORITY = 10  # above the servers and clients, whose packets it must not delay


def arguments(path: AccessPath, seed: int) -> str:
    """JSON for a bridge process of this path."""
    return json.dumps({"up": asdict(path.up), "down": asdict(path.down), "seed": seed})


class Way:
    """One direction through the bridge, and what happened to its frames."""

    def __init__(self, source: socket.socket, target: socket.socket, link: Link) -> None:
        self.source, self.target, self.link = source, target, link
        self.rx = self.tx = self.unsent = self.late_sum = self.late_max = 0

    def send(self, frame: bytes, late: int) -> None:
        try:
            self.target.send(frame)
        except OSError:  # a full buffer, an interface that went away
            self.unsent += 1
            return
        self.tx += 1
        self.late_sum += late
        self.late_max = max(self.late_max, late)

    def counters(self) -> dict[str, float]:
        _, missed = struct.unpack("II", self.source.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        return {
            "rx": self.rx,
            "tx": self.tx,
            "lost": self.link.lost,
            "queue_drops": self.link.queue_drops,
            "reordered": self.link.reordered,
            "duplicated": self.link.duplicated,
            "missed": missed,
            "unsent": self.unsent,
            "late_mean_s": self.late_sum / max(self.tx, 1) / SECOND,
            "late_max_s": self.late_max / SECOND,
        }


def forward(ways: Mapping[socket.socket, Way], stop: int) -> int:
    """Pass frames on until ``stop`` can be read; how many are still on the way then."""
    waiting: list[tuple[int, int, Way, bytes]] = []
    sources: list[socket.socket | int] = [*ways, stop]
    order = 0  # of frames released at the same time
    while True:
        wait = max(0, waiting[0][0] - monotonic_ns()) / SECOND if waiting else None
        readable, _, _ = select(sources, [], [], wait)
        for source in readable:
            if not isinstance(source, socket.socket):
                return len(waiting)
            way = ways[source]
            with suppress(BlockingIOError):
                for _ in range(BURST):
                    frame = source.recv(LARGEST)
                    now = monotonic_ns()
                    way.rx += 1
                    if frame[ETHERTYPE] == ARP:  # a lost one would stall a path for a second
                        way.send(frame, 0)
                        continue
                    for release in way.link.offer(now, len(frame) - OFFLOAD_HEADER):
                        order += 1
                        heappush(waiting, (release, order, way, frame))
        while waiting and waiting[0][0] <= (now := monotonic_ns()):
            release, _, way, frame = heappop(waiting)
            way.send(frame, now - release)


def raw_socket(interface: str) -> socket.socket:
    """Every frame that comes in on an interface, and the way out through it."""
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    # No PACKET_QDISC_BYPASS: capture programs would not see what is sent.
    raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    raw.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
    raw.setblocking(False)
    raw.bind((interface, ETH_P_ALL))
    return raw


def be_punctual() -> bool:
    """Ask for exact timers and real-time scheduling; whether the latter was granted."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(1), 0, 0, 0)
    gc.disable()  # nothing here makes cycles
    return ask_real_time(PRIORITY)


def main(client: str, server: str, config: str) -> None:
    """Bridge two interfaces until standard input ends."""
    plan = json.loads(config)
    left, right = raw_socket(client), raw_socket(server)
    up = Way(left, right, Link(direction(plan["up"]), plan["seed"]))
    down = Way(right, left, Link(direction(plan["down"]), plan["seed"] + 1))
    real_time = be_punctual()
    say(READY)
    on_the_way = forward({left: up, right: down}, sys.stdin.fileno())
    counters = {"up": up.counters(), "down": down.counters()}
    say(json.dumps(counters | {"on_the_way": on_the_way, "real_time": real_time}))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (LabError, OSError) as error:
        sys.exit(f"bridge: {error}")
