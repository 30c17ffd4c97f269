"""SSH: somebody types, watches a log, or lets a command talk."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from llmflow.lab.programs import ClientPlace, Program, ServerPlace
from llmflow.lab.programs._place import MORTAL, Popen
from llmflow.lab.programs._talker import talker
from llmflow.lab.script import OTHER

if TYPE_CHECKING:
    import pexpect

PORT = 22
COMMANDS = (
    "ls -l /usr/bin | head -%d",
    "ps aux | head -%d",
    "head -%d /etc/services",
    "find /usr/share -maxdepth 2 | head -%d",
    "dmesg 2>/dev/null | tail -%d",
    "echo %d",
)


def serve(place: ServerPlace) -> list[Popen]:
    """OpenSSH with keys of its own, and no other configuration of this machine."""
    for name in ("host", "user"):
        place.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place.scratch / name)
    settings = [
        f"Port {PORT}",
        *(f"ListenAddress {address}" for address in place.addresses),
        f"HostKey {place.scratch / 'host'}",
        f"AuthorizedKeysFile {place.scratch / 'user.pub'}",
        "PidFile none",
        "PermitRootLogin prohibit-password",
        "PasswordAuthentication no",
        "StrictModes no",
        "UsePAM no",
        "PrintMotd no",
        "MaxStartups 100",
    ]
    config = place.scratch / "sshd_config"
    config.write_text("\n".join(settings) + "\n")
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd confines itself
    return [place.start("/usr/sbin/sshd", "-D", "-e", "-f", config)]


def visit(place: ClientPlace) -> None:
    """One login."""
    import pexpect

    # ssh wants a key that nobody else may read.
    key = place.scratch / "key"
    key.write_bytes((place.shared / "user").read_bytes())
    key.chmod(0o600)
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes"]
    if place.rng.random() < 0.2:
        options.append("Compression=yes")
    words = [word for option in options for word in ("-o", option)]
    argv = [*MORTAL, "ssh", "-tt", "-F", "none", "-q", "-i", str(key), *words]
    argv += ["-p", str(PORT), f"root@{place.server}", "/bin/bash", "--norc", "--noprofile", "-i"]
    size = (place.rng.randint(20, 60), place.rng.randint(70, 200))
    terminal = pexpect.spawn(argv[0], argv[1:], timeout=15, dimensions=size, encoding="utf-8")
    try:
        terminal.expect(r"[#$] ")
        style = place.rng.choice((_types, _types, _watches, _listens, _edits))
        style(place, terminal)
    finally:
        terminal.close(force=True)


def _types(place: ClientPlace, terminal: pexpect.spawn[str]) -> None:
    """Type commands at the speed of a hand and read what they say."""
    rate = place.rng.uniform(2.5, 9)
    while place.left > 0:
        command = place.rng.choice(COMMANDS) % place.rng.randint(1, 60)
        _type(place, terminal, command, rate)
        terminal.send("\r")
        _drain(place, terminal, place.rng.lognormvariate(0.3, 0.8))


def _watches(place: ClientPlace, terminal: pexpect.spawn[str]) -> None:
    """Follow a log file that something else writes."""
    log = place.shared / f"followed-{place.number}"
    terminal.sendline(f"{_talker(place, str(log))} & sleep 0.3; tail -f {log}")
    _drain(place, terminal, place.left)


def _listens(place: ClientPlace, terminal: pexpect.spawn[str]) -> None:
    """Let a command talk, once or a few times, as builds and pings do."""
    while place.left > 0:
        terminal.sendline(_talker(place, "-"))
        _drain(place, terminal, place.rng.uniform(4, 30))
        terminal.sendintr()
        _drain(place, terminal, place.rng.uniform(0.3, 3))


def _edits(place: ClientPlace, terminal: pexpect.spawn[str]) -> None:
    """Write prose into a file, with pauses to think and slips of the finger."""
    rate = place.rng.uniform(3, 11)
    terminal.sendline("cat > /dev/null")
    while place.left > 0:
        letters = place.rng.choices("etaoinshrdlu", k=place.rng.randint(2, 9))
        _type(place, terminal, "".join(letters) + " ", rate)
        if place.rng.random() < 0.08:
            terminal.send("\x7f" * place.rng.randint(1, 5))
        if place.rng.random() < 0.1:
            terminal.send("\r")
            _drain(place, terminal, place.rng.expovariate(1))


def _talker(place: ClientPlace, target: str) -> str:
    gap, longest = place.rng.choice((0.02, 0.05, 0.1, 0.3, 0.8)), place.rng.choice((20, 80, 200))
    return shlex.join(talker(place.rng, gap, longest, target))


def _type(place: ClientPlace, terminal: pexpect.spawn[str], text: str, rate: float) -> None:
    for letter in text:
        terminal.send(letter)
        _drain(place, terminal, place.rng.gammavariate(2, 0.5 / rate))


def _drain(place: ClientPlace, terminal: pexpect.spawn[str], seconds: float) -> None:
    """Read what comes for some seconds: a terminal nobody reads holds the connection up."""
    import pexpect

    terminal.expect([pexpect.TIMEOUT, pexpect.EOF], timeout=max(0.0, min(seconds, place.left)))


PROGRAMS = (
    Program(
        name="ssh",
        label=OTHER,
        category="terminal",
        needs=("/usr/sbin/sshd", "ssh", "ssh-keygen", "tail"),
        modules=("pexpect",),
        ports=(("tcp", PORT),),
        serve=serve,
        visit=visit,
    ),
)
