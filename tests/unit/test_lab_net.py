"""Parts of the lab's network that need no network: certificates, kernel labels, checks, bounds."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest import mock

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from llmflow.errors import LabError
from llmflow.lab.net import doctor
from llmflow.lab.net.impairment import Direction
from llmflow.lab.net.marks import parse
from llmflow.lab.net.paths import AccessPath
from llmflow.lab.net.pki import make_certificates
from llmflow.lab.net.topology import Topology

EVENTS = """\
[1795591497.401255]\t    [NEW] ipv4     2 tcp      6 120 SYN_SENT src=10.80.0.1 dst=10.80.1.1 \
sport=58622 dport=443 [UNREPLIED] src=10.80.1.1 dst=10.80.0.1 sport=443 dport=58622 mark=20001
[1795591497.5]\t    [NEW] ipv4     2 udp      17 30 src=10.80.0.1 dst=10.80.1.2 \
sport=1 dport=53 [UNREPLIED] src=10.80.1.2 dst=10.80.0.1 sport=53 dport=1
[1795591498.1]\t    [NEW] ipv4     2 icmp     1 30 src=10.80.0.1 dst=10.80.1.1 type=8 code=0 id=9

conntrack v1.4.7 (conntrack-tools): 3 flow events have been shown.
"""
PATH = AccessPath("path", Direction(), Direction())


def test_clients_that_trust_the_root_trust_the_servers_by_each_name(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "pki", ["api.example", "chat.example"])
    leaf, *chain = x509.load_pem_x509_certificates(made.chain.read_bytes())
    store = Store(x509.load_pem_x509_certificates(made.root.read_bytes()))
    for name in ("api.example", "chat.example"):
        verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName(name))
        assert len(verifier.verify(leaf, chain)) == 3
    assert made.key.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


def test_kernel_labels_are_read_and_other_lines_passed_over() -> None:
    marked, unmarked = parse(EVENTS.splitlines())
    assert marked == {
        "protocol": "tcp",
        "client_ip": "10.80.0.1",
        "client_port": 58622,
        "server_ip": "10.80.1.1",
        "server_port": 443,
        "mark": 20001,
        "time": 1795591497.401255,
    }
    assert (unmarked["protocol"], unmarked["server_port"], unmarked["mark"]) == ("udp", 53, 0)


def test_what_is_missing_comes_with_the_command_that_installs_it() -> None:
    with mock.patch.object(shutil, "which", lambda name: None if name == "nft" else f"/bin/{name}"):
        found = {check.name: check for check in doctor.checks()}
    assert (found["nft"].ok, found["nft"].fix) == (False, "apt install nftables")
    assert found["nft"].required
    assert (found["dumpcap"].ok, found["dumpcap"].fix) == (True, "")
    assert all(check.fix == "" or not check.ok for check in found.values())


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([], {}),
        ([PATH, PATH], {}),
        ([PATH], {"api.example": 32}),
        ([PATH], {"api.example\n6.6.6.6 else.example": 0}),
    ],
)
def test_a_topology_that_cannot_be_is_refused_before_anything_is_made(
    paths: list[AccessPath], names: dict[str, int]
) -> None:
    with pytest.raises(LabError):
        Topology(paths, names=names)
