"""`llmflow train --from-names` on the captures of pcaps/, with hellos put in front of streams."""

from __future__ import annotations

import csv
import ipaddress
import json
from pathlib import Path

import dpkt
import pytest
from click.testing import CliRunner, Result

from llmflow.cli import main
from llmflow.learn.labels import read_labels
from llmflow.learn.names import label_by_names, label_noise
from llmflow.metadata.providers import load
from tests.builders import ethernet, ipv4, ipv6, pcap, tcp
from tests.hellos import client_hello, records

PCAPS = Path(__file__).parents[2] / "pcaps"
STREAMS = ("api-drip", "blob", "burst-pause", "drip")
BASE = ("chunk", "mixed", "quic-drip", "download", "ssh-typing", "ticker", "voip")
OTHERS = ("download", "ssh-typing", "ticker", "voip", "web")
FAST = ["--trees", "8", "--folds", "3", "--workers", "1"]


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def with_hellos(name: str, folder: Path) -> None:
    """Copy a capture; each TCP stream that its labels know begins with the hello of a service."""
    with (PCAPS / f"{name}.pcap").open("rb") as file:
        found = [(round(time * 1e9), frame) for time, frame in dpkt.pcap.Reader(file)]
    first = found[0][0]
    with (PCAPS / f"{name}.labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if (row["label"], row["protocol"]) != ("llm-stream", "tcp"):
                continue
            source, target = row["client_ip"], row["server_ip"]
            client = ipaddress.ip_address(source)
            at, wrap, kind = (22, ipv6, 0x86DD) if client.version == 6 else (26, ipv4, 0x0800)
            port = int(row["client_port"]).to_bytes(2, "big")
            begin = client.packed, port  # both addresses lie between source and ports
            end = at + 2 * len(client.packed)
            time = next(t for t, x in found if (x[at:][: len(begin[0])], x[end:][:2]) == begin)
            segment = tcp(records(client_hello("claude.ai")), sport=int(row["client_port"]), seq=1)
            found.append((time, ethernet(wrap(segment, src=source, dst=target), ethertype=kind)))
    found.sort(key=lambda packet: packet[0])
    assert found[0][0] == first
    (folder / f"{name}.pcap").write_bytes(pcap(found))


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of captures: streams that name a service, and traffic without names."""
    folder = tmp_path_factory.mktemp("named")
    for name in STREAMS + OTHERS:
        with_hellos(name, folder)
    return folder


def manifest(path: Path, names: tuple[str, ...], captures: Path) -> Path:
    """True labels of some captures, wherever they lie."""
    rows = []
    for name in names:
        with (PCAPS / f"{name}.labels.csv").open(newline="") as file:
            rows += [
                {**row, "capture": str(captures / row["capture"])} for row in csv.DictReader(file)
            ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_names_label_connections_and_their_noise_is_measured(named: Path, tmp_path: Path) -> None:
    """Candidates are the connections with a strong name; truth shows what they miss."""
    found = label_by_names(sorted(named.glob("*.pcap")), load())
    positive = {capture.path.stem: len(capture.flows) for capture in found if capture.flows}
    assert positive == {"api-drip": 5, "blob": 2, "burst-pause": 2, "drip": 1}
    assert {label.category for x in found for label in x.flows.values()} == {"named Anthropic"}
    assert all(capture.default and not capture.default.positive for capture in found)
    real = read_labels([manifest(tmp_path / "truth.csv", STREAMS + OTHERS, named)])
    assert label_noise(found, real) == {
        "named": 10, "streams": 10, "named_no_stream": 0.0, "streams_named": 1.0,
    }  # fmt: skip
    drip = next(capture for capture in real if capture.path.stem == "drip")
    wrong = next(capture for capture in real if capture.path.stem == "web")
    drip.flows, other = {}, next(iter(wrong.flows.values()))
    burst = next(capture for capture in real if capture.path.stem == "burst-pause")
    burst.flows = {key: other if n else label for n, (key, label) in enumerate(burst.flows.items())}
    noise = label_noise(found, real)
    assert (noise["named"], noise["streams"]) == (9, 8)
    assert noise["named_no_stream"] == pytest.approx(1 / 9)


def test_training_from_names_says_what_changed(named: Path, tmp_path: Path) -> None:
    """Counts by provider, label frequency, noise, before and after; the same bytes again."""
    base = manifest(tmp_path / "base.csv", BASE, PCAPS)
    fixed = manifest(tmp_path / "fixed.csv", ("drip", "web"), PCAPS)
    true = manifest(tmp_path / "truth.csv", STREAMS + OTHERS, named)
    for name in ("a", "b"):
        result = invoke(
            "train", base, "--from-names", named, "--evaluate-on", fixed, "--truth", true,
            "-o", tmp_path / name, *FAST,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
    for text in (
        "10 named and 10 streams; 0.0% of the named are no streams",
        "named Anthropic: 10 connections, ",
        "label frequency c = ",
        "before (llm-stream-",
        "after (llm-stream-",
    ):
        assert text in result.output
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    facts = json.loads((tmp_path / "a" / "model.json").read_text())["facts"]["names"]
    assert (facts["source"], facts["candidates"]) == ("names", 10)
    assert 0 < facts["label_frequency"] <= 1


def test_what_cannot_be_trained_from_names_is_said(named: Path, tmp_path: Path) -> None:
    """No names, a capture on both sides, no capture, options without --from-names."""

    def refused(*args: object) -> str:
        result = invoke("train", *args, "-o", tmp_path / "model", *FAST)
        assert result.exit_code in (1, 2)
        return result.output

    (tmp_path / "empty").mkdir()
    assert "names a service" in refused("--from-names", PCAPS / "web.pcap")
    same = manifest(tmp_path / "same.csv", STREAMS, named)
    both = refused("--from-names", named, "--evaluate-on", same)
    assert "is trained on and evaluated on" in both
    assert "labelled twice" in refused(same, "--from-names", named)
    assert "holds no capture" in refused("--from-names", tmp_path / "empty")
    assert "give LABELS..., or captures with --from-names" in refused()
    assert "go with --from-names" in refused(same, "--evaluate-on", named)
