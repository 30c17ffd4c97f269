"""Keys of flows: SHA-1 on columns, Community IDs as other tools write them, stable flow ids."""

from __future__ import annotations

import base64
import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmflow.flows.batch import FlowBatch
from llmflow.flows.keys import Endpoint, identify, is_ipv4, key_hash, sha1_block
from tests.builders import SECOND, START, Packet, assemble, number, packet_columns

LOW = (1 << 64) - 1
ADDRESS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
PORT = st.integers(0, 65535)


def identifiers(batch: FlowBatch) -> tuple[str, str]:
    """Flow id and Community ID of the first flow of a batch."""
    flows = batch.flows
    flow, community = identify(flows.a, flows.b, flows.protocol, flows.origin)
    return bytes(flow[0]).decode(), bytes(community[0]).decode()


def conversation(
    src: str, sport: int, dst: str, dport: int, *, protocol: int = 6, time: int = START
) -> FlowBatch:
    """One flow of a single packet."""
    return assemble([Packet(time, src, sport, dst, dport, protocol)])


def plain_community_id(src: str, sport: int, dst: str, dport: int, protocol: int) -> str:
    """Community ID of a protocol with ports, word by word from the specification."""
    low, high = sorted([(number(src), sport), (number(dst), dport)])
    four = all(n >> 32 == 0xFFFF for n, _ in (low, high))
    size = 4 if four else 16
    octets = struct.pack(">H", 0)
    for n, _ in (low, high):
        octets += n.to_bytes(16, "big")[16 - size :]
    octets += struct.pack(">BBHH", protocol, 0, low[1], high[1])
    return "1:" + base64.b64encode(hashlib.sha1(octets).digest()).decode()  # noqa: S324


@given(
    st.integers(0, 55).flatmap(
        lambda n: st.lists(st.binary(min_size=n, max_size=n), min_size=1, max_size=4)
    )
)
def test_sha1_of_columns_equals_hashlib(messages: list[bytes]) -> None:
    """Every message that fits one block has the digest that hashlib gives."""
    rows = np.frombuffer(b"".join(messages), np.uint8).reshape(len(messages), -1)
    digests = sha1_block(rows).astype(">u4").tobytes()
    assert digests == b"".join(hashlib.sha1(m).digest() for m in messages)  # noqa: S324


def test_sha1_refuses_a_message_of_two_blocks() -> None:
    """A message that does not fit one block is refused, not hashed wrongly."""
    with pytest.raises(ValueError, match="56 bytes"):
        sha1_block(np.zeros((1, 56), np.uint8))


# Published with the Community ID specification (baseline_deflt.json).
VECTORS = [
    ("128.232.110.120", 34855, "66.35.250.204", 80, 6, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    ("192.168.1.52", 54585, "8.8.8.8", 53, 17, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
    (
        "2001:470:e5bf:dead:4957:2174:e82c:4887",
        63943,
        "2607:f8b0:400c:c03::1a",
        25,
        6,
        "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
    ),
    ("192.168.170.8", 7, "192.168.170.56", 7, 132, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
]


@pytest.mark.parametrize(("src", "sport", "dst", "dport", "protocol", "published"), VECTORS)
def test_published_community_ids(
    src: str, sport: int, dst: str, dport: int, protocol: int, published: str
) -> None:
    """The Community IDs that the specification publishes, in both directions."""
    assert identifiers(conversation(src, sport, dst, dport, protocol=protocol))[1] == published
    assert identifiers(conversation(dst, dport, src, sport, protocol=protocol))[1] == published


def test_community_id_of_a_protocol_without_ports() -> None:
    """The specification hashes no ports where a protocol has none (RSVP, published vector)."""
    batch = conversation("10.1.12.1", 0, "10.1.12.2", 0, protocol=46)
    assert identifiers(batch)[1] == "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="


@given(ADDRESS, PORT, ADDRESS, PORT, st.sampled_from([6, 17]))
def test_community_id_follows_the_specification(
    src: str, sport: int, dst: str, dport: int, protocol: int
) -> None:
    """Any two ends have the Community ID of a plain implementation, mixed families included."""
    batch = conversation(src, sport, dst, dport, protocol=protocol)
    assert identifiers(batch)[1] == plain_community_id(src, sport, dst, dport, protocol)


@given(ADDRESS, PORT, ADDRESS, PORT, st.sampled_from([6, 17]))
def test_flow_id_does_not_depend_on_direction(
    src: str, sport: int, dst: str, dport: int, protocol: int
) -> None:
    """Both directions of a flow give one flow id."""
    there = identifiers(conversation(src, sport, dst, dport, protocol=protocol))
    back = identifiers(conversation(dst, dport, src, sport, protocol=protocol))
    assert there == back


def test_flow_id_is_the_same_on_every_run() -> None:
    """Flow ids are stored and compared between runs: 16 hex digits of a fixed digest."""
    batch = conversation("192.0.2.10", 50000, "198.51.100.20", 443)
    stamped = bytes([192, 0, 2, 10, 198, 51, 100, 20, 6, 0]) + struct.pack(
        ">HHq", 50000, 443, START
    )
    assert identifiers(batch)[0] == hashlib.sha1(stamped).hexdigest()[:16]  # noqa: S324


def test_flow_id_tells_connections_apart() -> None:
    """Another start, port, address or protocol is another flow."""
    cases = [
        conversation("192.0.2.10", 50000, "198.51.100.20", 443),
        conversation("192.0.2.10", 50000, "198.51.100.20", 443, time=START + 1),
        conversation("192.0.2.10", 50001, "198.51.100.20", 443),
        conversation("192.0.2.11", 50000, "198.51.100.20", 443),
        conversation("192.0.2.10", 50000, "198.51.100.20", 443, protocol=17),
        conversation("2001:db8::1", 50000, "2001:db8::2", 443),
    ]
    assert len({identifiers(case)[0] for case in cases}) == len(cases)


def test_ipv4_is_told_from_ipv6() -> None:
    """Only addresses in the IPv4-mapped range are IPv4, whatever their lower half looks like."""
    addresses = ["192.0.2.1", "2001:db8::ffff:192.0.2.1", "::1", "255.255.255.255"]
    high = np.array([number(a) >> 64 for a in addresses], np.uint64)
    low = np.array([number(a) & LOW for a in addresses], np.uint64)
    assert is_ipv4(high, low).tolist() == [True, False, False, True]


@given(st.lists(st.tuples(ADDRESS, PORT), min_size=2, max_size=2))
def test_ends_sort_like_their_numbers(ends: list[tuple[str, int]]) -> None:
    """The smaller end is the one with the smaller address, then the smaller port."""
    (x, x_port), (y, y_port) = ends
    columns = packet_columns([Packet(START, x, x_port, y, y_port)])
    source = Endpoint(columns.src_hi, columns.src_lo, columns.src_port)
    target = Endpoint(columns.dst_hi, columns.dst_lo, columns.dst_port)
    expected = (number(x), x_port) <= (number(y), y_port)
    assert source.at_most(target).tolist() == [expected]


def test_key_hash_is_the_same_on_every_machine() -> None:
    """The order of flows rests on this hash, so its values are fixed."""

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & LOW
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & LOW
        return x ^ (x >> 31)

    state = 0x9E3779B97F4A7C15
    for value in (7, 443):
        state = mix(state ^ value)
    assert key_hash(np.array([7], np.uint64), np.array([443], np.uint16)).tolist() == [state]


def test_slices_of_one_flow_share_its_flow_id() -> None:
    """A flow that outlives the active timeout keeps its id from slice to slice."""
    ends = ("192.0.2.10", 50000, "198.51.100.20", 443)
    batch = assemble([Packet(START + s * 60 * SECOND, *ends) for s in range(70)])
    flows = batch.flows
    ids, _ = identify(flows.a, flows.b, flows.protocol, flows.origin)
    assert len(flows) == 3
    assert len(np.unique(ids, axis=0)) == 1
