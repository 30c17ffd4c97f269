"""Parsers of names on hostile bytes: one exception only, and the same names in any order."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmflow.metadata import dns, http1, quic, tls
from llmflow.metadata.collector import NameCollector
from llmflow.metadata.ja4 import ja4
from llmflow.metadata.names import Names, names
from llmflow.metadata.wire import MalformedError, Pieces, host_name
from tests.hellos import client_hello, crypto, initial, records, server_hello

HELLO = client_hello(more=[(51, bytes(200)), (tls.ECH, b"\0\0\1\0\1\5")])
QUESTION = b"\0\1\x81\x80\0\1\0\2\0\0\0\0\6claude\2ai\0\0\1\0\1"
ANSWERS = b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\4\1x\xc0\x0c\xc0\x27\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4"
REQUEST = b"POST /v1 HTTP/1.1\r\nHost: a.example:80\r\nUser-Agent: GPTBot\r\n\r\n{}"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n"


def read_client(data: bytes) -> None:
    for whole in (True, False):
        with contextlib.suppress(MalformedError):
            ja4(tls.client_hello(data, whole=whole))


def read_record(data: bytes) -> None:
    found = tls.record_message(data)
    assert found is None or len(found.body) <= found.length <= tls.MAX_HELLO


def read_datagram(data: bytes) -> None:
    reader = quic.InitialReader()
    reader.feed(0, data)
    reader.front()


def read_flow(data: bytes) -> None:
    names([(0, 1, data[:50]), (0, 51, data[50:]), (1, 7, data), (0, None, data)])


READERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "client hello": (read_client, HELLO[4:]),
    "server hello": (tls.server_hello, server_hello(extensions=[(43, b"\3\4")])[4:]),
    "records": (read_record, records(HELLO, 9, 80)),
    "datagram": (read_datagram, initial(crypto(0, HELLO))),
    "frames": (lambda data: list(quic.crypto_frames(data)), b"\2\1\1\1\1\1\1\1" + crypto(0, HELLO)),
    "sealed frames": (lambda data: read_datagram(initial(data or b"\0")), crypto(0, HELLO)),
    "dns": (dns.answers, QUESTION + ANSWERS),
    "request": (lambda data: http1.request(data, ["GPTBot"]), REQUEST),
    "response": (http1.streams_events, RESPONSE),
    "flow": (read_flow, records(HELLO)),
}


@pytest.mark.parametrize("reader", READERS)
@given(data=st.binary(max_size=3000))
def test_any_bytes(reader: str, data: bytes) -> None:
    """Random bytes raise nothing but the documented exception."""
    with contextlib.suppress(MalformedError):
        READERS[reader][0](data)


@pytest.mark.parametrize("reader", READERS)
@given(
    edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 600),
    tail=st.binary(max_size=40),
)
def test_mutated_messages(reader: str, edits: list[tuple[int, int]], cut: int, tail: bytes) -> None:
    """Good messages with bytes changed, the end cut off and other bytes behind it."""
    read, good = READERS[reader]
    data = bytearray(good)
    for at, value in edits:
        data[at % len(data)] = value
    with contextlib.suppress(MalformedError):
        read(bytes(data[: len(data) - cut % (len(data) // 2)]) + tail)


@given(st.text(max_size=300))
def test_host_names_have_one_form(text: str) -> None:
    """Bringing a name to its form twice changes nothing."""
    name = host_name(text)
    assert host_name(name) == name
    assert name.isascii()
    assert len(name) <= 253


def cut_up(rng: random.Random, data: bytes, base: int) -> list[tuple[int, bytes]]:
    """Segments with overlaps and repetitions that hold all of the data, in random order."""
    places = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(rng.randrange(8)))})
    parts = [
        (base + start, data[start : end + rng.choice([0, 0, 30])])
        for start, end in itertools.pairwise(places)
    ]
    parts += rng.choices(parts, k=rng.randrange(3))
    rng.shuffle(parts)
    return parts


@given(st.integers(0, 1 << 32))
def test_pieces_do_not_hang_on_order(seed: int) -> None:
    rng = random.Random(seed)
    data = rng.randbytes(200)
    pieces = Pieces(10_000, 100)
    for offset, part in cut_up(rng, data, -50):
        assert pieces.add(offset, part)
    assert pieces.run(-50) == data
    assert pieces.run(0) == data[50:]


CLIENT, SERVER = records(HELLO, 30, 100), records(server_hello(0xC02F))
EXPECTED = names([(0, 0, CLIENT), (1, 0, SERVER)])


@given(st.integers(0, 1 << 32))
def test_names_do_not_hang_on_cuts_and_order(seed: int) -> None:
    """Segments of both sides, cut anywhere, in any order, across the end of the number space."""
    rng = random.Random(seed)
    packets = [(0, *part) for part in cut_up(rng, CLIENT, rng.getrandbits(32))]
    packets += [(1, *part) for part in cut_up(rng, SERVER, rng.getrandbits(32))]
    rng.shuffle(packets)
    collector: NameCollector[int] = NameCollector()
    said = [collector.feed(1, side, seq % (1 << 32), data) for side, seq, data in packets]
    assert collector.finish(1) == EXPECTED
    assert [x for x in said if x] == [EXPECTED]
    assert collector.held == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 4000), st.binary(max_size=60)), max_size=30
    )
)
def test_any_packets_of_a_flow(packets: list[tuple[int, int, bytes]]) -> None:
    """What is held is what is counted, and it is let go at the end."""
    collector: NameCollector[int] = NameCollector(max_bytes=300)
    for side, seq, data in packets:
        collector.feed(seq % 3, side, seq, b"\x16\3" * (seq % 2) + data)
        assert 0 <= collector.held <= 300
    found = [collector.finish(key) for key in range(3)]
    assert all(isinstance(x, Names) for x in found)
    assert (collector.held, collector.unfinished) == (0, set())
