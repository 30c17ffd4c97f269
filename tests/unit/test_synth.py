"""The captures of `llmflow synth`: repeatable, truthfully labelled, and sound TCP."""

from __future__ import annotations

import csv
import ipaddress
import sys
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import NamedTuple

import dpkt
import pytest
from click.testing import CliRunner

from llmflow.cli import main
from llmflow.errors import LlmflowError, OutputError
from llmflow.synth import LABEL_COLUMNS, SCENARIOS, shapes, write_scenario

PUBLISHED = Path(__file__).parents[2] / "pcaps"
DOCUMENTATION = [
    ipaddress.ip_network(text)
    for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]
NAMES = list(SCENARIOS)
End = tuple[str, int]


class Seen(NamedTuple):
    """One packet as a reader of the capture sees it."""

    time: float
    source: End
    target: End
    size: int
    l4: dpkt.tcp.TCP | dpkt.udp.UDP

    @property
    def protocol(self) -> str:
        return "tcp" if isinstance(self.l4, dpkt.tcp.TCP) else "udp"


def read(capture: Path) -> list[Seen]:
    packets = []
    with capture.open("rb") as file:
        for time, frame in dpkt.pcap.Reader(file):
            ip = dpkt.ethernet.Ethernet(frame).data
            inside = ip.len - 4 * ip.hl if isinstance(ip, dpkt.ip.IP) else ip.plen
            header = 4 * ip.data.off if isinstance(ip.data, dpkt.tcp.TCP) else 8
            source = (str(ipaddress.ip_address(ip.src)), ip.data.sport)
            target = (str(ipaddress.ip_address(ip.dst)), ip.data.dport)
            packets.append(Seen(float(time), source, target, inside - header, ip.data))
    return packets


def labels(capture: Path) -> list[dict[str, str]]:
    with capture.with_suffix(".labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def rng() -> Random:
    return Random(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("synth")
    return {name: write_scenario(name, directory) for name in NAMES}


@pytest.fixture(scope="module")
def seen(made: dict[str, Path]) -> dict[str, list[Seen]]:
    return {name: read(capture) for name, capture in made.items()}


@pytest.mark.parametrize("name", ["api-drip", "quic-drip"])
def test_the_seed_decides_every_byte(name: str, made: dict[str, Path], tmp_path: Path) -> None:
    again, other = write_scenario(name, tmp_path / "a"), write_scenario(name, tmp_path / "b", 2)
    for suffix in (".pcap", ".labels.csv"):
        first = made[name].with_suffix(suffix).read_bytes()
        assert again.with_suffix(suffix).read_bytes() == first
        assert other.with_suffix(suffix).read_bytes() != first


@pytest.mark.parametrize("name", NAMES)
def test_the_published_captures_are_the_ones_of_seed_1(name: str, made: dict[str, Path]) -> None:
    for suffix in (".pcap", ".labels.csv"):
        published = (PUBLISHED / name).with_suffix(suffix)
        assert published.read_bytes() == made[name].with_suffix(suffix).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_each_flow_has_one_label_and_each_label_a_flow(
    name: str, made: dict[str, Path], seen: dict[str, list[Seen]]
) -> None:
    rows = labels(made[name])
    named = [
        (
            row["protocol"],
            (row["client_ip"], int(row["client_port"])),
            (row["server_ip"], int(row["server_port"])),
        )
        for row in rows
    ]
    found = {(p.protocol, *sorted((p.source, p.target))) for p in seen[name]}
    assert {(protocol, *sorted(ends)) for protocol, *ends in named} == found
    assert len(named) == len(found)
    assert all(tuple(row) == LABEL_COLUMNS for row in rows)
    assert {row["capture"] for row in rows} == {made[name].name}
    assert {row["label"] for row in rows} <= {"llm-stream", "other"}


def test_streams_are_where_the_summaries_say(made: dict[str, Path]) -> None:
    for name, scenario in SCENARIOS.items():
        truth = {row["label"] for row in labels(made[name])}
        assert ("llm-stream" in truth) == (not scenario.summary.startswith("other"))


@pytest.mark.parametrize("name", NAMES)
def test_tcp_numbers_follow_the_data(name: str, seen: dict[str, list[Seen]]) -> None:
    expected: dict[tuple[End, End], int] = {}
    acked: dict[tuple[End, End], int] = {}
    sent: dict[tuple[End, End], set[tuple[int, int]]] = defaultdict(set)
    repeats = 0
    for packet in seen[name]:
        if not isinstance(packet.l4, dpkt.tcp.TCP):
            continue
        way, back, tcp = (packet.source, packet.target), (packet.target, packet.source), packet.l4
        size = packet.size + bool(tcp.flags & (dpkt.tcp.TH_SYN | dpkt.tcp.TH_FIN))
        following = expected.get(way, tcp.seq)
        if tcp.seq == following:
            expected[way] = tcp.seq + size
            sent[way].add((tcp.seq, size))
        elif size:
            repeats += 1
            assert (tcp.seq, size) in sent[way], "a hole, or data that was never sent"
        else:
            assert tcp.seq == following - 1, "only a keep-alive looks back"
        if tcp.flags & dpkt.tcp.TH_ACK:
            assert tcp.ack >= acked.get(way, 0)
            assert tcp.ack <= expected.get(back, tcp.ack), "acknowledged before it was seen"
            acked[way] = tcp.ack
    assert repeats <= 0.02 * len(seen[name])


@pytest.mark.parametrize("name", NAMES)
def test_packets_are_in_the_order_of_time_and_from_nowhere_real(
    name: str, seen: dict[str, list[Seen]]
) -> None:
    times = [packet.time for packet in seen[name]]
    assert times == sorted(times)
    addresses = {end[0] for packet in seen[name] for end in (packet.source, packet.target)}
    for address in map(ipaddress.ip_address, addresses):
        assert any(address in network for network in DOCUMENTATION)


def test_the_captures_stay_small(made: dict[str, Path], seen: dict[str, list[Seen]]) -> None:
    assert sum(capture.stat().st_size for capture in made.values()) < 1_500_000
    assert made["mixed"].stat().st_size <= 350_000
    assert seen["mixed"][-1].time - seen["mixed"][0].time <= 90


def test_the_drip_has_ten_turns_and_the_usual_extras(seen: dict[str, list[Seen]]) -> None:
    requests, last = 0, 0.0
    for packet in seen["drip"]:
        if packet.target[1] == 443 and packet.size > 800:
            requests += packet.time - last > 1.0
            last = packet.time
    assert requests >= 10
    sizes = [packet.size for packet in seen["drip"] if packet.source[1] == 443 and packet.size]
    assert 55 <= sorted(sizes)[len(sizes) // 2] <= 75


def test_ipv6_is_among_them(seen: dict[str, list[Seen]]) -> None:
    versions = {
        name: {ipaddress.ip_address(packet.source[0]).version for packet in packets}
        for name, packets in seen.items()
    }
    assert versions["burst-pause"] == {6}
    assert versions["quic-drip"] == {4, 6}


def test_cumulative_chunks_grow_and_dripped_ones_do_not() -> None:
    def growth(shape: shapes.Shape) -> float:
        sizes = [size for _, size in shape(rng(), 12.0)]
        half = len(sizes) // 2
        return sum(sizes[half:]) / sum(sizes[:half])

    assert growth(shapes.cumulative) > 1.5
    assert 0.7 < growth(shapes.drip) < 1.4


@pytest.mark.parametrize(
    "shape",
    [
        shapes.drip,
        shapes.quic_drip,
        shapes.clocked,
        shapes.cumulative,
        shapes.burst_pause,
        shapes.padded,
        shapes.typing,
    ],
)
def test_shapes_go_forward_in_time_and_end(shape: shapes.Shape) -> None:
    chunks = list(shape(rng(), 8.0))
    assert len(chunks) > 10
    assert all(size > 0 for _, size in chunks)
    offsets = [offset for offset, _ in chunks]
    assert offsets == sorted(offsets)
    assert 0 <= offsets[0] < 0.5
    assert offsets[-1] < 14.0


def test_unknown_scenarios_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LlmflowError, match="no such scenario; there are: drip"):
        write_scenario("no-such", tmp_path)


def test_an_unwritable_directory_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_scenario("ticker", tmp_path / "file")


def test_without_scapy_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "scapy.layers.inet", None)
    with pytest.raises(LlmflowError, match=r"pip install 'llmflow\[synth\]'"):
        write_scenario("voip", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_named_scenarios(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["synth", "ticker", "ticker", "-o", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    written = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert written == ["ticker.labels.csv", "ticker.pcap"]
    assert result.output.count("ticker.pcap") == 1


def test_the_command_lists_the_scenarios() -> None:
    result = CliRunner().invoke(main, ["synth", "--list"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == NAMES


@pytest.mark.parametrize("arguments", [[], ["no-such", "-o", "x"]])
def test_wrong_usage_of_the_command_is_exit_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["synth", *arguments]).exit_code == 2
