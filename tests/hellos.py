"""Hellos and Initial packets, made for tests, in the terms of the RFCs."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from llmflow.metadata.quic import V1, V2, initial_keys

CIPHERS = (0x1A1A, 0x1301, 0x1302, 0xC02B)
SIGNATURES = (0x0403, 0x0804, 0x0401)


def vector(width: int, body: bytes) -> bytes:
    """A length of ``width`` bytes, and what it counts."""
    return len(body).to_bytes(width, "big") + body


def numbers(values: Sequence[int], width: int = 2) -> bytes:
    """A list of numbers."""
    return b"".join(value.to_bytes(width, "big") for value in values)


def client_hello(
    name: str = "claude.ai",
    alpn: Sequence[bytes] = (b"h2", b"http/1.1"),
    *,
    versions: Sequence[int] = (0x2A2A, 0x0304, 0x0303),
    more: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """A ClientHello message with its header; ``more`` are further extensions."""
    extensions = [
        (0x3A3A, b""),
        (0, vector(2, b"\0" + vector(2, name.encode()))),
        (16, vector(2, b"".join(vector(1, x) for x in alpn))),
        (43, vector(1, numbers(versions))),
        (13, vector(2, numbers(SIGNATURES))),
        *more,
    ]
    block = b"".join(numbers([kind]) + vector(2, body) for kind, body in extensions)
    body = b"\3\3" + bytes(32) + vector(1, bytes(32)) + vector(2, numbers(CIPHERS)) + b"\1\0"
    return b"\1" + vector(3, body + vector(2, block))


def server_hello(
    cipher: int = 0x1301, extensions: Sequence[tuple[int, bytes]] = (), random: bytes = bytes(32)
) -> bytes:
    """A ServerHello message with its header."""
    block = b"".join(numbers([kind]) + vector(2, body) for kind, body in extensions)
    body = b"\3\3" + random + b"\0" + numbers([cipher]) + b"\0" + vector(2, block)
    return b"\2" + vector(3, body)


def records(message: bytes, *sizes: int) -> bytes:
    """A handshake message in records of the given sizes; the last takes the rest."""
    parts = []
    for size in sizes:
        parts.append(message[:size])
        message = message[size:]
    return b"".join(b"\x16\3\1" + vector(2, part) for part in (*parts, message) if part)


def varint(number: int) -> bytes:
    """RFC 9000, section 16; always in four bytes."""
    return (0x80000000 | number).to_bytes(4, "big")


def crypto(offset: int, data: bytes) -> bytes:
    """A CRYPTO frame."""
    return b"\6" + varint(offset) + varint(len(data)) + data


def initial(
    frames: bytes,
    *,
    dcid: bytes = b"12345678",
    keyed_by: bytes | None = None,
    number: int = 0,
    version: int = V1,
    side: str = "client",
    scid: bytes = b"",
    token: bytes = b"",
) -> bytes:
    """A protected Initial packet (RFC 9001, section 5)."""
    keys = initial_keys(version, keyed_by or dcid, side)
    assert keys
    kind = 0xD0 if version == V2 else 0xC0
    front = bytes([kind | 3]) + numbers([version], 4) + vector(1, dcid) + vector(1, scid)
    front += (varint(len(token)) + token) if side == "client" and token else b"\0"
    header = front + (0x4000 | len(frames) + 20).to_bytes(2, "big") + numbers([number], 4)
    nonce = int.from_bytes(keys.iv, "big") ^ number
    sealed = AESGCM(keys.key).encrypt(nonce.to_bytes(12, "big"), frames, header)
    mask = Cipher(algorithms.AES(keys.hp), modes.ECB()).encryptor().update(sealed[:16])  # noqa: S305
    hidden = bytes(a ^ b for a, b in zip(header[-4:], mask[1:], strict=False))
    return bytes([header[0] ^ mask[0] & 0x0F]) + header[1:-4] + hidden + sealed
