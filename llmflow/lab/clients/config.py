"""What the clients of one access path are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmflow.lab.plan import checked, read_object


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server software is reached.

    Parameters
    ----------
    address : str
        IPv4 address.
    name : str
        Server name in TLS; the certificate has it.
    port, tcp_port, udp_port : int, optional
        As in ``ServerConfig``.
    """

    address: str
    name: str
    port: int = 443
    tcp_port: int = 7000
    udp_port: int = 7001


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """All clients of one access path.

    Parameters
    ----------
    plan : str
        Plan file.
    path : str
        Name of the access path; sessions of other paths are left out.
    t0 : float
        Unix time at which the run begins; session ``start`` counts from it.
    servers : dict of str to Endpoint
        By server software; in JSON objects with the fields of ``Endpoint``.
    ca : str
        PEM file of the authority that clients trust.
    log, keys : str
        Where records and TLS secrets (SSLKEYLOGFILE format) are appended.
    folder : str
        For profiles and logs of browsers.
    hosts : list of str, optional
        Addresses that clients bind to, in turn by session number; the kernel chooses if empty.
        grpcio and Chromium cannot bind.
    gids : dict of str to int, optional
        Group under which a kind's sockets are opened.
    tls12 : list of str, optional
        Kinds whose clients offer TLS 1.2 at most (not over h3 and grpc, not Chromium).
    spki : list of str, optional
        Base64 SHA-256 of public keys of certificates that Chromium accepts.
    chromium : str, optional
        The browser's program.
    ready : str, optional
        File that appears when all is loaded and the sessions only wait for their time.
    """

    plan: str
    path: str
    t0: float
    servers: dict[str, Endpoint]
    ca: str
    log: str
    keys: str
    folder: str
    hosts: list[str] = field(default_factory=list)
    gids: dict[str, int] = field(default_factory=dict)
    tls12: list[str] = field(default_factory=list)
    spki: list[str] = field(default_factory=list)
    chromium: str = "chromium"
    ready: str = ""

    @classmethod
    def from_json(cls, path: Path) -> ClientConfig:
        """Read it; LabError says what is wrong."""
        found: dict[str, Any] = checked(cls, read_object(path), str(path))
        servers = {
            name: Endpoint(**checked(Endpoint, value, f"{path}, server {name}"))
            for name, value in dict(found["servers"]).items()
        }
        return cls(**{**found, "servers": servers})
