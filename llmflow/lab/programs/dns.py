"""DNS: the look-ups of a browser, a resolver on one port, a mail server, or a tunnel's chatter."""

from __future__ import annotations

import socket

from llmflow.lab.programs import ClientPlace, Program, ServerPlace
from llmflow.lab.programs._place import Popen
from llmflow.lab.script import OTHER

PORT = 53
ZONE = "lab.test"


def serve(place: ServerPlace) -> list[Popen]:
    """Dnsmasq as the authority of one zone, which asks nobody."""
    argv = ["dnsmasq", "--keep-in-foreground", "--user=root", "--pid-file", "--log-facility=-"]
    argv += ["--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"]
    argv += [f"--listen-address={','.join(place.addresses)}", f"--address=/{ZONE}/10.1.2.3"]
    for size in (20, 200):
        argv.append(f"--txt-record=text{size}.{ZONE},{'v' * size}")
    argv.append(f"--txt-record=text700.{ZONE},{','.join(['k' * 230] * 3)}")
    argv += [f"--mx-host={ZONE},mail{n}.{ZONE},{n}0" for n in range(1, 5)]
    return [place.start(*argv)]


def visit(place: ClientPlace) -> None:
    """Questions at some rate, from a port each or all from the same one."""
    rng = place.rng
    style = rng.choice(("page", "resolver", "resolver", "steady", "tcp"))
    rate = rng.choice((2, 8, 25, 60))
    kind = socket.SOCK_STREAM if style == "tcp" else socket.SOCK_DGRAM
    sockets = rng.randint(8, 40)  # at most: a page asks for a handful of names
    # A server ends a TCP connection after some questions.
    most = {"page": rng.choice((1, 2, 4)), "tcp": 50}.get(style, 10**6)
    for _ in range(sockets):
        with _socket(place, kind) as asked:
            for _ in range(most):
                _ask(place, asked, kind)
                place.pause(1 / rate if style == "steady" else rng.expovariate(rate))
                if place.left <= 0:
                    return


def _socket(place: ClientPlace, kind: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind)
    made.settimeout(1)
    made.connect((place.server, PORT))
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    place.connected(protocol, made.getsockname(), made.getpeername())
    return made


def _ask(place: ClientPlace, asked: socket.socket, kind: int) -> None:
    from dnslib import EDNS0, DNSRecord

    rng = place.rng
    name = rng.randbytes(rng.randint(1, 20)).hex()
    what, kind_of = rng.choice(
        (
            (f"{name}.{ZONE}", "A"),
            (f"{name}.{ZONE}", "AAAA"),
            (ZONE, "MX"),
            (f"text{rng.choice((20, 200, 700))}.{ZONE}", "TXT"),
            (f"{name}.elsewhere.test", "A"),
        )
    )
    question = DNSRecord.question(what, kind_of)
    question.header.id = rng.getrandbits(16)
    if rng.random() < 0.7:
        question.add_ar(EDNS0(udp_len=1232))
    wire = question.pack()
    try:
        if kind == socket.SOCK_STREAM:
            asked.sendall(len(wire).to_bytes(2, "big") + wire)
            with asked.makefile("rb") as stream:
                stream.read(int.from_bytes(stream.read(2), "big"))
        else:
            asked.send(wire)
            asked.recv(4096)
    except TimeoutError:
        return  # lost on the way: the next question


PROGRAMS = (
    Program(
        name="dns",
        label=OTHER,
        category="dns",
        needs=("dnsmasq",),
        modules=("dnslib",),
        ports=(("udp", PORT), ("tcp", PORT)),
        serve=serve,
        visit=visit,
    ),
)
