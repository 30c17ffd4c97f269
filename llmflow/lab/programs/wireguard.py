"""WireGuard tunnels, each around one connection: an LLM stream, or anything else."""

from __future__ import annotations

import asyncio
import base64
import os
from functools import partial
from pathlib import Path

from llmflow.lab.programs import ClientPlace, Program, ServerPlace, _inner
from llmflow.lab.programs._inner import network
from llmflow.lab.programs._place import Popen, await_path
from llmflow.lab.script import LLM_STREAM, OTHER

PEERS = 250
CONTROL = Path("/var/run/wireguard")  # where wireguard-go has its sockets
MTU = "1420"


def _device(port: int) -> str:
    # Sockets have the device's name, and namespaces share the file system.
    return f"wg{port % 100}p{os.getpid()}"


def _key_pair() -> tuple[str, str]:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key = X25519PrivateKey.generate()
    raw = key.private_bytes_raw(), key.public_key().public_bytes_raw()
    return base64.b64encode(raw[0]).decode(), base64.b64encode(raw[1]).decode()


def serve(place: ServerPlace, port: int) -> list[Popen]:
    """One end with as many peers as may call, and a TLS server within the tunnel."""
    inside, (private, public) = network(port), _key_pair()
    lines = [f"[Interface]\nPrivateKey = {private}\nListenPort = {port}"]
    for peer in range(PEERS):
        own, shown = _key_pair()
        lines.append(f"[Peer]\nPublicKey = {shown}\nAllowedIPs = {inside}.{peer + 2}/32")
        (place.scratch / f"peer-{peer}").write_text(
            f"[Interface]\nPrivateKey = {own}\n[Peer]\nPublicKey = {public}\n"
            f"AllowedIPs = {inside}.1/32\n"
        )
    config = place.scratch / "server"
    config.write_text("\n".join(lines))
    device = _device(port)
    tunnel = place.start("wireguard-go", "-f", device)
    await_path(CONTROL / f"{device}.sock")
    place.run("wg", "setconf", device, config)
    place.run("ip", "address", "add", f"{inside}.1/24", "dev", device)
    place.run("ip", "link", "set", device, "mtu", MTU, "up")
    return [tunnel, _inner.start(place, port)]


def visit(place: ClientPlace, port: int, label: str) -> None:
    """Bring a tunnel up, with or without keepalives, and play one connection within."""
    inside, device, peer = network(port), _device(port), place.number % PEERS
    config = place.scratch / "client"
    keepalive = place.rng.choice((0, 0, 5, 25))
    config.write_text(
        f"{(place.shared / f'peer-{peer}').read_text()}Endpoint = {place.server}:{port}\n"
        f"PersistentKeepalive = {keepalive}\n"
    )
    with place.popen("wireguard-go", "-f", device):
        await_path(CONTROL / f"{device}.sock")
        place.run("wg", "setconf", device, config)
        place.run("ip", "address", "add", f"{inside}.{peer + 2}/32", "dev", device)
        place.run("ip", "link", "set", device, "mtu", MTU, "up")
        # Another visit's tunnel leads to the same address: its route must not be in the way.
        place.run("ip", "route", "add", f"{inside}.1", "dev", device, "metric", str(1 + peer))
        asyncio.run(_inner.visit(place, label, device, port))


PROGRAMS = tuple(
    Program(
        name=name,
        label=label,
        category="vpn_tunnel",
        needs=("wireguard-go", "wg", "ip"),
        modules=("cryptography.hazmat.primitives.asymmetric.x25519",),
        ports=(("udp", port),),
        serve=partial(serve, port=port),
        visit=partial(visit, port=port, label=inner),
    )
    for name, label, inner, port in (
        ("wireguard-llm", "llm-vpn", LLM_STREAM, 51820),
        ("wireguard-other", OTHER, OTHER, 51821),
    )
)
