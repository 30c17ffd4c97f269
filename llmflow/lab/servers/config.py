"""What one server process is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmflow.lab.plan import checked, read_object


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One server software, in one process.

    Parameters
    ----------
    software : str
        ``uvicorn``, ``hypercorn``, ``nginx``, ``caddy``, ``websockets``, ``grpcio`` or
        ``asyncio``; the front of the sessions that it plays.
    addresses : list of str
        IPv4 addresses it listens on, all on the same port.
    plan : str
        Plan file; sessions of other fronts are left out.
    certificate, key : str
        PEM files: the chain, leaf first, and its private key.
    log, ready : str
        Where the server records go, and the file that appears when all ports accept.
    folder : str
        For files of the process itself: configuration and sockets of nginx and caddy.
    port : int, optional
        Of TLS over TCP, and of QUIC.
    tcp_port, udp_port : int, optional
        Of the plain transports of ``asyncio``.
    tls12 : bool, optional
        TLS 1.2 at most; HTTP/3 knows only 1.3.
    """

    software: str
    addresses: list[str]
    plan: str
    certificate: str
    key: str
    log: str
    ready: str
    folder: str
    port: int = 443
    tcp_port: int = 7000
    udp_port: int = 7001
    tls12: bool = False

    @classmethod
    def from_json(cls, path: Path) -> ServerConfig:
        """Read it; LabError says what is wrong."""
        return cls(**checked(cls, read_object(path), str(path)))
