"""Randomness, dates and certificates of a QUIC stack, from a seed.

What is drawn here protects nothing: keys are made to be written beside the capture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from random import Random
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import aioquic.quic.connection
import aioquic.quic.packet
import aioquic.tls
from aioquic.quic.stream import QuicStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from llmflow.lab.stage import DOMAIN, HOSTS

_VALID = timedelta(days=365)


class Chain(NamedTuple):
    """A server's certificates and key, and whom its clients trust."""

    leaf: x509.Certificate
    intermediate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    trusted: bytes


@contextmanager
def seeded(rng: Random, now: datetime) -> Iterator[None]:
    """Let aioquic draw everything from ``rng``, and believe it is ``now``.

    Changes names in aioquic's own modules while the block runs, nothing else; not for threads.

    Parameters
    ----------
    rng : Random
        Connection ids, randoms and ephemeral keys come from it.
    now : datetime
        With a time zone; what certificates and tickets are dated by.
    """
    tls: Any = aioquic.tls
    chance = SimpleNamespace(urandom=rng.randbytes)
    changes: list[tuple[Any, str, Any]] = [
        (aioquic.quic.connection, "os", chance),
        (aioquic.quic.packet, "os", chance),
        # Sets of streams say which one goes first; by default that follows places in memory.
        (QuicStream, "__hash__", lambda stream: stream.stream_id),
        (tls, "os", chance),
        (tls, "utcnow", lambda: now),
        (
            tls,
            "ec",
            _with(
                ec,
                generate_private_key=lambda curve: _curve_key(rng, curve),
                ECDSA=lambda algorithm: ec.ECDSA(algorithm, deterministic_signing=True),
            ),
        ),
        (tls, "x25519", _with(x25519, X25519PrivateKey=_keys(x25519.X25519PrivateKey, rng, 32))),
        (tls, "x448", _with(x448, X448PrivateKey=_keys(x448.X448PrivateKey, rng, 56))),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


@lru_cache(maxsize=1)
def chain(seed: int, now: datetime) -> Chain:
    """Root, intermediate and leaf for all servers of the lab, the same bytes for the same seed."""
    rng = Random(seed)
    names = ("llmflow lab root", "llmflow lab intermediate", DOMAIN)
    keys = [_curve_key(rng, ec.SECP256R1()) for _ in names]
    certificates: list[x509.Certificate] = []
    for place, name in enumerate(names):
        issuer = max(place - 1, 0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(names[issuer]))
            .public_key(keys[place].public_key())
            .serial_number(rng.getrandbits(127) | 1)
            .not_valid_before(now - _VALID)
            .not_valid_after(now + _VALID)
            .add_extension(x509.BasicConstraints(place < 2, None), critical=True)  # noqa: PLR2004
        )
        if name == DOMAIN:
            alternative = x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS])
            builder = builder.add_extension(alternative, critical=False)
        certificates.append(builder.sign(keys[issuer], hashes.SHA256(), ecdsa_deterministic=True))
    root, intermediate, leaf = certificates
    return Chain(leaf, intermediate, keys[2], root.public_bytes(Encoding.PEM))


def start(seconds: int) -> datetime:
    """A unix time as aioquic and certificates want it."""
    return datetime.fromtimestamp(seconds, UTC)


def _with(module: ModuleType, **changes: Any) -> SimpleNamespace:  # noqa: ANN401
    return SimpleNamespace(**(vars(module) | changes))


def _curve_key(rng: Random, curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(rng.getrandbits(curve.key_size - 1) | 1, curve)


def _keys(kind: Any, rng: Random, size: int) -> SimpleNamespace:  # noqa: ANN401
    return SimpleNamespace(generate=lambda: kind.from_private_bytes(rng.randbytes(size)))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
