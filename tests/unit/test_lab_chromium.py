from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmflow.lab.clients.config import ClientConfig, Endpoint
from llmflow.lab.clients.desk import Desk
from llmflow.lab.script import Session

chromium = pytest.importorskip("llmflow.lab.clients.chromium", reason="needs websockets")

NAMES = ["SOCKET_ALIVE", "TCP_CONNECT", "SOCKET_BYTES_SENT", "UDP_CONNECT", "UDP_LOCAL_ADDRESS"]
TYPES = {name: number for number, name in enumerate([*NAMES, "UDP_BYTES_SENT"])}
SERVER = "10.80.1.3:443"


def event(at: int, name: str, source: int, phase: int = 0, **given: object) -> dict[str, object]:
    params = {"params": given} if given else {}
    return {"type": TYPES[name], "time": str(at), "phase": phase, "source": {"id": source}} | params


EVENTS = [
    event(1, "TCP_CONNECT", 5, 2, local_address="10.80.0.1:50", remote_address=SERVER),
    event(1, "TCP_CONNECT", 6, 2, local_address="10.80.0.1:51", remote_address="10.80.1.9:443"),
    event(2, "SOCKET_BYTES_SENT", 5, byte_count=9),
    # Looks whether there is a way, and sends nothing.
    event(3, "UDP_CONNECT", 7, 1, address=SERVER),
    event(3, "UDP_LOCAL_ADDRESS", 7, address="10.80.0.1:52"),
    event(3, "SOCKET_ALIVE", 7, 2),
    event(4, "UDP_CONNECT", 8, 1, address=SERVER),
    event(4, "UDP_LOCAL_ADDRESS", 8, address="10.80.0.1:53"),
    event(5, "UDP_BYTES_SENT", 8, byte_count=1250),
    event(7, "SOCKET_ALIVE", 5, 2),
    event(9, "UDP_BYTES_SENT", 8, byte_count=40),
]
CONSTANTS = {
    "logEventTypes": TYPES,
    "timeTickOffset": 1000,
    "logEventPhase": {"PHASE_BEGIN": 1, "PHASE_END": 2, "PHASE_NONE": 0},
}


def desk(folder: Path) -> Desk:
    servers = {"caddy": Endpoint("10.80.1.3", "caddy.lab.example")}
    config = ClientConfig("plan", "fibre", 0.0, servers, "ca", "log", "keys", str(folder))
    return Desk(config, Session(1, "probe-drip", "h3", "caddy", "chromium", "fibre", 0, 4, 2))


def text() -> str:
    lines = ",\n".join(json.dumps(item) for item in EVENTS)
    return f'{{"constants":{json.dumps(CONSTANTS)},\n"events": [\n{lines}]\n}}\n'


def test_connections_to_the_server_that_sent_something_are_found(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text(text())
    at = desk(tmp_path)
    sends = chromium._connections(at, tmp_path / "net.json")
    tcp, udp = at.connections
    assert (tcp.local, tcp.protocol, tcp.start, tcp.end) == (("10.80.0.1", 50), "tcp", 1.001, 1.007)
    assert (udp.local, udp.protocol, udp.start, udp.end) == (("10.80.0.1", 53), "udp", 1.005, None)
    assert sends == [[1.002], [1.005, 1.009]]


def test_a_log_that_was_cut_gives_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text(text()[:-60])
    at = desk(tmp_path)
    assert chromium._connections(at, tmp_path / "net.json") == [[1.002], [1.005]]
    assert chromium._connections(at, tmp_path / "none.json") == []
