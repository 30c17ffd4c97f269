"""Real servers and clients on the loopback interface: what arrives is what the script says."""

from __future__ import annotations

import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from llmflow.lab.kinds import kinds, script
from llmflow.lab.script import LLM_NONSTREAM, LLM_STREAM, OTHER, Session
from tests.wire import play

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the lab needs Linux")

STACKS = [
    ("h1", "uvicorn", "httpx"),
    ("h2", "hypercorn", "httpx"),
    ("h2", "nginx", "httpx"),
    ("h2", "caddy", "httpx"),
    ("h3", "hypercorn", "aioquic"),
    ("h3", "caddy", "aioquic"),
    ("ws", "websockets", "websockets"),
    ("grpc", "grpcio", "grpcio"),
    ("tls", "asyncio", "asyncio"),
    ("tcp", "asyncio", "asyncio"),
    ("udp", "asyncio", "asyncio"),
]
PROBES = ("probe-drip", "probe-echo", "probe-page", "probe-stop")
SDKS = {
    "openai": ("openai-chat", "openai-responses", "embeddings"),
    "anthropic": ("anthropic", "anthropic-nonstream"),
    "google-genai": ("gemini-api",),
}


def need(software: str) -> None:
    if software in ("nginx", "caddy", "chromium"):
        if shutil.which(software) is None:
            pytest.skip(f"{software} is not installed")
    else:
        pytest.importorskip(
            {"google-genai": "google.genai", "grpcio": "grpc"}.get(software, software)
        )


def sessions(names: tuple[str, ...], transport: str, front: str, client: str) -> list[Session]:
    known = [name for name in names if transport in kinds()[name].transports]
    return [
        Session(number, name, transport, front, client, "loop", 0.0, 1.0, number)
        for number, name in enumerate(known)
    ]


def check(planned: list[Session], records: dict[str, list[dict[str, Any]]]) -> None:
    """Every exchange was played as its script has it, and everybody says so."""
    assert {record["number"] for record in records["connection"]} == {s.number for s in planned}
    assert [record["error"] for record in records["connection"] if record["error"]] == []
    seen = {(record["number"], record["exchange"]): record for record in records["exchange"]}
    told = {(record["number"], record["exchange"]): record for record in records["server"]}
    for session in planned:
        for index, exchange in enumerate(script(session)):
            client, server = seen.pop((session.number, index)), told.pop((session.number, index))
            assert client["error"] is None
            assert client["client_port"] == server["client_port"] > 0
            assert (client["tokens"], client["streams"]) == (
                sum(write.tokens for write in exchange.down),
                exchange.streams,
            )
            data = b"".join(write.data for write in exchange.down)
            if exchange.abort is None:
                assert client["received_bytes"] == len(data)
                assert client["crc32"] in (zlib.crc32(data), None)
                assert server["size"] == [len(write.data) for write in exchange.down]
            else:
                # A browser that is late may leave before the first byte.
                assert client["received_bytes"] < len(data)
                assert len(server["size"]) < len(exchange.down)
            early = [s - d for d, s in zip(server["due"], server["sent"], strict=True)]
            assert min(early, default=0.0) > -0.002
    assert not seen
    assert not told


@pytest.mark.parametrize(("transport", "front", "client"), STACKS)
def test_a_stack_plays_what_scripts_say(
    tmp_path: Path, transport: str, front: str, client: str
) -> None:
    if front != "asyncio":
        need(front)
        need(client)
    pytest.importorskip("uvloop")
    planned = sessions(PROBES, transport, front, client)
    records = play(tmp_path, planned)
    check(planned, records)
    if transport not in ("tcp", "udp", "grpc"):
        assert "SERVER_TRAFFIC_SECRET_0" in (tmp_path / "keys.log").read_text()


@pytest.mark.parametrize("client", SDKS)
def test_the_official_sdks_play_what_scripts_say(tmp_path: Path, client: str) -> None:
    need(client)
    planned = sessions(SDKS[client], "h1", "uvicorn", client)
    check(planned, play(tmp_path, planned))


@pytest.mark.parametrize(("transport", "front"), [("h2", "hypercorn"), ("h3", "hypercorn")])
def test_chromium_plays_what_scripts_say(tmp_path: Path, transport: str, front: str) -> None:
    need("chromium")
    need(front)
    planned = sessions(PROBES[1:], transport, front, "chromium")
    check(planned, play(tmp_path, planned))


def test_a_connection_is_labelled_by_what_it_carried(tmp_path: Path) -> None:
    # A stream that its user stops costs HTTP/1.1 its connection; what is beside it has its own.
    need("uvicorn")
    planned = sessions(("probe-page", "probe-echo"), "h1", "uvicorn", "httpx")
    records = play(tmp_path, planned)
    labels = [(record["number"], record["label"]) for record in records["connection"]]
    assert sorted(labels) == [(0, LLM_NONSTREAM), (0, LLM_STREAM), (1, OTHER)]


def test_old_tls_is_played_where_it_is_asked_for(tmp_path: Path) -> None:
    planned = sessions(("probe-drip",), "tls", "asyncio", "asyncio")
    check(planned, play(tmp_path, planned, tls12=["probe-drip"]))
    assert "CLIENT_RANDOM" in (tmp_path / "keys.log").read_text()


def test_a_session_that_fails_leaves_a_record_and_the_others_alone(tmp_path: Path) -> None:
    good = sessions(("probe-echo",), "tcp", "asyncio", "asyncio")
    # The server knows no such transport: there is nobody behind the port of QUIC.
    bad = Session(9, "probe-echo", "h2", "asyncio", "httpx", "loop", 0.0, 1.0, 3)
    records = play(tmp_path, [*good, bad])
    errors = {record["number"]: record["error"] for record in records["connection"]}
    assert errors[0] is None
    assert errors[9]
