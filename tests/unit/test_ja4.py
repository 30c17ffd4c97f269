"""JA4 against published fingerprints, and the rules of its description."""

from __future__ import annotations

import pytest

from llmflow.metadata.ja4 import ja4
from llmflow.metadata.tls import ClientHello

# The worked example of FoxIO's description: Chrome on TLS 1.3, over TCP.
CHROME = ClientHello(
    version=0x0303,
    ciphers=(
        0xDADA, 0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013,
        0xC014, 0x009C, 0x009D, 0x002F, 0x0035,
    ),
    extensions=(
        0x4A4A, 0x0000, 0x0017, 0xFF01, 0x000A, 0x000B, 0x0023, 0x0010, 0x0005, 0x000D, 0x0012,
        0x0033, 0x002D, 0x002B, 0x001B, 0x4469, 0x0A0A, 0x0015,
    ),
    versions=(0x6A6A, 0x0304, 0x0303),
    signatures=(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601),
    sni="example.com",
    alpn=(b"h2", b"http/1.1"),
    ech=None,
    whole=True,
)  # fmt: skip


def test_published_example() -> None:
    assert ja4(CHROME) == "t13d1516h2_8daaf6152771_e5627efa2ab1"


def test_order_of_ciphers_and_extensions_does_not_count() -> None:
    """Browsers shuffle them; signature algorithms are kept in order."""
    shuffled = CHROME._replace(ciphers=CHROME.ciphers[::-1], extensions=CHROME.extensions[::-1])
    assert ja4(shuffled) == ja4(CHROME)
    turned = CHROME._replace(signatures=CHROME.signatures[::-1])
    assert ja4(turned) != ja4(CHROME)


@pytest.mark.parametrize(
    ("alpn", "ends"),
    [
        ((), "00"),
        ((b"",), "00"),
        ((b"h3",), "h3"),
        ((b"http/1.1",), "h1"),
        ((b"x",), "xx"),
        ((b"\xab",), "ab"),
        ((b"\x20\x61\x62\xcd",), "2d"),
        ((b"\x30\xab",), "3b"),
    ],
)
def test_first_and_last_character_of_the_first_protocol(alpn: tuple[bytes, ...], ends: str) -> None:
    assert ja4(CHROME._replace(alpn=alpn))[8:10] == ends


def test_missing_parts_are_zeros() -> None:
    bare = ClientHello(0x0301, (), (), (), (), "", (), None, whole=True)
    assert ja4(bare, quic=True) == "q10i000000_000000000000_000000000000"


def test_no_extension_but_name_and_protocol_is_zeros_too() -> None:
    """Both are left out of the last part, which is then empty."""
    lone = CHROME._replace(extensions=(0, 16), signatures=())
    assert ja4(lone) == "t13d1502h2_8daaf6152771_000000000000"


def test_counts_end_at_99() -> None:
    many = CHROME._replace(ciphers=tuple(range(1, 121)))
    assert ja4(many)[4:6] == "99"


def test_unknown_versions() -> None:
    assert ja4(CHROME._replace(versions=(0x7F1C,)))[1:3] == "00"
