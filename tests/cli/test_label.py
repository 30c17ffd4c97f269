"""`llmflow label`: manifests with reasons, from names, keys and other labels."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llmflow.cli import main
from tests.builders import CLIENT, SERVER, ethernet, ipv4, pcap, tcp
from tests.hellos import client_hello, records

PCAPS = Path(__file__).parents[2] / "pcaps"
PRIVATE = "a-conversation-nobody-may-read"
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def exchange(path: str, kind: str, port: int) -> list[tuple[int, bytes]]:
    """A request in clear and the head of its reply."""
    ask = f"POST {path} HTTP/1.1\r\nHost: x.example\r\nContent-Length: 0\r\n\r\n".encode()
    say = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 0\r\n\r\n".encode()
    up = tcp(ask, sport=port, dport=80, seq=1, ack=1)
    down = tcp(say, sport=80, dport=port, seq=1, ack=1 + len(ask))
    time = 1_700_000_000 * 10**9 + port
    back = ipv4(down, src=SERVER, dst=CLIENT)
    return [(time, ethernet(ipv4(up))), (time + 10**6, ethernet(back))]


@needs_tshark
def test_keys_label_what_http_says_and_keep_no_text(tmp_path: Path) -> None:
    """Streams, calls that do not stream and other HTTP are told apart; paths do not stay."""
    packets = [
        *exchange(f"/v1/chat/completions?{PRIVATE}", "text/event-stream", 50001),
        *exchange("/v1/messages", "application/json", 50002),
        *exchange(f"/{PRIVATE}", "text/event-stream", 50003),
    ]
    (tmp_path / "a.pcap").write_bytes(pcap(sorted(packets)))
    result = invoke("label", "keys", tmp_path / "a.pcap", "-o", tmp_path / "m.csv")
    assert result.exit_code == 0, result.output
    found = {
        row["client_port"]: (row["label"], row["confidence"]) for row in rows(tmp_path / "m.csv")
    }
    assert found == {
        "50001": ("llm-stream", "high"),
        "50002": ("llm-service-no-stream", "high"),
        "50003": ("other", "medium"),
    }
    assert PRIVATE not in (tmp_path / "m.csv").read_text()
    why = invoke("label", "explain", tmp_path / "m.csv", "--flow", ":50001")
    assert "asked chat completions, came text/event-stream" in why.output
    assert "50002" not in why.output


@needs_tshark
@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["{}/none.pcap"], "tshark cannot read it"),
        ([PCAPS / "drip.pcap", "--keys", "{}/none.log"], "no such file of keys"),
        ([PCAPS / "drip.pcap"], "no connection got a label"),
    ],
)
def test_keys_that_do_not_fit_are_told(tmp_path: Path, args: list[object], says: str) -> None:
    """One sentence, exit code 1, no file."""
    filled = [str(arg).format(tmp_path) for arg in args]
    result = invoke("label", "keys", *filled, "-o", tmp_path / "m.csv")
    assert (result.exit_code, says in result.output) == (1, True), result.output
    assert not (tmp_path / "m.csv").exists()


def test_names_label_what_is_said_in_clear(tmp_path: Path) -> None:
    """A service that streams text is a stream of low confidence, a shared name is unknown."""
    packets = [
        (10**18 + port, ethernet(ipv4(tcp(records(client_hello(name)), sport=port, seq=1))))
        for port, name in ((50001, "claude.ai"), (50002, "oaistatic.com"), (50003, "x.example"))
    ]
    (tmp_path / "a.pcap").write_bytes(pcap(packets))
    assert invoke("label", "names", tmp_path / "a.pcap", "-o", tmp_path / "m.csv").exit_code == 0
    first, second = rows(tmp_path / "m.csv")
    assert (first["client_port"], first["label"], first["confidence"]) == (
        "50001",
        "llm-stream",
        "low",
    )
    assert first["basis"] == "names: claude.ai (Anthropic, web-chat)"
    assert (second["client_port"], second["label"]) == ("50002", "unknown")


def test_merge_reports_conflicts_with_exit_code_3(tmp_path: Path) -> None:
    """Folders and manifests come together; where they differ nobody is believed."""
    for label, name in (("llm-stream", "drip"), ("other", "voip")):
        (tmp_path / "set" / label).mkdir(parents=True)
        shutil.copy(PCAPS / f"{name}.pcap", tmp_path / "set" / label)
    (tmp_path / "m.csv").write_text(
        "capture,label\nset/other/voip.pcap,other\nset/llm-stream/drip.pcap,other\n"
    )
    result = invoke(
        "label", "merge", tmp_path / "set", tmp_path / "m.csv", "-o", tmp_path / "out.csv"
    )
    assert result.exit_code == 3
    assert result.stderr.count("conflict:") == 1
    assert "llm-stream (folder)" in result.stderr
    assert "other (manifest)" in result.stderr
    found = {Path(row["capture"]).stem: row for row in rows(tmp_path / "out.csv")}
    assert found["drip"]["label"] == "unknown"
    assert (found["voip"]["label"], found["voip"]["basis"]) == ("other", "folder; manifest")
    assert invoke("label", "merge", tmp_path / "set", "-o", tmp_path / "again.csv").exit_code == 0


def test_explaining_nothing_is_an_error(tmp_path: Path) -> None:
    """A flow that no label names is told of."""
    (tmp_path / "m.csv").write_text(
        "capture,label,protocol,client_ip,client_port,server_ip,server_port\n"
        "a.pcap,other,tcp,192.0.2.1,1,192.0.2.2,2\n"
    )
    result = invoke("label", "explain", tmp_path / "m.csv", "--flow", "203.0.113.9")
    assert (result.exit_code, "no label is of such" in result.output) == (1, True)
