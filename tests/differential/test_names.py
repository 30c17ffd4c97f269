"""Names against tshark and nDPI, on a corpus that is not part of the project.

``LLMFLOW_CORPUS`` names its folder; ``LLMFLOW_CAPTURES`` may pick captures of it by a pattern. JA4
is not among the fields of older tshark, so it is put together here from those it is made of.
"""

from __future__ import annotations

import csv
import hashlib
import ipaddress
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from llmflow.capture.account import PacketAccount
from llmflow.capture.columns import IPV4_MAPPED, TCP, UDP
from llmflow.capture.dpkt_lane import _BROKEN, _walk
from llmflow.capture.packet import Packet, SkipError
from llmflow.capture.reader import read_records
from llmflow.errors import CaptureError
from llmflow.metadata.names import FlowNames, Names
from llmflow.metadata.wire import host_name

CORPUS = Path(os.environ.get("LLMFLOW_CORPUS", "none"))
PATTERN = os.environ.get("LLMFLOW_CAPTURES", "**/*.pcap*")
FIELDS = (
    "frame.number",
    "tls.handshake.extensions_server_name",
    "tls.handshake.extensions_alpn_str",
    "tls.handshake.version",
    "tls.handshake.ciphersuite",
    "tls.handshake.extension.type",
    "tls.handshake.sig_hash_alg",
    "tls.handshake.extensions.supported_version",
)
End = tuple[int, int]
Key = tuple[int, End, End]

# tshark puts the signature algorithms of these extensions into one field with those that JA4
# takes: delegated_credentials (RFC 9345) and signature_algorithms_cert (RFC 8446).
OTHER_SIGNATURES = {34, 50}

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="LLMFLOW_CORPUS names no folder")


def captures() -> list[Path]:
    rooms = ("background", "llm", "formats")
    return [path for room in rooms for path in sorted((CORPUS / room).glob(PATTERN))]


def payloads(path: Path) -> Iterator[tuple[int, Key, int, int | None, bytes]]:
    """Position, flow, side, sequence number and payload of every TCP and UDP packet."""
    for block, records, position in read_records([path], PacketAccount()):
        table = (records.offset, records.captured, records.wire, records.link)
        rows = zip(*(column.tolist() for column in table), strict=True)
        for number, (offset, captured, wire, link) in enumerate(rows, position):
            packet = Packet(block[offset : offset + captured], max(wire, captured))
            try:
                _walk(packet, link, "inner")
            except (SkipError, *_BROKEN):
                pass
            if packet.network is None:
                continue
            a_hi, a_lo, b_hi, b_lo, protocol, length, header, at, *_ = packet.network
            data = packet.frame[at + header : at + length]
            if protocol not in (TCP, UDP) or len(data) < (20 if protocol == TCP else 8):
                continue
            sport, dport, seq = struct.unpack_from(">HHI", data)
            a, b = (a_hi << 64 | a_lo, sport), (b_hi << 64 | b_lo, dport)
            low, high = sorted([a, b])
            payload = data[(data[12] >> 4) * 4 :] if protocol == TCP else data[8:]
            yield (
                number, (protocol, low, high), int(a != low),
                seq if protocol == TCP else None, payload,
            )  # fmt: skip


@cache
def ours(path: Path) -> tuple[dict[Key, Names], dict[int, Key]]:
    """Names by flow, and which packet is of which flow."""
    flows: dict[Key, FlowNames] = {}
    place: dict[int, Key] = {}
    try:
        for number, key, side, seq, payload in payloads(path):
            flows.setdefault(key, FlowNames()).add(side, seq, payload)
            place[number] = key
    except CaptureError:
        pass
    return {key: flow.names() for key, flow in flows.items()}, place


def numbers(text: str) -> list[int]:
    """A field's values without those of GREASE (RFC 8701)."""
    found = [int(x, 0) for x in text.split(",") if x]
    return [x for x in found if x & 0x0F0F != 0x0A0A or x >> 8 != x & 0xFF]


def fingerprint(row: dict[str, str], *, quic: bool) -> str:
    """JA4 by its description, from tshark's fields."""
    ciphers, kinds = (
        numbers(row["tls.handshake.ciphersuite"]),
        numbers(row["tls.handshake.extension.type"]),
    )
    signatures = numbers(row["tls.handshake.sig_hash_alg"])
    versions = numbers(row["tls.handshake.extensions.supported_version"])
    version = max(versions or numbers(row["tls.handshake.version"]))
    names = {0x304: "13", 0x303: "12", 0x302: "11", 0x301: "10", 0x300: "s3"}
    alpn = row["tls.handshake.extensions_alpn_str"].split(",")[0]

    def digest(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12

    def listed(values: list[int]) -> str:
        return ",".join(f"{x:04x}" for x in values)

    kept = listed(sorted(x for x in kinds if x not in (0, 16)))
    kept += ("_" + listed(signatures)) * bool(signatures)
    sni, size = "d" if 0 in kinds else "i", f"{len(ciphers):02}{len(kinds):02}"
    front = ("q" if quic else "t") + names.get(version, "00") + sni + size
    front += alpn[0] + alpn[-1] if alpn else "00"
    third = "*" if OTHER_SIGNATURES & set(kinds) else digest(kept)
    return f"{front}_{digest(listed(sorted(ciphers)))}_{third}"


def hellos(path: Path) -> list[dict[str, str]]:
    """Every ClientHello that tshark finds."""
    command = ["tshark", "-n", "-r", str(path), "-Y", "tls.handshake.type == 1", "-T", "fields"]
    options = ["-o", "tcp.reassemble_out_of_order:TRUE", *(x for f in FIELDS for x in ("-e", f))]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    lines = [line.split("\t") for line in run.stdout.splitlines()]
    return [dict(zip(FIELDS, line, strict=True)) for line in lines if len(line) == len(FIELDS)]


def readable(row: dict[str, str]) -> bool:
    """Whether a hello is one: SSL 2.0 has no cipher suites of TLS, broken ones no whole lists."""
    return bool(row["tls.handshake.ciphersuite"] and row["tls.handshake.extension.type"])


# Where the two differ, and why.
KNOWN = {
    "capwap_data.pcapng": "its WLAN headers say that they are later fragments",
    "tls_sgt.pcap": "a tag (Cisco meta data) that is not read",
    "ip_fragments_inorder.pcap": "IP fragments are not joined",
    "gtpu_outer_fragmented.pcap": "IP fragments are not joined",
    "openvpn_udp_tls-auth.pcap": "TLS inside OpenVPN is the tunnel's, not the flow's",
    "443-opvn.pcap": "TLS inside OpenVPN is the tunnel's, not the flow's",
    "shellfire_vpn.pcapng": "TLS inside OpenVPN is the tunnel's, not the flow's",
    "haproxy.pcap": "a PROXY line stands in front of the hello in one segment",
    "tls_invalid_reads.pcap": "contradicting lengths: a name perhaps, but no fingerprint",
    "ssl-malformed1.pcap": "contradicting lengths",
    "zeek__retry.pcap": "a server name with a port, which is none",
    "quic-interop-retry.pcap": "a server name with a port, which is none",
    "zerortt.pcap": "a server name with a port, which is none",
    "ssl_state.pcap": "a server name with a zero byte, which is none",
    "ng_unknown_blocks_nrb_isb_dsb.pcapng": "tshark numbers packets otherwise",
}


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("path", captures(), ids=lambda path: path.name)
def test_names_equal_tshark(path: Path) -> None:
    """SNI, ALPN and JA4 of the first hello of every flow."""
    found, place = ours(path)
    seen: set[Key] = set()
    different = []
    for row in hellos(path):
        key = place.get(int(row["frame.number"]) - 1)
        if (key and key in seen) or not readable(row):
            continue
        name = row["tls.handshake.extensions_server_name"].split(",")[0]
        theirs = (
            name.lower().removesuffix("."),
            row["tls.handshake.extensions_alpn_str"],
            fingerprint(row, quic=bool(key and key[0] == UDP)),
        )
        names = found[key] if key else Names()
        ja4 = names.ja4[:-12] + "*" if theirs[2].endswith("*") else names.ja4
        if (names.sni, ",".join(names.alpn), ja4) != theirs:
            different.append((row["frame.number"], theirs, names))
        if key:
            seen.add(key)
    known = next((why for tail, why in KNOWN.items() if path.name.endswith(tail)), "")
    if different and known:
        pytest.xfail(known)
    assert not different


def end(text: str) -> End:
    """Address and port as nDPI writes them."""
    address, _, port = text.rpartition(":")
    try:
        number = ipaddress.ip_address(address.strip("[]"))
    except ValueError:  # nDPI's own form of some IPv6 addresses
        return 0, 0
    return int(number) | (IPV4_MAPPED if number.version == 4 else 0), int(port)


def test_names_agree_with_ndpi() -> None:
    """Server names and hosts of nDPI's own expectations, for TLS, QUIC and HTTP.

    The rest: Google QUIC without TLS, WebDAV's methods, packets cut in the hello, CAPWAP.
    """
    same = total = 0
    with (CORPUS / "background/flow_labels_ndpi_out.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            kinds = row["ndpi_proto"].partition("/")[2].split(".")
            if not row["sni"] or kinds[0] not in ("TLS", "QUIC", "HTTP"):
                continue
            low, high = sorted([end(row["a"]), end(row["b"])])
            found = ours(CORPUS / "background" / row["file"])[0]
            names = found.get((TCP if row["l4"] == "TCP" else UDP, low, high), Names())
            expected = host_name(row["sni"].partition(":")[0])
            total += 1
            same += expected in (names.sni, names.host)
    assert total > 500
    assert same / total > 0.95
