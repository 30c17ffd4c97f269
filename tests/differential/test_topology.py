"""The lab's network, as ping, TCP, tshark and the kernel's tables see it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from llmflow.errors import LabError
from llmflow.lab.net.capture import Capture
from llmflow.lab.net.impairment import Direction
from llmflow.lab.net.marks import Marks
from llmflow.lab.net.paths import AccessPath
from llmflow.lab.net.topology import Topology

PROGRAMS = ("ip", "ethtool", "sysctl", "nft", "conntrack", "dumpcap", "tshark", "ping", "setpriv")
missing = [program for program in PROGRAMS if not shutil.which(program)]
pytestmark = [
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}"),
]

SLOW = AccessPath("slow", Direction(delay_s=0.02), Direction(delay_s=0.02))
FAST = AccessPath("fast", Direction(), Direction(), congestion="bbr")
GROUP, SIZE = 23456, 200_000
SEND = """
import socket
with socket.create_server(("{address}", 443)) as server:
    talk, _ = server.accept()
    with talk:
        talk.sendall(bytes({size}))
"""
FETCH = """
import socket, time
for attempt in range(100):
    try:
        talk = socket.create_connection(("api.example", 443))
        break
    except ConnectionRefusedError:
        time.sleep(0.05)
print(talk.getsockname()[1], talk.getsockopt(6, 13, 16).decode().strip(chr(0)))
print(sum(len(part) for part in iter(lambda: talk.recv(65536), b"")))
"""
KILLED = """
import time
from llmflow.lab.net.paths import PATHS
from llmflow.lab.net.topology import Topology
with Topology([PATHS["campus"]]) as net:
    sleeper = net.client("campus").popen(["sleep", "600"])
    print(net.server.namespace, sleeper.pid, flush=True)
    time.sleep(600)
"""


def left(namespace: str) -> list[Path]:
    """What there still is of the run that this namespace belongs to."""
    run = namespace.rsplit("-", 1)[0]
    return [path for where in ("/run/netns", "/etc/netns") for path in Path(where).glob(f"{run}-*")]


def test_packets_are_delayed_captured_and_labelled_and_nothing_stays(tmp_path: Path) -> None:
    """One run of everything: two paths, their delays, a transfer, its capture and its label."""
    file = tmp_path / "capture.pcapng"
    with Topology([SLOW, FAST], names={"api.example": 3}) as net:
        clients = [net.client("slow"), net.client("fast")]
        with Capture(net, file, {"slow": "client"}) as capture, Marks(clients, [GROUP]) as marks:
            ping = clients[0].run(["ping", "-c", "2", "-i", "0.1", "api.example"])
            server = net.addresses("fast")[3]
            sender = net.server.popen(
                [sys.executable, "-c", SEND.format(address=server, size=SIZE)], priority=5
            )
            fetched = clients[1].run([sys.executable, "-c", FETCH], gid=GROUP).split()
            assert sender.wait(10) == 0
        net.check()
    shortest = float(ping.split("min/avg/max/mdev = ")[1].split("/")[0])
    assert shortest >= 40
    port, congestion, size = fetched
    assert (congestion, int(size)) == ("bbr", SIZE)
    labels = [(r["client_ip"], r["client_port"], r["server_ip"], r["mark"]) for r in marks.records]
    assert ("10.81.0.1", int(port), server, GROUP) in labels
    assert sum(capture.dropped.values()) == 0
    assert capture.received["slow-c"] == 4, "both pings, both ways, on the client's side"
    fields = ["-T", "fields", "-e", "frame.interface_name", "-e", "tcp.len", "-e", "frame.len"]
    checked: list[str | Path] = ["tshark", "-r", file, "-o", "tcp.check_checksum:TRUE"]
    seen = subprocess.run(
        [*checked, "-Y", "tcp && tcp.checksum.status == Good", *fields],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    rows = [line.split("\t") for line in seen]
    assert {row[0] for row in rows} == {"fast-s"}
    assert sum(int(row[1]) for row in rows) == SIZE
    assert max(int(row[2]) for row in rows) <= 1514, "offloads are off"
    assert net.statistics["slow"]["up"]["rx"] == net.statistics["slow"]["up"]["tx"] == 2
    assert not left(net.server.namespace)


def test_frames_above_the_mtu_pass_where_offloads_are_on(tmp_path: Path) -> None:
    """The bridge hands on what is left to do: checksums and segments."""
    with (
        Topology([FAST], names={"api.example": 0}, offload=True) as net,
        Capture(net, tmp_path / "x.pcapng") as capture,
    ):
        source = SEND.format(address=net.addresses("fast")[0], size=SIZE)
        sender = net.server.popen([sys.executable, "-c", source])
        assert net.client("fast").run([sys.executable, "-c", FETCH]).split()[2] == str(SIZE)
        assert sender.wait(10) == 0
    assert 0 < net.statistics["fast"]["down"]["rx"] < SIZE / 1448
    assert sum(capture.received.values()) > 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_of_a_killed_lab_stays(how: signal.Signals) -> None:
    """The kernel closes the pipe to the guardian, whatever happens to the lab."""
    lab = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # where Ctrl-C is told of
        text=True,
    )
    assert lab.stdout is not None
    namespace, sleeper = lab.stdout.readline().split()
    assert left(namespace)
    lab.send_signal(how)
    lab.communicate()
    for _ in range(100):
        if not left(namespace):
            break
        time.sleep(0.1)
    assert not left(namespace)
    assert not Path(f"/proc/{sleeper}/exe").exists()


def test_a_step_that_fails_undoes_those_before_it() -> None:
    broken = AccessPath("broken", Direction(), Direction())
    object.__setattr__(broken, "congestion", "none-such")
    net = Topology([FAST, broken])
    with pytest.raises(LabError, match="congestion"), net:
        pass
    assert not left(net.server.namespace)


def test_a_bridge_that_died_fails_the_run() -> None:
    net = Topology([FAST])
    stack = ExitStack()
    stack.enter_context(net)
    net._bridges["fast"].kill()
    net._bridges["fast"].wait()
    with pytest.raises(LabError, match="fast: the bridge ended"):
        net.check()
    with pytest.raises(LabError, match="died"):
        stack.close()
    assert not left(net.server.namespace)
