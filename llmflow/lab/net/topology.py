"""The namespaces of a run and the wires between them.

::

    client of path 0 ── 0-c ┐ bridge ┌ 0-s ──┐
    client of path 1 ── 1-c ┤ router ├ 1-s ──┤ server
    …

Both ends of path i share the subnet 10.(80+i).0.0/16: a client has 10.(80+i).0.1 to 0.32, the
server 10.(80+i).1.1 to 1.32, one for each server software, so that all can listen on port 443.
Every run has namespaces of its own, so runs can go on side by side.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from llmflow.errors import LabError
from llmflow.lab.net import bridge, guardian
from llmflow.lab.net.namespaces import FILES, Host, real_time_allowed
from llmflow.lab.net.paths import AccessPath
from llmflow.lab.net.processes import failed, python, run, wait_ready

FIRST_NET, MOST_PATHS = 80, 100
HOSTS = range(1, 33)
INTERFACE = "eth0"  # of a client
HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9.-]{1,253}")
PATIENCE = 10.0  # seconds for a process to start or stop
# Segmentation and checksums done by nobody make frames above the MTU with wrong checksums.
OFFLOADS = ("tx", "rx", "sg", "tso", "gso", "gro", "tx-udp-segmentation")


def client_addresses(index: int) -> tuple[str, ...]:
    """Addresses of the client of a path, by the path's place in the topology."""
    return tuple(f"10.{FIRST_NET + index}.0.{host}" for host in HOSTS)


def server_addresses(index: int) -> tuple[str, ...]:
    """Addresses of the server on a path, by the path's place in the topology."""
    return tuple(f"10.{FIRST_NET + index}.1.{host}" for host in HOSTS)


def tap(path: str, side: str) -> str:
    """Interface of the router on a path, on the ``client`` or the ``server`` side of its bridge."""
    return f"{path}-{side[0]}"


class Topology:
    """A server, a router and one client for each access path, while the ``with`` block runs.

    Whatever ends the block or this process, all processes in the namespaces are killed, and the
    namespaces and their files are deleted.

    Parameters
    ----------
    paths : sequence of AccessPath
        At most 100, with different names.
    seed : int
        Of losses and delays.
    names : mapping, optional
        Host names the clients know, and the place (0 to 31) of the server address behind each.
    resolver : int, optional
        Place of the server address that the clients ask for other names; none by default.
    offload : bool
        Leave offloads on: frames above the MTU appear, and impairment hits them whole.

    Attributes
    ----------
    server, router : Host
        Where servers run, and where packets can be captured.
    real_time : bool
        Whether priorities are allowed; without them, timing suffers under load.
    statistics : dict
        After the block: what the bridge of each path did, by name.

    Raises
    ------
    LabError
        Without root or the programs for it, or if a path or name cannot be used.
    """

    def __init__(
        self,
        paths: Sequence[AccessPath],
        *,
        seed: int = 0,
        names: Mapping[str, int] | None = None,
        resolver: int | None = None,
        offload: bool = False,
    ) -> None:
        self.paths = {path.name: path for path in paths}
        if not 0 < len(self.paths) == len(paths) <= MOST_PATHS:
            raise LabError(f"a lab has 1 to {MOST_PATHS} access paths of different names")
        for name, place in (names or {}).items():
            if not HOSTNAME.fullmatch(name) or not 0 <= place < len(HOSTS):
                raise LabError(f"{name!r} cannot be a name of server address {place}")
        self.seed, self.names, self.resolver = seed, dict(names or {}), resolver
        self.offload = offload
        self.real_time = real_time_allowed()
        self.statistics: dict[str, dict[str, Any]] = {}
        self._prefix = f"llmflow-{secrets.token_hex(3)}-"
        everywhere = tuple(a for index in range(len(paths)) for a in server_addresses(index))
        self.server = Host(f"{self._prefix}server", everywhere, self.real_time)
        self.router = Host(f"{self._prefix}router", (), self.real_time)
        self._clients = {
            name: Host(f"{self._prefix}at-{name}", client_addresses(index), self.real_time)
            for index, name in enumerate(self.paths)
        }
        self._bridges: dict[str, subprocess.Popen[bytes]] = {}
        self._cleanup = ExitStack()

    def client(self, path: str) -> Host:
        """Where the clients of an access path run."""
        return self._clients[path]

    def addresses(self, path: str) -> tuple[str, ...]:
        """Addresses of the server that the clients of an access path reach."""
        return server_addresses(list(self.paths).index(path))

    def __enter__(self) -> Self:
        if sys.platform != "linux" or os.geteuid() != 0:
            raise LabError(
                "the traffic lab makes network namespaces", hint="run it on Linux and as root"
            )
        with self._cleanup:  # of what there is by then, should a step fail
            self._cleanup.callback(_dismiss, self._guard())
            self._cleanup.callback(self._stop_bridges)
            self._make()
            self._cleanup = self._cleanup.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._cleanup.close()

    def check(self) -> None:
        """Raise LabError if a bridge has died."""
        for name, process in self._bridges.items():
            if process.poll() is not None:
                raise LabError(f"the bridge ended with code {process.returncode}", where=name)

    def _make(self) -> None:
        ends = [end for name in self.paths for end in self._ends(name)]
        hosts = (self.server, self.router, *self._clients.values())
        run(
            ["ip", "-batch", "-"],
            stdin="".join(
                [f"netns add {host.namespace}\n" for host in hosts]
                + [
                    f"link add {end.tap} netns {self.router.namespace} type veth peer name"
                    f" {end.interface} address {end.mac} netns {end.host.namespace}\n"
                    for end in ends
                ]
            ),
        )
        for host in hosts:
            self._quiet(
                host,
                [end.tap for end in ends]
                if host is self.router
                else [end.interface for end in ends if end.host is host],
            )
        for index, (name, path) in enumerate(self.paths.items()):
            client, server = self._ends(name)
            _connect(client, server, path.congestion)
            _connect(server, client, path.congestion)
            self._write_files(client.host, server.addresses)
            self._bridges[name] = wait_ready(
                self.router.popen(
                    python(
                        bridge.__name__,
                        client.tap,
                        server.tap,
                        bridge.arguments(path, self.seed + 2 * index),
                    ),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )

    def _ends(self, name: str) -> tuple[_End, _End]:
        """Both ends of a path: client, server."""
        index = list(self.paths).index(name)
        mac = f"02:00:00:00:{index:02x}"
        client, there = self._clients[name], server_addresses(index)
        return (
            _End(client, INTERFACE, tap(name, "client"), client.addresses, f"{mac}:01"),
            _End(self.server, f"at-{name}", tap(name, "server"), there, f"{mac}:02"),
        )

    def _quiet(self, host: Host, interfaces: list[str]) -> None:
        """Bring interfaces up, without IPv6 and offloads."""
        # What one connection lost does not slow down the next one to the same address.
        settings = ["net.ipv4.tcp_no_metrics_save=1"]
        if Path("/proc/sys/net/ipv6").exists():
            settings += [f"net.ipv6.conf.{which}.disable_ipv6=1" for which in ("all", "default")]
        host.run(["sysctl", "-qw", *settings])
        if not self.offload:
            off = [word for feature in OFFLOADS for word in (feature, "off")]
            for interface in interfaces:
                host.run(["ethtool", "-K", interface, *off])
        host.ip(f"link set {interface} up" for interface in ("lo", *interfaces))

    def _write_files(self, host: Host, servers: tuple[str, ...]) -> None:
        """What ``ip netns exec`` shows as /etc/hosts and /etc/resolv.conf."""
        folder = FILES / host.namespace
        folder.mkdir(parents=True)
        lines = [f"{servers[place]} {name}\n" for name, place in self.names.items()]
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(lines))
        # Nothing listens on the loopback address, so that other names fail at once.
        resolver = "127.0.0.1" if self.resolver is None else servers[self.resolver]
        (folder / "resolv.conf").write_text(f"nameserver {resolver}\n")

    def _guard(self) -> subprocess.Popen[bytes]:
        return wait_ready(
            subprocess.Popen(
                python(guardian.__name__, self._prefix),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        )

    def _stop_bridges(self) -> None:
        for name, process in self._bridges.items():
            output, _ = process.communicate(timeout=PATIENCE)
            if process.returncode:
                raise failed(process, "died")
            self.statistics[name] = json.loads(output)


class _End(NamedTuple):
    """One end of a path."""

    host: Host
    interface: str
    tap: str
    addresses: tuple[str, ...]
    mac: str


def _connect(own: _End, peer: _End, congestion: str) -> None:
    """Give one end its addresses, a route with congestion control, and neighbours without ARP."""
    device = f"dev {own.interface}"
    net = f"{own.addresses[0].rsplit('.', 2)[0]}.0.0/16"
    how = f"src {own.addresses[0]} congctl {congestion}"
    own.host.ip(
        [
            *(f"address add {address}/16 {device}" for address in own.addresses),
            f"route replace {net} {device} proto kernel scope link {how}",
            *(f"neighbour add {address} lladdr {peer.mac} {device}" for address in peer.addresses),
        ]
    )


def _dismiss(process: subprocess.Popen[bytes]) -> None:
    """Let the guardian clean up."""
    process.communicate(guardian.GOODBYE, PATIENCE)
    if process.returncode:
        raise failed(process, "left something behind")
