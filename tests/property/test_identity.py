"""Identity is not behaviour: who talks, where and when never moves a score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmflow.arrays import U16, U64
from llmflow.capture.account import PacketAccount
from llmflow.capture.columns import TCP, PacketColumns
from llmflow.capture.reader import read_packets
from llmflow.features.extract import FEATURES, MODEL_FEATURES, extract
from llmflow.features.segments import cut_segments
from llmflow.flows.assemble import FlowAssembler
from llmflow.flows.batch import FlowBatch
from llmflow.flows.direction import is_service
from llmflow.flows.turns import find_data, find_turns
from llmflow.learn.model import Model, load_model

CAPTURES = sorted((Path(__file__).parents[2] / "pcaps").glob("*.pcap"))
PORTS: U16 = np.arange(1 << 16).astype(np.uint16)

# Words that no feature may be named after.
BANNED = {
    *["address", "addr", "ip", "src", "dst", "mac", "host", "port", "sport", "dport", "protocol"],
    *["vlan", "tunnel", "ttl", "hop", "dscp", "tos", "mss", "window", "flags", "checksum"],
    *["seq", "sequence", "isn", "ackno", "tsval", "ipid", "id", "flowid", "cid"],
    *["sni", "alpn", "ech", "ja3", "ja4", "domain", "name", "provider", "issuer", "asn", "country"],
    *["epoch", "timestamp", "date", "clocktime", "hour", "weekday", "day", "month", "year"],
}

Connection = tuple[int, ...]
Scores = dict[Connection, list[tuple[int, str]]]


class Disguise(NamedTuple):
    """A one-to-one exchange of identities, as tables from old to new."""

    addresses: dict[tuple[int, int], tuple[int, int]]
    ports: list[int]
    later: int  # ns

    def ends(self, high: int, low: int, port: int) -> tuple[int, int, int]:
        return (*self.addresses[high, low], self.ports[port])

    def connection(self, known: Connection) -> Connection:
        client, server, (protocol, origin, part) = known[:3], known[3:6], known[6:]
        moved = origin + self.later
        return (*self.ends(*client), *self.ends(*server), protocol, moved, part)


@cache
def packets_of(capture: Path) -> PacketColumns:
    return PacketColumns.concat(list(read_packets([capture], PacketAccount())))


@cache
def model() -> Model:
    return load_model()


def batches(packets: PacketColumns) -> Iterator[FlowBatch]:
    assembler = FlowAssembler()
    yield from assembler.push(packets)
    yield from assembler.finish()


def scores(packets: PacketColumns) -> Scores:
    """Number and exact score of each turn, by connection (client first)."""
    found: Scores = {}
    for batch in batches(packets):
        data = find_data(batch)
        turns = find_turns(batch, data)
        score = model().score_turns(extract(cut_segments(batch, data, turns, "turn")), len(turns))
        f = batch.flows
        table: list[NDArray[Any]] = [*f.client, *f.server, f.protocol, f.origin, f.slice_no]
        names: list[Connection] = list(zip(*(column.tolist() for column in table), strict=True))
        found |= {name: [] for name in names}
        for flow, number, value in zip(
            turns.flow.tolist(), turns.number.tolist(), score.tolist(), strict=True
        ):
            found[names[flow]].append((number, value.hex()))
    return found


@cache
def plain_scores(capture: Path) -> Scores:
    return scores(packets_of(capture))


def new_ports(rng: np.random.Generator) -> U16:
    """Service ports become other service ports, the rest other ports, and 0 stays 0."""
    table = PORTS.copy()
    service = is_service(PORTS)
    for group in (PORTS[service], PORTS[~service & (PORTS > 0)]):
        table[group] = rng.permutation(group)
    return table


def new_addresses(packets: PacketColumns, rng: np.random.Generator) -> tuple[U64, U64]:
    """Distinct old addresses (as rows of high and low), and distinct new ones."""
    both = np.stack(
        [
            np.concatenate([packets.src_hi, packets.dst_hi]),
            np.concatenate([packets.src_lo, packets.dst_lo]),
        ],
        axis=1,
    )
    old = np.unique(both, axis=0)
    new: U64 = rng.integers(0, 2**64, old.shape, np.uint64, endpoint=False)
    assert len(np.unique(new, axis=0)) == len(old)
    return old, new


def one_way(packets: PacketColumns) -> NDArray[np.int64]:
    """Number of the 5-tuple of each packet, as seen from its sender."""
    p = packets
    ends = [p.src_hi, p.src_lo, p.dst_hi, p.dst_lo]
    ports: list[NDArray[Any]] = [p.src_port, p.dst_port, p.protocol]
    table = np.stack([*ends, *(column.astype(np.uint64) for column in ports)], axis=1)
    number: NDArray[np.int64] = np.unique(table, axis=0, return_inverse=True)[1].ravel()
    return number


def opposite(packets: PacketColumns) -> PacketColumns:
    """The same packets with their ends exchanged."""
    p = packets
    return replace(
        p,
        src_hi=p.dst_hi,
        src_lo=p.dst_lo,
        src_port=p.dst_port,
        dst_hi=p.src_hi,
        dst_lo=p.src_lo,
        dst_port=p.src_port,
    )


def disguise(packets: PacketColumns, seed: int) -> tuple[PacketColumns, Disguise]:
    """Exchange everything that identifies, and nothing that behaves."""
    rng = np.random.default_rng(seed)
    old, new = new_addresses(packets, rng)
    addresses = {
        (before[0], before[1]): (after[0], after[1])
        for before, after in zip(old.tolist(), new.tolist(), strict=True)
    }
    ports = new_ports(rng)
    later = int(rng.integers(-(10**18), 10**18))

    def moved(high: U64, low: U64) -> U64:
        pairs = zip(high.tolist(), low.tolist(), strict=True)
        return np.array([addresses[pair] for pair in pairs], np.uint64).T

    # Initial sequence numbers: one offset for each direction, added to the other's ACKs.
    n = len(packets)
    both = PacketColumns.concat([packets, opposite(packets)])
    way = one_way(both)
    ways = int(way.max()) + 1
    offset = rng.integers(0, 2**32, ways, np.uint32, endpoint=False)
    begin = np.zeros(ways, np.uint32)
    begin[way[:n][::-1]] = packets.seq[::-1]
    # Half of them wrap around soon after their first packet.
    soon = np.flatnonzero(rng.random(ways) < 0.5)
    offset[soon] = rng.integers(-20_000, 0, len(soon)).astype(np.uint32) - begin[soon]
    tcp = packets.protocol == TCP
    changes: dict[str, Any] = {
        "time": packets.time + later,
        "seq": np.where(tcp, packets.seq + offset[way[:n]], packets.seq),
        "ack": np.where(tcp, packets.ack + offset[way[n:]], packets.ack),
        "window": rng.integers(0, 1 << 16, n).astype(np.uint16),
        "vlan": rng.integers(0, 4095, n).astype(np.uint16),
        "src_port": ports[packets.src_port],
        "dst_port": ports[packets.dst_port],
    }
    changes["src_hi"], changes["src_lo"] = moved(packets.src_hi, packets.src_lo)
    changes["dst_hi"], changes["dst_lo"] = moved(packets.dst_hi, packets.dst_lo)
    return replace(packets, **changes), Disguise(addresses, ports.tolist(), later)


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
@given(st.integers(0, 2**32))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_disguised_connections_score_the_same(capture: Path, seed: int) -> None:
    """Other addresses, ports, times, sequence numbers, VLANs and windows: the same bits."""
    packets, tables = disguise(packets_of(capture), seed)
    expected = {tables.connection(name): found for name, found in plain_scores(capture).items()}
    assert scores(packets) == expected


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
@given(st.integers(0, 2**32), st.floats(0.05, 0.5))
@settings(max_examples=4, deadline=None, derandomize=True)
def test_disguise_holds_without_the_handshakes(capture: Path, seed: int, missed: float) -> None:
    """The same where the capture began late, so that ports or first packets tell the client."""
    whole = packets_of(capture)
    plain = whole.take(slice(int(len(whole) * missed), None))
    packets, tables = disguise(plain, seed)
    expected = {tables.connection(name): found for name, found in scores(plain).items()}
    assert scores(packets) == expected


def test_the_disguise_is_complete() -> None:
    """The captures hold what is exchanged, scores to lose, and streams among them."""
    capture = next(path for path in CAPTURES if path.stem == "mixed")
    plain = packets_of(capture)
    hidden, tables = disguise(plain, 1)
    for name in ("src_hi", "src_lo", "dst_hi", "dst_lo", "src_port", "dst_port", "time"):
        assert (getattr(plain, name) != getattr(hidden, name)).mean() > 0.9, name
    for name in ("protocol", "flags", "hint", "ip_bytes", "payload", "position"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(hidden, name))
    assert len(set(tables.ports)) == len(PORTS)
    assert len(set(tables.addresses.values())) == len(tables.addresses)
    found = [float.fromhex(text) for turns in plain_scores(capture).values() for _, text in turns]
    assert np.isnan(found).any()
    assert np.nanmin(found) < 0.3
    assert np.nanmax(found) > 0.7


def test_behaviour_does_move_scores() -> None:
    """The comparison can fail: a stream whose packets come ten times as fast scores otherwise."""
    capture = next(path for path in CAPTURES if path.stem == "drip")
    packets = packets_of(capture)
    begin = packets.time[0]
    faster = replace(packets, time=begin + (packets.time - begin) // 10)
    assert scores(faster) != plain_scores(capture)


@pytest.mark.parametrize("name", FEATURES)
def test_no_feature_is_named_after_an_identity(name: str) -> None:
    """Addresses, ports, names, TTL, absolute time and sequence numbers are no features."""
    assert not set(name.split("_")) & BANNED
    assert name not in PacketColumns.names()


def test_models_read_no_feature_that_is_not_declared() -> None:
    """What is not in the registry cannot reach a model."""
    assert set(MODEL_FEATURES) <= set(FEATURES)
