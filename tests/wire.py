"""A small lab on the loopback interface: real servers and clients, high ports, no root."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from llmflow.lab.plan import write_plan
from llmflow.lab.script import Session

NAME = "server.lab.example"


def certificates(folder: Path) -> tuple[Path, Path]:
    """A certificate that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, secret


def public_key_hash(chain: Path) -> str:
    """What Chromium wants to be told of a certificate that it shall accept."""
    key = x509.load_pem_x509_certificate(chain.read_bytes()).public_key()
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(hashlib.sha256(key.public_bytes(*form)).digest()).decode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(folder: Path, software: str, **more: Any) -> Iterator[dict[str, Any]]:
    """A server process over the plan of a folder; gives what clients are told of it."""
    ports = {name: free_port() for name in ("port", "tcp_port", "udp_port")}
    config = {
        "software": software,
        "addresses": ["127.0.0.1"],
        "plan": str(folder / "plan.jsonl"),
        "certificate": str(folder / "chain.pem"),
        "key": str(folder / "key.pem"),
        "log": str(folder / "server.jsonl"),
        "ready": str(folder / "ready"),
        "folder": str(folder / software),
        **ports,
        **more,
    }
    (folder / "server.json").write_text(json.dumps(config))
    argv = [sys.executable, "-m", "llmflow.lab.servers", str(folder / "server.json")]
    with (folder / "stderr").open("wb") as log, subprocess.Popen(argv, stderr=log) as process:
        try:
            deadline = time.monotonic() + 20
            while not (folder / "ready").exists():
                running = process.poll() is None and time.monotonic() < deadline
                assert running, (folder / "stderr").read_text()
                time.sleep(0.02)
            yield {"address": "127.0.0.1", "name": NAME, **ports}
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, (folder / "stderr").read_text()


def play(folder: Path, sessions: list[Session], **more: Any) -> dict[str, list[dict[str, Any]]]:
    """Play sessions of one front; all records by sort."""
    certificates(folder)
    write_plan(folder / "plan.jsonl", sessions)
    front = sessions[0].front
    with server(folder, front) as endpoint:
        config = {
            "plan": str(folder / "plan.jsonl"),
            "path": sessions[0].path,
            "t0": time.time(),
            "servers": {front: endpoint},
            "ca": str(folder / "chain.pem"),
            "log": str(folder / "client.jsonl"),
            "keys": str(folder / "keys.log"),
            "folder": str(folder / "browser"),
            "spki": [public_key_hash(folder / "chain.pem")],
            **more,
        }
        (folder / "client.json").write_text(json.dumps(config))
        argv = [sys.executable, "-m", "llmflow.lab.clients", str(folder / "client.json")]
        environment = {**os.environ, "PYTHONWARNINGS": "default"}
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=60, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
    records: dict[str, list[dict[str, Any]]] = {"connection": [], "exchange": [], "server": []}
    for name in ("client.jsonl", "server.jsonl"):
        for line in (folder / name).read_text().splitlines():
            record = json.loads(line)
            records[record["record"]].append(record)
    return records
