"""QUIC Initials: the vectors of the RFCs, and ClientHellos put together from packets."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from llmflow.metadata import quic, tls
from llmflow.metadata.quic import DRAFT_29, V1, V2, InitialReader, initial_keys, initials, unprotect
from tests.hellos import client_hello, crypto, initial

DCID = bytes.fromhex("8394c8f03e515708")
# RFC 9001, appendix A.2, and RFC 9369, appendix A.2: the same frames.
FRAMES = bytes.fromhex(
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868"
    "04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578"
    "616d706c652e636f6dff01000100000a00080006001d00170018001000070005"
    "04616c706e000500050100000000003300260024001d00209370b2c9caa47fba"
    "baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400"
    "0d0010000e0403050306030203080408050806002d00020101001c0002400100"
    "3900320408ffffffffffffffff05048000ffff07048000ffff08011001048000"
    "75300901100f088394c8f03e51570806048000ffff"
).ljust(1162, b"\0")
# A tag covers every byte of a packet, so front and tag stand for the whole vector.
VECTORS = {
    V1: (
        "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9b",
        "e221af44860018ab0856972e194cd934",
    ),
    V2: (
        "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485dd04de806071",
        "a18b2faa745b6fe189cf772a9f84cbfc",
    ),
}
SERVERS = {
    V1: "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c697975"
    "54780bb38cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bde"
    "d74b562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc42158407d"
    "d074ee",
    V2: "dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698baeea26b91eb761d9b89237b"
    "bf87263017915358230035f7fd3945d88965cf17f9af6e16886c61bfc703106fbaf3cb4cfa52382dd16a393e"
    "42757507698075b2c984c707f0a0812d8cd5a6881eaf21ceda98f4bd23f6fe1a3e2c43edd9ce7ca84bed8521"
    "e2e140",
}


def read(*datagrams: bytes) -> InitialReader:
    reader = InitialReader()
    for datagram in datagrams:
        reader.feed(0, datagram)
    return reader


def name(reader: InitialReader) -> str:
    assert reader.message
    return tls.client_hello(reader.message.body).sni


@pytest.mark.parametrize(
    ("version", "side", "key", "iv", "hp"),
    [
        (V1, "client", "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c",
         "9f50449e04a0e810283a1e9933adedd2"),
        (V1, "server", "cf3a5331653c364c88f0f379b6067e37", "0ac1493ca1905853b0bba03e",
         "c206b8d9b9f0f37644430b490eeaa314"),
        (V2, "client", "8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f",
         "45b95e15235d6f45a6b19cbcb0294ba9"),
        (V2, "server", "82db637861d55e1d011f19ea71d5d2a7", "dd13c276499c0249d3310652",
         "edf6d05c83121201b436e16877593c3a"),
    ],
)  # fmt: skip
def test_keys_of_the_rfcs(version: int, side: str, key: str, iv: str, hp: str) -> None:
    """RFC 9001, appendix A.1; RFC 9369, appendix A.1."""
    keys = initial_keys(version, DCID, side)
    assert keys
    assert [part.hex() for part in keys] == [key, iv, hp]


@pytest.mark.parametrize("version", [V1, V2])
def test_client_initial_of_the_rfcs(version: int) -> None:
    """Appendix A.2 of both: our sealing gives the vector, and our opening its ClientHello."""
    datagram = initial(FRAMES, dcid=DCID, number=2, version=version)
    front, tag = VECTORS[version]
    assert (datagram.hex()[: len(front)], datagram.hex()[-32:]) == (front, tag)
    assert len(datagram) == 1200
    assert name(read(datagram)) == "example.com"


@pytest.mark.parametrize("version", [V1, V2])
def test_server_initial_of_the_rfcs(version: int) -> None:
    """Appendix A.3 of both: acknowledgement and ServerHello."""
    (packet,) = initials(bytes.fromhex(SERVERS[version]))
    keys = initial_keys(version, DCID, "server")
    assert keys
    frames = unprotect(packet, keys)
    assert frames
    ((offset, data),) = quic.crypto_frames(frames)
    message = tls.message(data)
    assert message
    assert (offset, message.kind) == (0, tls.SERVER_HELLO)
    assert tls.server_hello(message.body).cipher == 0x1301


@pytest.mark.parametrize(
    "version", [V1, V2, 0xFF000016, 0xFF00001B, DRAFT_29, 0xFF000022, 0xFACEB002, 0x54303531]
)
def test_versions_that_are_read(version: int) -> None:
    reader = read(initial(crypto(0, client_hello()), version=version))
    assert name(reader) == "claude.ai"
    assert reader.version == version


def test_packets_that_ask_for_negotiation_are_read_by_the_rules_of_known_versions() -> None:
    """RFC 9000, section 15: clients may try a number that nobody speaks."""
    datagram = bytearray(initial(crypto(0, client_hello())))
    (packet,) = initials(bytes(datagram))
    assert packet.version == V1
    assert list(initials(bytes(datagram[:1]) + b"\x1a\x2a\x3a\x4a" + bytes(datagram[5:])))


def test_google_quic_is_named_and_not_read() -> None:
    reader = read(b"\xc3Q046" + bytes(60))
    assert (reader.message, quic.version_name(reader.version)) == (None, "Q046")


def test_other_datagrams_say_nothing() -> None:
    """DNS, short headers, version negotiation, one byte."""
    reader = read(
        b"\xe9\1\0\0\0\1", b"\x40" + bytes(50), b"\xc0\0\0\0\0\4abcd\4efgh\0\0\0\1", b"\xc0", b""
    )
    assert (reader.message, reader.version) == (None, 0)


POST_QUANTUM = client_hello("chatgpt.com", more=[(51, bytes(1300))])
PARTS = [(at, POST_QUANTUM[at : at + 300]) for at in range(0, len(POST_QUANTUM), 300)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::7])
def test_hello_over_several_packets_in_any_order(order: tuple[int, ...]) -> None:
    """Post-quantum key shares need two datagrams; Chrome shuffles the CRYPTO frames besides."""
    datagrams = [initial(crypto(*PARTS[i]), number=i) for i in range(5)]
    assert name(read(*(datagrams[i] for i in order))) == "chatgpt.com"


def test_frames_around_and_between_are_skipped() -> None:
    """PADDING, PING, ACK (with ranges and ECN) and overlapping CRYPTO frames."""
    ack = b"\2\5\0\1\1\1\1" + b"\3\5\0\0\0\1\1\1"
    frames = (
        b"\0\0\1" + crypto(100, POST_QUANTUM[100:]) + ack + b"\0\1" + crypto(0, POST_QUANTUM[:130])
    )
    assert name(read(initial(frames + bytes(30)))) == "chatgpt.com"


def test_coalesced_packets() -> None:
    """RFC 9000, section 12.2: an Initial behind another and behind 0-RTT in one datagram."""
    zero_rtt = b"\xd0\0\0\0\1\x0812345678\0\x14" + bytes(20)
    one, two = (initial(crypto(*PARTS[i])) for i in (0, 1))
    rest = initial(b"".join(crypto(*part) for part in PARTS[2:]))
    assert name(read(zero_rtt + one + two, rest)) == "chatgpt.com"


def test_ids_of_the_server_keep_the_first_keys() -> None:
    """Later Initials carry the server's id; they may even come first."""
    first = initial(crypto(*PARTS[0]), dcid=b"original")
    later = initial(
        b"".join(crypto(*part) for part in PARTS[1:]), dcid=b"server", keyed_by=b"original"
    )
    assert name(read(first, later)) == "chatgpt.com"
    assert name(read(later, first)) == "chatgpt.com"


def test_after_a_retry_the_keys_are_new() -> None:
    """RFC 9001, section 5.2: from the id that the Retry gave; the packet carries it and a token."""
    lost = initial(crypto(*PARTS[0]), dcid=b"original")
    retry = b"\xf0\0\0\0\1\0\x08retry-id" + bytes(32)
    again = initial(crypto(0, POST_QUANTUM), dcid=b"retry-id", token=b"token")
    reader = read(lost)
    reader.feed(1, retry)
    reader.feed(0, again)
    assert name(reader) == "chatgpt.com"


def test_the_other_side_is_left_alone_once_the_client_is_known() -> None:
    """Nothing of the server's opens with the client's keys, nor counts against the bound."""
    reader = read(initial(crypto(*PARTS[0])))
    for number in range(40):
        reader.feed(1, initial(crypto(0, bytes(90)), number=number, side="server"))
    for part in PARTS[1:]:
        reader.feed(0, initial(crypto(*part)))
    assert name(reader) == "chatgpt.com"


def test_bounds() -> None:
    """Not more than so many packets, and no CRYPTO data beyond 64 KiB."""
    reader = read(*(initial(crypto(0, b"\1\0\xff"), number=i) for i in range(40)))
    assert reader.exhausted
    assert reader.held == 0
    assert read(initial(crypto(1 << 20, b"x" * 100))).held == 0
    huge = read(initial(crypto(0, b"\1\2\0\0\0")))
    assert (huge.exhausted, huge.held, huge.front()) == (True, 0, None)


def test_given_up_hellos_keep_their_front() -> None:
    """So many packets, and a part never came."""
    reader = read(*(initial(crypto(*PARTS[0]), number=i) for i in range(40)))
    assert reader.exhausted
    assert reader.message
    assert tls.client_hello(reader.message.body, whole=False).sni == "chatgpt.com"


def test_a_cut_hello_is_given_as_far_as_it_goes() -> None:
    reader = read(initial(crypto(*PARTS[0])))
    front = reader.front()
    assert front
    assert tls.client_hello(front.body, whole=False).sni == "chatgpt.com"


def test_a_packet_that_does_not_open_is_none() -> None:
    datagram = bytearray(initial(crypto(0, client_hello())))
    datagram[-1] ^= 1
    assert read(bytes(datagram)).front() is None


def test_cryptography_is_imported_only_where_there_is_quic() -> None:
    """Runs without QUIC should not wait for it."""
    code = "import sys, llmflow.metadata.collector; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
