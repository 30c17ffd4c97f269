"""Certificates of the lab: a root that clients trust, an intermediate, and a leaf for all names."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Where the certificates are, as PEM.

    Parameters
    ----------
    root : pathlib.Path
        What clients trust.
    chain, key : pathlib.Path
        What servers show, leaf first, and the leaf's private key.
    spki : str
        Base64 of the SHA-256 of the leaf's public key, for
        ``--ignore-certificate-errors-spki-list`` of Chromium.
    """

    root: Path
    chain: Path
    key: Path
    spki: str


def make_certificates(folder: Path, names: Sequence[str]) -> Certificates:
    """Make a chain of P-256 certificates with new keys, like those of public authorities.

    Parameters
    ----------
    folder : pathlib.Path
        Made if missing; gets ``root.pem``, ``chain.pem`` and ``key.pem``.
    names : sequence of str
        DNS names of the leaf, at least one.
    """
    root_key, middle_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    root_name, middle_name = _name("llmflow lab root"), _name("llmflow lab intermediate")
    root = _authority(root_name, root_key, root_name, root_key, below=1)
    middle = _authority(middle_name, middle_key, root_name, root_key, below=0)
    leaf = (
        _builder(_name(names[0][:64]), key, middle_name, middle_key)  # the most a name may have
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(middle_key, SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificates(
        folder / "root.pem", folder / "chain.pem", folder / "key.pem", _spki(key.public_key())
    )
    made.root.write_bytes(root.public_bytes(Encoding.PEM))
    made.chain.write_bytes(leaf.public_bytes(Encoding.PEM) + middle.public_bytes(Encoding.PEM))
    # Readable by all: servers drop their privileges, and the key is worth nothing.
    made.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return made


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    public, issuer_public = key.public_key(), issuer_key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False
        )
    )


def _authority(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    below: int,
) -> x509.Certificate:
    """Certificate of an authority with at most so many authorities below it."""
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder(subject, key, issuer, issuer_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
        .add_extension(usage, critical=True)
        .sign(issuer_key, SHA256())
    )


def _spki(public: ec.EllipticCurvePublicKey) -> str:
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()
