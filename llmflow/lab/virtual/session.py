"""One session from handshake to goodbye: what a tap saw, and what both ends know of it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import NamedTuple

from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from llmflow.lab.clients.config import ClientConfig, Endpoint
from llmflow.lab.clients.desk import Connection, Desk
from llmflow.lab.kinds import script
from llmflow.lab.net.impairment import SECOND, Link
from llmflow.lab.net.paths import AccessPath
from llmflow.lab.net.topology import client_addresses, server_addresses
from llmflow.lab.script import Session
from llmflow.lab.servers.book import Played
from llmflow.lab.stage import DOMAIN, HOSTS
from llmflow.lab.virtual.clock import Clock
from llmflow.lab.virtual.ends import Client, Server
from llmflow.lab.virtual.pcapng import Address, Framer, packet
from llmflow.lab.virtual.seeded import chain, seeded, start
from llmflow.lab.virtual.wire import Tap, Wire

EPOCH = 1_767_225_600  # 2026-01-01T00:00:00Z, the start of every virtual run
_IDLE = 600.0  # seconds; longer than users think, so that a session is one connection
_PORTS = range(32768, 61000)  # as Linux hands them out
_CONGESTION = ("reno", "cubic")
_DATAGRAMS = (1200, 1250, 1350, 1452)  # bytes; the largest that deployed stacks send


@dataclass(frozen=True, slots=True)
class Place:
    """Where sessions of a path are played.

    Parameters
    ----------
    path : AccessPath
    number : int
        Of the path; makes its addresses and its interface.
    tap : {"client", "server"}
        End of the path at which packets are captured.
    seed : int
        Of the run.
    """

    path: AccessPath
    number: int
    tap: Tap
    seed: int


class Outcome(NamedTuple):
    """What came of a session.

    Attributes
    ----------
    times : list of int
        Of the packets, ns since 1970, in order.
    blocks : list of bytes
        The packets, as blocks of a pcapng capture.
    desk : Desk
        The client's records.
    played : list of Played
        The server's.
    keys : str
        TLS secrets, as in an SSLKEYLOGFILE.
    lost : int
        Packets that the path dropped.
    """

    times: list[int]
    blocks: list[bytes]
    desk: Desk
    played: list[Played]
    keys: str
    lost: int


def play(session: Session, place: Place, log: str) -> Outcome:
    """Play a session on a path of its own; ``log`` is where its desk will write."""
    rng = Random(f"{place.seed} {session.number} {session.seed}")
    clock = Clock(EPOCH * SECOND + round(session.start * SECOND))
    links = [Link(way, rng.getrandbits(62)) for way in (place.path.up, place.path.down)]
    wire = Wire(clock, links[0], links[1], place.tap)
    desk = _desk(session, place, log)
    row = session.number // len(desk.config.hosts)
    source = Address(desk.source(), _PORTS[row % len(_PORTS)])
    target = Address(desk.endpoint.address, desk.port())
    connection = Connection(source, target, clock.unix, "udp")
    desk.connections.append(connection)
    keys = io.StringIO()
    with seeded(rng, start(EPOCH)):
        asking, answering = _connections(desk.endpoint.name, keys, rng, place.seed)
        client = Client(clock, asking, script(session), desk, connection)
        server = Server(clock, answering, script(session), session.number, source)
        client.send = partial(wire.send, server.receive, up=True)
        server.send = partial(wire.send, client.receive, up=False)
        client.connect()
        clock.run()
    framers = Framer(target, source, up=False), Framer(source, target, up=True)
    seen = sorted(wire.seen, key=lambda one: one.time)
    blocks = [packet(place.number, one.time, framers[one.up].frame(one.data)) for one in seen]
    played = [server.played[index] for index in sorted(server.played)]
    lost = sum(link.lost + link.queue_drops for link in links)
    return Outcome([one.time for one in seen], blocks, desk, played, keys.getvalue(), lost)


def _desk(session: Session, place: Place, log: str) -> Desk:
    name = f"{session.front}.{DOMAIN}"
    server = Endpoint(server_addresses(place.number)[HOSTS[name]], name)
    hosts = list(client_addresses(place.number))
    config = ClientConfig(
        "", place.path.name, EPOCH, {session.front: server}, "", log, "", "", hosts
    )
    return Desk(config, session)


def _connections(
    name: str, keys: io.StringIO, rng: Random, seed: int
) -> tuple[QuicConnection, QuicConnection]:
    """Client and server, with settings that deployed stacks differ in."""
    certificates = chain(seed, start(EPOCH))
    common = partial(
        QuicConfiguration,
        alpn_protocols=H3_ALPN,
        idle_timeout=_IDLE,
        congestion_control_algorithm=rng.choice(_CONGESTION),
        max_datagram_size=rng.choice(_DATAGRAMS),
    )
    asking = QuicConnection(
        configuration=common(server_name=name, cadata=certificates.trusted, secrets_log_file=keys)
    )
    answering = QuicConnection(
        configuration=common(
            is_client=False,
            certificate=certificates.leaf,
            certificate_chain=[certificates.intermediate],
            private_key=certificates.key,
        ),
        original_destination_connection_id=asking.original_destination_connection_id,
    )
    return asking, answering
