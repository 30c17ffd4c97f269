"""JA4, the TLS client fingerprint of FoxIO (BSD-3-Clause; ``technical_details/JA4.md``).

Only JA4 itself: its relatives (JA4S, JA4H, JA4X, …) are under another licence.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Any

from llmflow.metadata.tls import ALPN, SERVER_NAME, ClientHello

_VERSIONS = {0x0002: "s2", 0x0300: "s3", 0x0301: "10", 0x0302: "11", 0x0303: "12", 0x0304: "13"}


_GREASE = frozenset(0x1010 * number + 0x0A0A for number in range(16))


def is_grease(number: int) -> bool:
    """Whether a 16-bit value is one of the sixteen of RFC 8701.

    >>> is_grease(0x3A3A), is_grease(0x3A4A), is_grease(0x1301)
    (True, False, False)
    """
    return number in _GREASE


def _real(numbers: Iterable[int]) -> list[int]:
    return [number for number in numbers if number not in _GREASE]


def _hex(numbers: Iterable[int]) -> str:
    return ",".join(f"{number:04x}" for number in numbers)


@lru_cache(maxsize=1024)  # there are few clients
def _hash(*lists: tuple[int, ...]) -> str:
    text = "_".join(map(_hex, filter(None, lists)))
    return sha256(text.encode()).hexdigest()[:12] if text else "0" * 12


def _alpn(first: bytes = b"") -> str:
    """First and last character of the first protocol offered.

    They are taken from its hexadecimal digits if one of the two is no letter or digit.
    """
    if not first:
        return "00"
    ends = bytes([first[0], first[-1]])
    text = ends.decode("latin-1") if ends.isalnum() else first.hex()
    return text[0] + text[-1]


def ja4(hello: ClientHello, *, quic: bool = False) -> str:
    """Fingerprint of a ClientHello.

    Parameters
    ----------
    hello : ClientHello
        A whole one: what is missing would change the fingerprint.
    quic : bool
        Whether it came over QUIC.

    Returns
    -------
    str
        Such as ``t13d1516h2_8daaf6152771_e5627efa2ab1``.
    """
    return _fingerprint(hello[:5], hello.alpn[:1], quic=quic)


@lru_cache(maxsize=4096)  # many send the same over and over
def _fingerprint(lists: tuple[Any, ...], alpn: tuple[bytes, ...], *, quic: bool) -> str:
    version, ciphers, extensions, versions, signatures = lists
    ciphers, extensions = _real(ciphers), _real(extensions)
    version = max(_real(versions), default=version)
    kept = sorted(x for x in extensions if x not in (SERVER_NAME, ALPN))
    return (
        ("q" if quic else "t")
        + _VERSIONS.get(version, "00")
        + ("d" if SERVER_NAME in extensions else "i")
        + f"{min(len(ciphers), 99):02}{min(len(extensions), 99):02}"
        + _alpn(*alpn)
        + "_"
        + _hash(tuple(sorted(ciphers)))
        + "_"
        + _hash(tuple(kept), tuple(_real(signatures)))
    )
