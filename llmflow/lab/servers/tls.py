"""TLS of the servers written in Python."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from llmflow.lab.servers.config import ServerConfig


def server_context(config: ServerConfig, alpn: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
    """Give a server its certificate, TLS versions and application protocols (none: no ALPN)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.certificate, config.key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
