"""`llmflow classify` as its users call it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.ipc
import pyarrow.parquet
import pytest

from tests.builders import START, ethernet, ipv4, pcap, tcp
from tests.hellos import client_hello, records

PCAPS = Path(__file__).parents[2] / "pcaps"
MIXED = PCAPS / "mixed.pcap"
CONTRACT = [
    "flow_id", "community_id", "protocol", "client_ip", "client_port", "server_ip", "server_port",
    "start", "duration_s", "up_packets", "down_packets", "up_bytes", "down_bytes",
    "up_payload_bytes", "down_payload_bytes", "label", "score", "basis", "provider", "turns",
    "stream_seconds", "initiator_basis", "end_reason",
]  # fmt: skip
TURN_CONTRACT = [
    "flow_id", "turn", "start", "request_bytes", "ttft_s", "reply_bytes", "reply_s", "chunks",
    "gap_p50_ms", "tokens_est", "stall_s", "score", "label",
]  # fmt: skip

TURN_QUALITY = [
    "ttfb_s", "gap_p95_ms", "gap_max_ms", "stall_ratio_200ms", "stall_ratio_500ms",
    "stall_ratio_1s", "stall_threshold_s", "stall_ratio_adaptive", "stalls", "stall_p50_s",
    "stall_p95_s", "stall_max_s", "stall_net_s", "stall_srv_s", "stall_avoidable_s", "hol_ratio",
    "tokens_low", "tokens_high", "tokens_per_s", "token_profile", "rebuffer_s", "qoe", "qos",
    "confidence", "archetype",
]  # fmt: skip


def run(*args: object, **more: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "llmflow", *map(str, args)]
    return subprocess.run(command, capture_output=True, check=False, timeout=120, **more)


def rows(*args: object) -> list[dict[str, Any]]:
    done = run("classify", *args, "-f", "jsonl")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_contract_comes_first_in_every_format(tmp_path: Path) -> None:
    """Scripts of operators read these columns by place or name."""
    for ending in ("jsonl", "csv", "parquet", "arrow"):
        target = tmp_path / f"flows.{ending}"
        assert run("classify", MIXED, "-o", target).returncode == 0
        names: list[str]
        if ending == "jsonl":
            names = list(json.loads(target.read_text().splitlines()[0]))
        elif ending == "csv":
            names = next(csv.reader(target.read_text().splitlines()))
        elif ending == "parquet":
            names = pyarrow.parquet.read_schema(target).names
        else:
            names = pyarrow.ipc.open_file(target.read_bytes()).schema.names
        assert names[: len(CONTRACT)] == CONTRACT


def hello_capture(folder: Path) -> Path:
    """A flow of a known service, one of an unknown name, and one without a name."""
    frames = [
        (START + i, ethernet(ipv4(tcp(payload, sport=50000 + i))))
        for i, payload in enumerate(
            [records(client_hello("claude.ai")), records(client_hello("llm.corp.example")), b"x"]
        )
    ]
    (folder / "hello.pcap").write_bytes(pcap(frames))
    return folder / "hello.pcap"


def test_names_stand_behind_the_contract(tmp_path: Path) -> None:
    """Names are columns of their own; a provider is a witness, and no label."""
    known, unknown, none = rows(hello_capture(tmp_path))
    columns = ["slice", "sni", "alpn", "ech", "ja4", "provider_weak", "agentic_score"]
    assert list(known)[len(CONTRACT) :] == columns
    assert (known["provider"], known["basis"]) == ("Anthropic", "name")
    assert known["label"] != "llm-stream"
    assert (unknown["sni"], unknown["provider"]) == ("llm.corp.example", None)
    assert [row["basis"] for row in (unknown, none)] == ["none", "none"]
    assert (none["sni"], none["alpn"], none["ech"], none["ja4"]) == (None, None, None, None)
    assert {row["basis"] for row in rows(MIXED)} == {"behaviour", "none"}


def test_both_witnesses(tmp_path: Path) -> None:
    """A stream that begins with a service's hello has both for it."""
    block, found = (PCAPS / "drip.pcap").read_bytes(), []
    at = 24
    while at < len(block):
        seconds, part, captured, _ = struct.unpack_from("<IIII", block, at)
        found.append((seconds * 10**9 + part * 1000, block[at + 16 : at + 16 + captured]))
        at += 16 + captured
    (flow,) = {frozenset((x[26:30] + x[34:36], x[30:34] + x[36:38])) for _, x in found}
    first = found[0][1]
    assert flow
    hello = first[:14] + ipv4(
        tcp(records(client_hello("claude.ai")), sport=int.from_bytes(first[34:36], "big"), seq=1),
        src=".".join(map(str, first[26:30])), dst=".".join(map(str, first[30:34])),
    )  # fmt: skip
    (tmp_path / "a.pcap").write_bytes(pcap([(found[0][0], hello), *found]))
    streams = [row for row in rows(tmp_path / "a.pcap") if row["label"] == "llm-stream"]
    assert {(row["basis"], row["provider"]) for row in streams} == {("both", "Anthropic")}


def test_own_providers_and_none(tmp_path: Path) -> None:
    """--providers goes before the shipped list; --no-names opens nothing."""
    capture, own = hello_capture(tmp_path), tmp_path / "own.toml"
    own.write_text(
        '[[entry]]\nprovider = "[red]Own"\nkind = "api"\ndomains = ["llm.corp.example"]\n'
        'source = "https://wiki.corp.example"\ndate = 2026-01-31\n'
    )
    found = [row["provider"] for row in rows(capture, "--providers", own)]
    assert found == ["Anthropic", "[red]Own", None]
    shown = run("classify", capture, "--providers", own, env={**os.environ, "COLUMNS": "200"})
    assert b"[red]Own" in shown.stdout
    silent = rows(capture, "--no-names")
    assert {(row["sni"], row["provider"], row["basis"]) for row in silent} == {(None, None, "none")}
    assert run("classify", capture, "--no-names", "--providers", own).returncode == 2
    own.write_text("[[entry]]\nprovider = 7\n")
    done = run("classify", capture, "--providers", own)
    assert done.returncode == 1
    assert b"entry 1" in done.stderr


def test_turns_have_their_contract_and_join_the_flows(tmp_path: Path) -> None:
    """--turns gives one row per turn of the flows."""
    target = tmp_path / "turns.parquet"
    assert run("classify", MIXED, "--turns", "-o", target).returncode == 0
    turns = pyarrow.parquet.read_table(target).to_pydict()
    assert list(turns)[: len(TURN_CONTRACT)] == TURN_CONTRACT
    counts = {row["flow_id"]: row["turns"] for row in rows(MIXED)}
    assert {flow: turns["flow_id"].count(flow) for flow in counts} == counts


def test_turns_tell_quality_and_leave_unknown_things_null(tmp_path: Path) -> None:
    """Quality comes behind the contract, in every format; nothing unknown is written as -1 or 0."""
    done = run("classify", MIXED, "--turns", "-f", "jsonl")
    turns = [json.loads(line) for line in done.stdout.splitlines()]
    assert list(turns[0]) == [*TURN_CONTRACT, "slice", *TURN_QUALITY]
    assert {turn["confidence"] for turn in turns} == {"low", "high"}
    for turn in turns:
        cause = [turn["stall_net_s"], turn["stall_srv_s"], turn["stall_avoidable_s"]]
        assert [value is None for value in cause] == [turn["confidence"] == "low"] * 3
        if turn["confidence"] != "low":
            total = turn["stall_net_s"] + turn["stall_srv_s"]
            assert total == pytest.approx(turn["stall_s"])
        assert (turn["tokens_est"] is None) == (turn["token_profile"] is None)
        assert (turn["qoe"] is None) == (turn["chunks"] < 8 or turn["request_bytes"] is None)
        assert (turn["gap_max_ms"] is None) == (turn["chunks"] == 1)
    target = tmp_path / "turns.parquet"
    run("classify", MIXED, "--turns", "-o", target)
    table = pyarrow.parquet.read_table(target)
    for name in ("qoe", "confidence", "token_profile", "stalls"):
        assert table[name].to_pylist() == [turn[name] for turn in turns]


def test_formats_agree(tmp_path: Path) -> None:
    """Every format says the same of every flow."""
    expected = rows(MIXED)
    run("classify", MIXED, "-o", tmp_path / "a.parquet")
    run("classify", MIXED, "-o", tmp_path / "a.arrow")
    run("classify", MIXED, "-o", tmp_path / "a.csv")
    parquet = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    arrow = pyarrow.ipc.open_file((tmp_path / "a.arrow").read_bytes()).read_all()
    assert parquet.equals(arrow.replace_schema_metadata(None))
    assert parquet["score"].to_pylist() == [row["score"] for row in expected]
    with (tmp_path / "a.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["start"] for row in table] == [row["start"] for row in expected]
    assert [float(row["score"]) for row in table if row["score"]] == [
        row["score"] for row in expected if row["score"] is not None
    ]


def test_demo_finds_the_streams_and_leaves_the_rest() -> None:
    """End to end: the demo capture's labels, as far as its short flows can be judged."""
    with (PCAPS / "mixed.labels.csv").open() as file:
        truth = {int(row["client_port"]): row["label"] for row in csv.DictReader(file)}
    labels = {row["client_port"]: row["label"] for row in rows(MIXED)}
    assert labels.keys() == truth.keys()
    found = {port for port, label in labels.items() if label == "llm-stream"}
    assert found == {port for port, label in truth.items() if label == "llm-stream"}


def test_ten_replies_on_one_connection_are_ten_turns() -> None:
    """Several replies on one connection are several turns, each with its request."""
    done = run("classify", PCAPS / "drip.pcap", "--turns", "-f", "jsonl")
    turns = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(turns) >= 10
    assert all(turn["request_bytes"] >= 200 for turn in turns[1:])  # the first follows a handshake
    assert [turn["turn"] for turn in turns] == list(range(len(turns)))


def test_same_input_same_bytes_from_file_and_pipe(tmp_path: Path) -> None:
    """Neither a second run nor standard input changes a byte of the result."""
    for name in ("a", "b"):
        run("classify", MIXED, "-o", tmp_path / f"{name}.parquet")
    with MIXED.open("rb") as file:
        done = run("classify", "-", "-o", tmp_path / "c.parquet", stdin=file)
    assert done.returncode == 0
    first = (tmp_path / "a.parquet").read_bytes()
    assert first == (tmp_path / "b.parquet").read_bytes()
    assert first == (tmp_path / "c.parquet").read_bytes()


def test_metadata_tells_how_the_file_was_made(tmp_path: Path) -> None:
    """Version, feature schema, model, options and input are in the file."""
    run("classify", MIXED, "--idle-timeout", "60", "-o", tmp_path / "a.parquet")
    metadata = pyarrow.parquet.read_metadata(tmp_path / "a.parquet").metadata
    options = json.loads(metadata[b"llmflow.options"])
    assert options["idle_timeout"] == 60.0
    for key in (b"llmflow.version", b"llmflow.feature_schema", b"llmflow.model", b"llmflow.input"):
        assert metadata[key]


def test_a_capture_cut_in_two_gives_the_same_flows(tmp_path: Path) -> None:
    """Two pieces are one stream, in the order of their times and not of their names."""
    data = MIXED.read_bytes()
    at, half = 24, len(data) // 2
    while at < half:
        at += 16 + int.from_bytes(data[at + 8 : at + 12], "little")
    (tmp_path / "z.pcap").write_bytes(data[:at])
    (tmp_path / "a.pcap").write_bytes(data[:24] + data[at:])
    assert rows(tmp_path / "a.pcap", tmp_path / "z.pcap") == rows(MIXED)


@pytest.mark.parametrize(
    ("name", "content", "code", "says"),
    [
        ("missing.pcap", None, 1, "no such file"),
        ("empty.pcap", b"", 1, "is empty"),
        ("text.pcap", b"GET / HTTP/1.1\r\n\r\n", 1, "not a pcap"),
        ("short.pcap", MIXED.read_bytes()[:10], 1, "cut short"),
        ("none.pcap", MIXED.read_bytes()[:24], 0, ""),
        ("cut.pcap", MIXED.read_bytes()[:-7], 3, "truncated-capture"),
        (
            "link.pcap",
            MIXED.read_bytes()[:20] + b"\x93\x00\x00\x00" + MIXED.read_bytes()[24:],
            1,
            "link type 147",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(
    tmp_path: Path, name: str, content: bytes | None, code: int, says: str
) -> None:
    """No traceback, no silent empty result; damage ends in 3 with the rest written."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    done = run("classify", path, "-f", "jsonl")
    text = done.stderr.decode()
    assert done.returncode == code
    assert says in text
    assert "Traceback" not in text
    assert code != 1 or text.count("\n") == 1
    assert bool(done.stdout) == (code == 3)


def test_a_folder_and_a_wrong_ending_are_refused(tmp_path: Path) -> None:
    """A folder is no capture, and a file's ending must say a format."""
    assert b"is a folder" in run("classify", tmp_path).stderr
    assert b"is a folder" in run("explain", tmp_path).stderr
    assert b"has no ending; end it in" in run("classify", MIXED, "-o", tmp_path / "flows").stderr
    done = run("classify", MIXED, "-o", tmp_path / "flows.xlsx")
    assert done.returncode == 2
    assert b"no format" in done.stderr


@pytest.mark.parametrize("command", ["classify", "explain", "inspect", "features export"])
def test_a_name_that_cannot_be_looked_at_is_one_sentence(command: str) -> None:
    """What the system says of a name, at whatever place it is asked first."""
    done = run(*command.split(), "x" * 300)
    assert done.returncode == 1
    assert done.stderr.startswith(b"llmflow: xxx")
    assert done.stderr.endswith(b"x: cannot be read (File name too long)\n")


def test_an_input_that_cannot_be_looked_at_is_not_the_outputs_fault(tmp_path: Path) -> None:
    """The sentence names the capture; the target is left as it was."""
    target = tmp_path / "out.csv"
    target.write_text("before")
    done = run("classify", "x" * 300, "-o", target)
    assert done.returncode == 1
    assert b"x: cannot be read (File name too long)" in done.stderr
    assert target.read_text() == "before"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "command", ["classify", "explain", "inspect", "features list", "features list -f csv"]
)
def test_a_full_disk_behind_standard_output_is_one_sentence(command: str) -> None:
    """Redirected to where nothing fits."""
    capture = [] if command.startswith("features") else [MIXED]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "llmflow", *command.split(), *map(str, capture)],
            stdout=full, stderr=subprocess.PIPE, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == b"llmflow: standard output: cannot be written (No space left on device)\n"


def test_wrong_usage_is_exit_code_two() -> None:
    """Usage errors are told apart from bad input."""
    assert run("classify").returncode == 2
    assert run("classify", MIXED, "--idle-timeout", "0").returncode == 2
    assert run("nonsense").returncode == 2


def test_a_failed_run_leaves_no_output(tmp_path: Path) -> None:
    """Outputs appear whole or not at all, and what stood there stays."""
    target = tmp_path / "out.parquet"
    target.write_text("before")
    assert run("classify", tmp_path / "missing.pcap", "-o", target).returncode == 1
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_leaves_no_partial_file(
    tmp_path: Path, number: signal.Signals, ending: str
) -> None:
    """Ctrl-C, SIGTERM or a closed terminal while reading: no traceback, and no half a file."""
    target = tmp_path / f"out.{ending}"
    command = [sys.executable, "-m", "llmflow", "classify", "-", "-o", str(target)]
    # Where this process was started to ignore Ctrl-C or a hangup, as in the background of a shell
    # or by nohup, the other would ignore it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(MIXED.read_bytes())
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)  # until the writer stands
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["table", "csv"])
def test_a_closed_standard_output_is_said(form: str) -> None:
    """Started with its output closed, it says so."""
    command = f"{sys.executable} -m llmflow classify {MIXED} -f {form} >&-"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(b"llmflow: standard output: is closed")


def test_a_capture_named_twice_is_refused() -> None:
    """Its packets would count twice."""
    done = run("classify", MIXED, MIXED)
    assert done.returncode == 1
    assert b"is named twice" in done.stderr


@pytest.mark.parametrize(("size", "says"), [("100M", b"at least 300M"), ("much", b"is no size")])
def test_a_memory_that_cannot_be_kept_is_wrong_usage(size: str, says: bytes) -> None:
    """The program itself takes some."""
    done = run("classify", MIXED, "--memory", size)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_closed_pipe_ends_quietly() -> None:
    """`llmflow classify … | head` prints no traceback."""
    command = f"{sys.executable} -m llmflow classify {MIXED} -f jsonl | head -n 1"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False, timeout=60)
    assert b"Traceback" not in done.stderr
    assert done.stdout.count(b"\n") == 1


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_the_table_fits_the_terminal(columns: str) -> None:
    """No line is wider than the terminal, and the labels are always there."""
    done = run("classify", MIXED, env={**os.environ, "COLUMNS": columns})
    lines = done.stdout.decode().splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert "llm-stream" in done.stdout.decode()


def test_the_limit_says_what_it_hides() -> None:
    """Flows left out of the table are counted, never dropped in silence."""
    text = run("classify", MIXED, "--limit", "3").stdout.decode()
    assert "3 of 18 flows shown" in text
    assert "18 flows: 3 llm-stream" in text


def test_a_foreign_or_damaged_model_is_refused(tmp_path: Path) -> None:
    """A model that is missing, changed, or of another schema is an error, not a guess."""
    shipped = Path(__file__).parents[2] / "models" / "llm-stream"
    assert b"no model can be read" in run("classify", MIXED, "--model", tmp_path).stderr
    model = tmp_path / "model"
    shutil.copytree(shipped, model)
    about = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**about, "schema_hash": "0" * 64}))
    assert b"other features" in run("classify", MIXED, "--model", model).stderr
    (model / "model.json").write_text(json.dumps(about))
    forest = bytearray((model / "forest.npz").read_bytes())
    forest[len(forest) // 2] ^= 1
    (model / "forest.npz").write_bytes(forest)
    done = run("classify", MIXED, "--model", model)
    assert done.returncode == 1
    assert b"checksum" in done.stderr


def test_outputs_spare_inputs_links_and_devices(tmp_path: Path) -> None:
    """-o never overwrites an input, follows a link, and writes into a FIFO as it is."""
    capture = tmp_path / "a.pcap"
    shutil.copy(MIXED, capture)
    done = run("classify", capture, "-f", "jsonl", "-o", capture)
    assert done.returncode == 1
    assert capture.read_bytes() == MIXED.read_bytes()
    (tmp_path / "real.jsonl").write_text("before")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    assert run("classify", capture, "-o", tmp_path / "link.jsonl").returncode == 0
    assert (tmp_path / "link.jsonl").is_symlink()
    assert (tmp_path / "real.jsonl").read_text().count("\n") == 18
    fifo = tmp_path / "fifo.jsonl"
    os.mkfifo(fifo)
    with subprocess.Popen(["/bin/cat", str(fifo)], stdout=subprocess.PIPE) as reader:
        assert run("classify", capture, "-o", fifo).returncode == 0
        text, _ = reader.communicate(timeout=60)
    assert text.count(b"\n") == 18
    assert fifo.is_fifo()


@pytest.mark.parametrize("option", ["--idle-timeout", "--reorder"])
def test_nan_is_no_number(option: str) -> None:
    """NaN passes every comparison, so it is refused by name."""
    done = run("classify", MIXED, option, "nan")
    assert done.returncode == 2
    assert b"nan is not a number" in done.stderr


def test_a_pipe_among_several_captures_is_refused(tmp_path: Path) -> None:
    """A pipe can be read once, and the order of several captures needs a look first."""
    os.mkfifo(tmp_path / "fifo")
    done = run("classify", MIXED, tmp_path / "fifo")
    assert done.returncode == 1
    assert b"a pipe cannot be one of several" in done.stderr
