"""TLS hellos: what is read from them, and what is refused."""

from __future__ import annotations

import pytest

from llmflow.metadata import tls
from llmflow.metadata.wire import MalformedError
from tests.hellos import CIPHERS, SIGNATURES, client_hello, records, server_hello, vector

RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def read(message: bytes) -> tls.ClientHello:
    return tls.client_hello(message[4:])


def test_client_hello_gives_all_fields_as_sent() -> None:
    hello = read(client_hello())
    assert hello.sni == "claude.ai"
    assert hello.alpn == (b"h2", b"http/1.1")
    assert hello.ciphers == CIPHERS
    assert hello.signatures == SIGNATURES
    assert hello.versions == (0x2A2A, 0x0304, 0x0303)
    assert hello.extensions == (0x3A3A, 0, 16, 43, 13)
    assert hello.whole
    assert hello.ech is None


def test_names_are_brought_to_one_form() -> None:
    assert read(client_hello("Claude.AI.")).sni == "claude.ai"
    assert read(client_hello("bücher.example")).sni == "xn--bcher-kva.example"


@pytest.mark.parametrize("name", ["", "a..b", "a b", "a\0b", "x" * 64 + ".com", "a." * 200 + "com"])
def test_what_is_no_host_name_is_not_given(name: str) -> None:
    assert read(client_hello(name)).sni == ""


def test_outer_ech_is_told_with_the_outer_name() -> None:
    """GREASE looks the same; the inner form never appears in clear."""
    outer = b"\0\0\1\0\1\x2a" + vector(2, b"key") + vector(2, b"sealed")
    hello = read(client_hello("front.example", more=[(tls.ECH, outer)]))
    assert hello.ech == tls.Ech(kdf=1, aead=1, config_id=0x2A)
    assert hello.sni == "front.example"
    assert read(client_hello(more=[(tls.ECH, b"\1")])).ech is None


def test_damage_in_one_extension_costs_that_field_only() -> None:
    hello = read(client_hello(alpn=(), more=[(tls.ECH, b"\0\0")]))
    assert (hello.sni, hello.ech) == ("claude.ai", None)


def test_damage_among_the_extensions_leaves_what_stands_before() -> None:
    """But it is no whole hello any more, and gets no fingerprint."""
    hello = read(client_hello()[:-3])
    assert (hello.sni, hello.whole, hello.signatures) == ("claude.ai", False, ())


def test_hello_without_extensions() -> None:
    """TLS 1.0 clients may leave the whole block out."""
    body = b"\3\1" + bytes(32) + b"\0" + vector(2, b"\0\x2f") + b"\1\0"
    assert tls.client_hello(body).extensions == ()


@pytest.mark.parametrize("sizes", [(), (1,), (1, 1, 1, 1, 1), (3, 100), (150,)])
def test_hello_may_lie_in_several_records(sizes: tuple[int, ...]) -> None:
    stream = records(client_hello(), *sizes) + b"\x14\3\3\0\1\1"
    found = tls.record_message(stream)
    assert found
    assert found.whole
    assert found.kind == tls.CLIENT_HELLO
    assert tls.client_hello(found.body).sni == "claude.ai"


def test_every_prefix_of_a_stream_is_incomplete_not_wrong() -> None:
    stream = records(client_hello(), 7, 60)
    for end in range(len(stream)):
        found = tls.record_message(stream[:end])
        assert found is None or not found.whole


def test_front_of_a_cut_hello_gives_what_lies_in_it() -> None:
    """A short snaplen, or a lost segment, need not cost the name."""
    message = client_hello(more=[(21, bytes(2000))])
    found = tls.record_message(records(message)[:200])
    assert found
    assert not found.whole
    hello = tls.client_hello(found.body, whole=False)
    assert (hello.sni, hello.whole) == ("claude.ai", False)


def test_post_quantum_hello_of_several_kilobytes() -> None:
    message = client_hello(more=[(51, vector(2, b"\x11\xec" + vector(2, bytes(1216))))])
    found = tls.record_message(records(message))
    assert found
    assert tls.client_hello(found.body).extensions[-1] == 51


@pytest.mark.parametrize(
    "stream",
    [
        bytes.fromhex("802e0100020015000000100100800700c0"),  # SSL 2.0
        b"\x17\3\3\0\5hello",  # application data
        b"\x15\3\3\0\2\2\x28",  # alert
        b"\x16\3\3\0\0",  # empty record
        b"\x16\3\3\xff\xff\1",  # longer than any record
        b"\x16\3\1\0\5\1\2\0\0\0",  # message of 128 KiB
        b"\x16\3\1\0\5\x0b\0\0\1\0",  # certificate
        records(client_hello(more=[(21, bytes(300))]), *[1] * 300),  # hundreds of records
        records(client_hello(), 40).replace(b"\x16\3\1\0\x28", b"\x17\3\1\0\x28"),
    ],
)
def test_no_hello_is_refused(stream: bytes) -> None:
    with pytest.raises(MalformedError):
        tls.record_message(stream)


@pytest.mark.parametrize("at", range(34, 60))
def test_lengths_that_contradict_each_other_are_refused(at: int) -> None:
    """Session id, ciphers, extensions: a larger length anywhere leaves too little for the rest."""
    body = bytearray(client_hello(more=[(21, b"")])[4:])
    if body[at] == 0xFF:
        return
    body[at] = 0xFF
    try:
        hello = tls.client_hello(bytes(body))
    except MalformedError:
        return
    assert hello.sni in ("claude.ai", "")


@pytest.mark.parametrize("odd", [b"\0\3\x13\1\x13", b"\xff\xff\x13\1"])
def test_odd_or_overlong_cipher_lists_are_refused(odd: bytes) -> None:
    with pytest.raises(MalformedError):
        tls.client_hello(b"\3\3" + bytes(32) + b"\0" + odd + b"\1\0")


def test_server_hello_1_2_tells_version_cipher_and_alpn() -> None:
    hello = tls.server_hello(server_hello(0xC02F, [(16, vector(2, vector(1, b"h2")))])[4:])
    assert hello == tls.ServerHello(0x0303, 0xC02F, b"h2", retry=False)


def test_server_hello_1_3_version_is_in_the_extension() -> None:
    hello = tls.server_hello(server_hello(extensions=[(43, b"\3\4")])[4:])
    assert tls.version_name(hello.version) == "1.3"
    assert hello.alpn == b""


def test_hello_retry_request_is_recognised() -> None:
    hello = tls.server_hello(server_hello(extensions=[(43, b"\3\4")], random=RETRY)[4:])
    assert hello.retry


def test_cut_server_hello_with_a_cipher_of_1_3_is_1_3() -> None:
    """The key share may stand before the version and be cut."""
    message = server_hello(0x1302, [(51, bytes(1200)), (43, b"\3\4")])
    hello = tls.server_hello(message[4:100], whole=False)
    assert tls.version_name(hello.version) == "1.3"
