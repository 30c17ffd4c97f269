"""What this machine lacks for the traffic lab, and what to do about it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from llmflow.errors import LabError
from llmflow.lab.net.marks import rules
from llmflow.lab.net.namespaces import real_time_allowed
from llmflow.lab.net.paths import CONGESTION
from llmflow.lab.programs import programs

ALL = "every run"
PACKAGES = "pip install 'llmflow[lab]'"
EXTRA = re.compile(r"extra == ['\"]lab['\"]")
AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")

# Programs of the lab itself: what they are needed for.
TOOLS = {
    "ip": ALL,
    "ethtool": ALL,
    "sysctl": ALL,
    "ss": ALL,
    "setpriv": ALL,
    "chrt": ALL,
    "nft": ALL,
    "conntrack": ALL,
    "dumpcap": ALL,
    "tshark": "checking a run",
    "nginx": "front nginx",
    "caddy": "front caddy",
    "chromium": "client chromium",
}
# Debian packages of executables that are called otherwise.
DEBIAN = {
    "ip": "iproute2",
    "ss": "iproute2",
    "sysctl": "procps",
    "setpriv": "util-linux",
    "chrt": "util-linux",
    "nft": "nftables",
    "dumpcap": "wireshark-common",
    "nginx": "nginx-light",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "dnsmasq": "dnsmasq-base",
    "git-daemon": "git",
    "psql": "postgresql",
    "initdb": "postgresql",
    "redis-cli": "redis-tools",
    "Xvfb": "xvfb",
    "Xvnc": "tigervnc-standalone-server",
    "xtigervncviewer": "tigervnc-viewer",
    "tail": "coreutils",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the lab may need.

    Parameters
    ----------
    name : str
        What was looked for.
    needed_for : str
        What does not work without it.
    required : bool
        Whether no run works without it.
    ok : bool
        Whether it is there.
    detail : str
        What was found.
    fix : str
        Command or step that provides it; empty where it is there or cannot be provided.
    """

    name: str
    needed_for: str
    required: bool
    ok: bool
    detail: str = ""
    fix: str = ""


def checks() -> list[Check]:
    """Look at everything the lab needs; changes nothing on the machine."""
    return [*_kernel(), *_programs(), *_packages()]


def demand() -> None:
    """Refuse a machine that lacks what every run needs.

    Raises
    ------
    LabError
        It does.
    """
    lacking = [check.name for check in checks() if check.required and not check.ok]
    if lacking:
        raise LabError(
            f"the lab lacks {', '.join(lacking)}", hint="`llmflow lab doctor` says what to do"
        )


def _kernel() -> Iterator[Check]:
    linux, root = sys.platform == "linux", hasattr(os, "geteuid") and os.geteuid() == 0
    yield Check("Linux", ALL, True, linux, sys.platform)
    if not linux:
        return
    yield Check("root", ALL, True, root, fix="" if root else "run it with sudo")
    if root:  # nobody else may try
        yield _trial("namespaces", ALL, "ip link add llmflow0 type veth peer name llmflow1")
        yield _trial("kernel labels", ALL, "nft -f -", stdin=rules([1]))
        yield _trial("connection tracking", ALL, "conntrack -L")
    known = AVAILABLE.read_text().split() if AVAILABLE.exists() else []
    for name in CONGESTION:
        fix = "" if name in known else f"modprobe tcp_{name}"
        yield Check(f"TCP {name}", f"paths with {name}", False, not fix, " ".join(known), fix)
    allowed = real_time_allowed()
    yield Check(
        "real-time scheduling",
        "more than about 50 streams at once",
        False,
        allowed,
        fix="" if allowed else "run it with sudo, in a container with --cap-add=SYS_NICE",
    )
    netem = _trial(
        "netem", "nothing: the lab delays packets itself", "tc qdisc add dev lo root netem"
    )
    yield Check(netem.name, netem.needed_for, False, True, "there" if netem.ok else "not there")


def _trial(name: str, needed_for: str, command: str, stdin: str = "") -> Check:
    """Try a command in namespaces of its own, which go away with it."""
    argv = ["unshare", "--net", "--mount", *command.split()]
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, needed_for, True, False, str(error), "apt install util-linux")
    ok = done.returncode == 0
    said = "" if ok else done.stderr.strip().splitlines()[-1:]
    fix = "" if ok else "run it with sudo, on a kernel that has this"
    return Check(name, needed_for, True, ok, "".join(said), fix)


def _programs() -> Iterator[Check]:
    needed = {name: [purpose] for name, purpose in TOOLS.items()}
    for program in programs().values():
        for name in program.needs:
            needed.setdefault(name, []).append(f"program {program.name}")
    for name, purposes in needed.items():
        found, short = shutil.which(name), Path(name).name
        fix = "" if found else f"apt install {DEBIAN.get(short, short)}"
        yield Check(
            short, ", ".join(purposes), ALL in purposes, found is not None, found or "", fix
        )


def _packages() -> Iterator[Check]:
    purpose = "servers and clients"
    try:
        requirements = metadata.requires("llmflow") or []
    except metadata.PackageNotFoundError:  # run from its source: what it requires is not known
        yield Check("llmflow", purpose, False, False, "not installed", PACKAGES)
        return
    for requirement in requirements:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        if EXTRA.search(requirement):
            try:
                version = metadata.version(name)
            except metadata.PackageNotFoundError:
                yield Check(name, purpose, True, False, "", PACKAGES)
            else:
                yield Check(name, purpose, True, True, version)
