"""Names of flows from whole captures: every witness, and no difference wherever it is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmflow.capture.columns import ACK, FIN, SYN, UDP
from llmflow.engine.line import classify
from llmflow.flows import ledger, naming
from llmflow.flows.batch import FlowOptions
from llmflow.flows.stream import FlowStream
from llmflow.learn.model import load_model
from llmflow.metadata.providers import load
from tests.builders import SECOND, START, Record, ethernet, ipv4, pcap, tcp, udp
from tests.hellos import client_hello, crypto, initial, numbers, records, vector

MODEL, PROVIDERS = load_model(None), load()
SERVERS = ("198.51.100.20", "198.51.100.21")
GET = b"GET / HTTP/1.1\r\nHost: api.openai.com\r\nUser-Agent: x\r\n\r\n"
LONG = records(client_hello("chatgpt.com", more=[(51, bytes(1400))]))


def answer(name: str, address: str, ttl: int = 300) -> bytes:
    """A DNS response with one address."""
    labels = b"".join(vector(1, label.encode()) for label in name.split(".")) + b"\0"
    data = bytes(map(int, address.split(".")))
    record = b"\xc0\x0c" + numbers([1, 1]) + numbers([ttl], 4) + vector(2, data)
    return numbers([7, 0x8180, 1, 1, 0, 0]) + labels + numbers([1, 1]) + record


class Capture:
    """Frames of a client, with their times."""

    def __init__(self) -> None:
        self.frames: list[Record] = []

    def add(self, second: float, packet: bytes) -> None:
        self.frames.append((START + round(second * SECOND), ethernet(packet)))

    def up(
        self, second: float, payload: bytes = b"", *, port: int = 50000, flags: int = ACK,
        seq: int = 1000, dst: str = SERVERS[0],
    ) -> None:  # fmt: skip
        self.add(second, ipv4(tcp(payload, sport=port, flags=flags, seq=seq), dst=dst))

    def quic(self, second: float, payload: bytes, port: int = 50000) -> None:
        self.add(second, ipv4(udp(payload, sport=port), protocol=UDP, dst=SERVERS[0]))

    def dns(self, second: float, payload: bytes) -> None:
        self.add(second, ipv4(udp(payload, sport=53, dport=5353), protocol=UDP,
                              src="192.0.2.53", dst="192.0.2.10"))  # fmt: skip

    def rows(self, folder: Path, **more: Any) -> list[dict[str, Any]]:
        path = folder / "a.pcap"
        path.write_bytes(pcap(self.frames))
        found: list[dict[str, Any]] = table([path], **more).to_pylist()
        return found


def table(paths: list[Path], *, workers: int = 1, **more: Any) -> pa.Table:
    stream = FlowStream(list(map(str, paths)), providers=more.pop("providers", PROVIDERS), **more)
    return pa.Table.from_batches([x.flows for x in classify(stream, MODEL, workers)])


def test_a_hello_names_its_flow(tmp_path: Path) -> None:
    """Server name, ALPN, ECH, JA4 and the provider; the label stays with the behaviour."""
    capture = Capture()
    capture.up(0, records(client_hello("claude.ai", more=[(0xFE0D, b"\0\0\1\0\1\7" + bytes(40))])))
    (row,) = capture.rows(tmp_path)
    assert (row["sni"], row["alpn"], row["ech"]) == ("claude.ai", "h2,http/1.1", "offered")
    assert row["ja4"].startswith("t13d0305h2_")
    assert (row["provider"], row["provider_weak"]) == ("Anthropic", None)
    assert row["basis"] == "name"
    (blind,) = capture.rows(tmp_path, providers=None)
    assert (row["label"], row["score"]) == (blind["label"], blind["score"])


def test_without_providers_no_payload_is_opened(tmp_path: Path) -> None:
    """--no-names: nothing is said."""
    capture = Capture()
    capture.up(0, records(client_hello()))
    (row,) = capture.rows(tmp_path, providers=None)
    assert [row[x] for x in ("sni", "alpn", "ech", "ja4", "provider", "basis")] == [
        None, None, None, None, None, "none",
    ]  # fmt: skip


def test_hello_in_segments_quic_and_http(tmp_path: Path) -> None:
    """What comes in two segments, in QUIC, and in the head of a request."""
    capture = Capture()
    capture.up(0, LONG[:1000], port=50001)
    capture.quic(0.1, initial(crypto(0, client_hello("gemini.google.com"))), port=50002)
    capture.up(0.2, LONG[1000:], port=50001, seq=2000)
    capture.up(0.3, GET, port=50003)
    capture.up(0.4, LONG[:1000], port=50004)  # the rest never comes
    found = {row["client_port"]: row for row in capture.rows(tmp_path)}
    assert [found[50001 + i]["sni"] for i in range(4)] == [
        "chatgpt.com", "gemini.google.com", None, "chatgpt.com",
    ]  # fmt: skip
    assert [found[50001 + i]["provider"] for i in range(3)] == ["OpenAI", "Google", "OpenAI"]
    assert [found[50001 + i]["ja4"] is None for i in range(4)] == [False, False, True, True]
    assert found[50002]["ja4"].startswith("q13")


def test_a_reused_port_has_its_own_name(tmp_path: Path) -> None:
    """Two flows on one key, the second after FIN and SYN."""
    capture = Capture()
    for second, name in ((0, "claude.ai"), (2, "chatgpt.com"), (4, "")):
        capture.up(second, flags=SYN, seq=999 + 10**7 * second)
        if name:
            capture.up(second + 0.1, records(client_hello(name)), seq=1000 + 10**7 * second)
        capture.up(second + 0.2, flags=FIN | ACK, seq=2000 + 10**7 * second)
    rows = sorted(capture.rows(tmp_path), key=lambda row: row["start"])
    assert [row["sni"] for row in rows] == ["claude.ai", "chatgpt.com", None]


def test_slices_share_their_names(tmp_path: Path) -> None:
    """A long flow's later slices know what its first packets said, also after pruning."""
    capture = Capture()
    capture.up(0, records(client_hello()))
    for second in range(1, 100):
        capture.up(second, b"x", seq=5000 + second)
    options = FlowOptions(active_timeout=20.0, reorder=1.0)
    rows = capture.rows(tmp_path, options=options, block_bytes=1 << 10)
    assert [row["slice"] for row in rows] == [0, 1, 2, 3, 4]
    assert {row["sni"] for row in rows} == {"claude.ai"}


def test_dns_is_weak_evidence_for_a_while(tmp_path: Path) -> None:
    """An answer speaks for later flows to its address, until it is too old."""
    capture = Capture()
    capture.up(0, port=50001)
    capture.dns(1, answer("api.openai.com", SERVERS[0], 300))
    capture.up(2, port=50002)
    capture.up(2, port=50003, dst=SERVERS[1])
    capture.up(290, port=50004)
    capture.up(302, port=50005)
    found = {row["client_port"]: row for row in capture.rows(tmp_path) if row["protocol"] == "tcp"}
    weak = [found[50001 + i]["provider_weak"] for i in range(5)]
    assert weak == [None, "OpenAI", None, "OpenAI", None]
    assert {row["provider"] for row in found.values()} == {None}
    assert {row["basis"] for row in found.values()} == {"none"}


def test_a_shared_front_is_weak(tmp_path: Path) -> None:
    """A name that is shared with much else gives no provider."""
    capture = Capture()
    capture.up(0, records(client_hello("cdn.oaistatic.com")))
    (row,) = capture.rows(tmp_path)
    assert (row["provider"], row["provider_weak"], row["basis"]) == (None, "OpenAI", "none")


def test_control_characters_do_not_come_through(tmp_path: Path) -> None:
    """What a hello says is shown or escaped."""
    capture = Capture()
    capture.up(0, records(client_hello("a\x1b[2J.example", [b"\x1b[31m", b"\n\n"])))
    (row,) = capture.rows(tmp_path)
    assert (row["sni"], row["alpn"]) == (None, "\\x1b[31m,\\x0a\\x0a")


def test_what_is_noted_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes of flows that have ended are let go; beyond the bound names are dropped and counted."""
    monkeypatch.setattr(naming, "_FIRST_PRUNE", 8)
    capture = Capture()
    for i in range(100):
        capture.up(20 * i, records(client_hello(f"n{i}.example")), port=50000 + i)
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap(capture.frames))
    held: list[int] = []
    prune = naming.Namer.prune

    def watched(self: naming.Namer, *state: Any) -> None:
        prune(self, *state)
        held.append(sum(map(len, self._ledgers)) + len(self._texts))

    monkeypatch.setattr(naming.Namer, "prune", watched)
    options = FlowOptions(idle_timeout=5.0)
    monkeypatch.setattr("llmflow.flows.assemble.FlowAssembler._patience", lambda _: 4)
    stream = FlowStream([str(path)], options, block_bytes=512, providers=PROVIDERS)
    assert sum(len(batch.flows) for batch in stream.batches()) == 100
    assert held
    assert max(held) < 60
    assert stream.names_dropped == 0
    monkeypatch.setattr(naming, "_FIRST_PRUNE", 1000)
    monkeypatch.setattr(ledger, "MAX_ENTRIES", 10)
    stream = FlowStream([str(path)], options, providers=PROVIDERS)
    assert len(list(stream.batches())) > 0
    assert stream.names_dropped == 90


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["hello", "front", "rest", "get", "fin", "syn", "data", "dns", "quic"]),
        st.integers(0, 1),  # port
        st.sampled_from([0.01, 0.5, 3.0, 11.0, 40.0, 130.0, -2.0, -60.0]),
    ),
    max_size=25,
)
QUIC = initial(crypto(0, client_hello("gemini.google.com")))


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(EVENTS, st.integers(1, 2000))
def test_cuts_do_not_matter(
    tmp_path: Path, events: list[tuple[str, int, float]], block: int
) -> None:
    """Blocks and files change no name, not even where time steps back or ports are used again."""
    capture, second = Capture(), 1000.0
    for number, (what, port, step) in enumerate(events):
        second, seq, port = second + step, 1000 + number * 10**6, 50000 + port  # noqa: PLW2901
        if what == "dns":
            capture.dns(second, answer("claude.ai", SERVERS[0], 20))
        elif what == "quic":
            capture.quic(second, QUIC, port)
        else:
            payload, flags, at = {
                "hello": (records(client_hello(f"n{number}.example")), ACK, seq),
                "front": (LONG[:1000], ACK, 1000), "rest": (LONG[1000:], ACK, 2000),
                "get": (GET, ACK, seq), "fin": (b"", FIN | ACK, seq), "syn": (b"", SYN, seq),
                "data": (b"x", ACK, seq),
            }[what]  # fmt: skip
            capture.up(second, payload, port=port, flags=flags, seq=at)
    whole = tmp_path / "a.pcap"
    whole.write_bytes(pcap(capture.frames))
    options = FlowOptions(active_timeout=60.0)
    expected = table([whole], options=options) if capture.frames else None
    if expected is None:
        return
    assert table([whole], options=options, block_bytes=block).equals(expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(naming, "_FIRST_PRUNE", 1)
        assert table([whole], options=options, block_bytes=block).equals(expected)


def test_files_and_workers_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hello cut by the end of a file, and batches named before they go to other threads."""
    capture = Capture()
    for i in range(300):
        capture.up(i, LONG[:1000], port=50000 + i)
        capture.up(i + 0.5, LONG[1000:], port=50000 + i, seq=2000)
    whole, one, two = (tmp_path / f"{name}.pcap" for name in "abc")
    whole.write_bytes(pcap(capture.frames))
    one.write_bytes(pcap(capture.frames[:301]))
    two.write_bytes(pcap(capture.frames[301:]))
    expected = table([whole])
    assert set(expected["sni"].to_pylist()) == {"chatgpt.com"}
    assert table([two, one]).equals(expected)
    monkeypatch.setattr("llmflow.flows.assemble._BATCH", 50)
    assert table([whole], workers=2).equals(expected)
