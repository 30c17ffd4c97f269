"""Names in the result of the whole line against tshark, on a corpus that is not in the project."""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from llmflow.engine.line import classify
from llmflow.errors import CaptureError
from llmflow.flows.stream import FlowStream
from llmflow.learn.model import load_model
from llmflow.metadata.providers import load
from llmflow.metadata.wire import host_name
from tests.differential.test_names import CORPUS, KNOWN, captures

FIELDS = (
    "ip.src", "ipv6.src", "ip.dst", "ipv6.dst", "tcp.srcport", "udp.srcport", "tcp.dstport",
    "udp.dstport", "tls.handshake.extensions_server_name",
)  # fmt: skip
Ends = frozenset[tuple[str, int]]

pytestmark = [
    pytest.mark.skipif(not CORPUS.is_dir(), reason="LLMFLOW_CORPUS names no folder"),
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed"),
]


def theirs(path: Path) -> dict[Ends, set[str]]:
    """Server names by the two ends, of all ClientHellos that tshark finds outside of tunnels."""
    command = ["tshark", "-n", "-r", str(path), "-Y", "tls.handshake.type == 1", "-T", "fields"]
    options = ["-o", "tcp.reassemble_out_of_order:TRUE", *(x for f in FIELDS for x in ("-e", f))]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    found: dict[Ends, set[str]] = defaultdict(set)
    for line in run.stdout.splitlines():
        fields = line.split("\t")
        tunnelled = bool(fields[0] and fields[1]) or any("," in x for x in fields[:-1])
        if len(fields) != len(FIELDS) or tunnelled or not fields[-1]:
            continue
        src, dst = fields[0] or fields[1], fields[2] or fields[3]
        sport, dport = fields[4] or fields[5], fields[6] or fields[7]
        ends = frozenset(
            (str(ipaddress.ip_address(address)), int(port))
            for address, port in ((src, sport), (dst, dport))
        )
        found[ends].add(host_name(fields[-1].split(",")[0]))
    return {ends: names - {""} for ends, names in found.items() if names - {""}}


def ours(path: Path) -> dict[Ends, set[str]]:
    """Server names by the two ends, as `classify` gives them."""
    found: dict[Ends, set[str]] = defaultdict(set)
    stream = FlowStream([str(path)], providers=load())
    try:
        for results in classify(stream, load_model(None)):
            for row in results.flows.to_pylist():
                if row["sni"]:
                    ends = {
                        (row[f"{side}_ip"], row[f"{side}_port"]) for side in ("client", "server")
                    }
                    found[frozenset(ends)].add(row["sni"])
    except CaptureError:
        pass
    return found


@pytest.mark.parametrize("path", captures(), ids=lambda path: path.name)
def test_server_names_of_flows_equal_tshark(path: Path) -> None:
    """Every flow in which tshark sees a server name has one of these, and no other flow has any."""
    if os.environ.get("LLMFLOW_CAPTURES") is None and path.stat().st_size > 1 << 28:
        pytest.skip("large")
    wanted, found = theirs(path), ours(path)
    different = {ends: (names, found.get(ends)) for ends, names in wanted.items()
                 if not found.get(ends, set()) or not found[ends] <= names}  # fmt: skip
    known = next((why for tail, why in KNOWN.items() if path.name.endswith(tail)), "")
    if different and known:
        pytest.xfail(known)
    assert not different
