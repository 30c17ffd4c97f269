"""OpenVPN tunnels, each around one connection: an LLM stream, or anything else."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from llmflow.lab.programs import ClientPlace, Program, ServerPlace, _inner
from llmflow.lab.programs._inner import network
from llmflow.lab.programs._place import Popen
from llmflow.lab.script import LLM_STREAM, OTHER


def _identity(shared: Path) -> list[str | Path]:
    """One certificate, which signed itself, for both ends of all tunnels."""
    certificate, key = shared / "certificate", shared / "key"
    return ["--ca", certificate, "--cert", certificate, "--key", key]


def serve(place: ServerPlace, port: int) -> list[Popen]:
    """One server for all visits, and a TLS server within its tunnels."""
    place.run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-subj", "/CN=tunnel", "-days", "30"),
        *("-keyout", place.scratch / "key", "-out", place.scratch / "certificate"),
    )
    tunnel = place.start(
        *("openvpn", "--dev-type", "tun", "--dev", f"ov{port}", "--port", str(port)),
        *("--proto", "udp4", "--multihome", "--topology", "subnet", "--dh", "none"),
        *("--server", f"{network(port)}.0", "255.255.255.0", "--duplicate-cn"),
        *("--keepalive", "10", "60", *_identity(place.scratch)),
    )
    return [tunnel, _inner.start(place, port)]


def visit(place: ClientPlace, port: int, label: str) -> None:
    """Bring a tunnel up and play one connection within."""
    device = f"ov{place.number}"
    cipher = place.rng.choice(("AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"))
    with place.popen(
        *("openvpn", "--client", "--dev-type", "tun", "--dev", device, "--nobind"),
        *("--explicit-exit-notify", "1"),
        *("--proto", "udp4", "--remote", place.server, str(port), "--data-ciphers", cipher),
        *_identity(place.shared),
    ):
        asyncio.run(_inner.visit(place, label, device, port))


PROGRAMS = tuple(
    Program(
        name=name,
        label=label,
        category="vpn_tunnel",
        needs=("openvpn", "openssl"),
        modules=(),
        ports=(("udp", port),),
        serve=partial(serve, port=port),
        visit=partial(visit, port=port, label=inner),
    )
    for name, label, inner, port in (
        ("openvpn-llm", "llm-vpn", LLM_STREAM, 1194),
        ("openvpn-other", OTHER, OTHER, 1195),
    )
)
