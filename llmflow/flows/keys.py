"""Flow keys: canonical endpoints, key hashes, and the two identifiers of a flow.

Everything here works on whole columns. SHA-1 is an identifier, as the Community ID specification
demands, and no protection.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import I64, U8, U16, U32, U64, Bool
from llmflow.capture.columns import IPV4_MAPPED, Columns

_BASE64 = np.frombuffer(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8
)
# Protocols whose Community ID holds ports; that of ICMP, which holds types, is not made here.
_PORTED = (6, 17, 132)
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


def is_ipv4(high: U64, low: U64) -> Bool:
    """Whether addresses are IPv4 (kept as IPv4-mapped IPv6)."""
    mapped: Bool = (high == 0) & (low >> np.uint64(32) == IPV4_MAPPED >> 32)
    return mapped


class Endpoint(NamedTuple):
    """Columns of one end of packets or flows: address halves (IPv4 mapped) and port."""

    high: U64
    low: U64
    port: U16

    def at_most(self, other: Endpoint) -> Bool:
        """Whether this end sorts before the other, or is equal."""
        lower = (self.low < other.low) | ((self.low == other.low) & (self.port <= other.port))
        before: Bool = (self.high < other.high) | ((self.high == other.high) & lower)
        return before

    def take(self, rows: I64) -> Endpoint:
        """Only some rows."""
        return Endpoint(self.high[rows], self.low[rows], self.port[rows])


class Paired(Columns):
    """Tables with the two ends of connections, the smaller one first."""

    a_high: U64
    a_low: U64
    a_port: U16
    b_high: U64
    b_low: U64
    b_port: U16

    @property
    def a(self) -> Endpoint:
        """The smaller ends."""
        return Endpoint(self.a_high, self.a_low, self.a_port)

    @property
    def b(self) -> Endpoint:
        """The larger ends."""
        return Endpoint(self.b_high, self.b_low, self.b_port)


def choose(mask: Bool, yes: Endpoint, no: Endpoint) -> Endpoint:
    """One end or the other, row by row."""
    return Endpoint(
        np.where(mask, yes.high, no.high),
        np.where(mask, yes.low, no.low),
        np.where(mask, yes.port, no.port),
    )


def _mix(x: U64) -> U64:
    """Finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def key_hash(*columns: NDArray[np.unsignedinteger]) -> U64:
    """64-bit hash of key columns: equal keys, equal hash, on every machine."""
    state = np.full(len(columns[0]), 0x9E3779B97F4A7C15, np.uint64)
    for column in columns:
        state = _mix(state ^ column.astype(np.uint64))
    return state


def sha1_block(message: U8) -> U32:
    """SHA-1 (RFC 3174) of many messages of one length at once.

    Parameters
    ----------
    message : ndarray of uint8, shape (n, length)
        ``length`` at most 55, so that a message fits one 64-byte block.

    Returns
    -------
    ndarray of uint32, shape (n, 5)

    Raises
    ------
    ValueError
        If a message is longer than 55 bytes.
    """
    n, length = message.shape
    if length > 55:  # noqa: PLR2004
        raise ValueError(f"a message of {length} bytes does not fit one block")
    block = np.zeros((n, 64), np.uint8)
    block[:, :length] = message
    block[:, length] = 0x80
    block[:, 62], block[:, 63] = length * 8 >> 8, length * 8 & 0xFF
    words = list(block.view(">u4").astype(np.uint32).T)

    def turn(x: U32, by: int) -> U32:
        return (x << np.uint32(by)) | (x >> np.uint32(32 - by))

    start = [np.uint32(h) for h in (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)]
    a, b, c, d, e = (np.full(n, h, np.uint32) for h in start)
    for i in range(80):
        if i >= 16:  # noqa: PLR2004
            words.append(turn(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1))
        step = i // 20
        if step == 0:
            f, k = (b & c) | (~b & d), 0x5A827999
        elif step == 2:  # noqa: PLR2004
            f, k = (b & c) | (b & d) | (c & d), 0x8F1BBCDC
        else:
            f, k = b ^ c ^ d, 0x6ED9EBA1 if step == 1 else 0xCA62C1D6
        a, b, c, d, e = turn(a, 5) + f + e + np.uint32(k) + words[i], a, turn(b, 30), c, d
    return np.stack([h + x for h, x in zip(start, (a, b, c, d, e), strict=True)], axis=1)


def _big_endian(column: NDArray[np.generic], dtype: str) -> U8:
    return column.astype(dtype).reshape(-1, 1).view(np.uint8)


def _ordered_tuple(a: Endpoint, b: Endpoint, protocol: U8, *, v4: bool, ports: bool) -> U8:
    """Bytes of addresses, protocol, padding and any ports, as Community IDs are specified."""
    addresses = [
        _big_endian(part, ">u8")[:, 4:] if v4 else _big_endian(part, ">u8")
        for end in (a, b)
        for part in ((end.low,) if v4 else (end.high, end.low))
    ]
    middle = np.stack([protocol, np.zeros_like(protocol)], axis=1)
    both = [_big_endian(a.port, ">u2"), _big_endian(b.port, ">u2")] if ports else []
    return np.concatenate([*addresses, middle, *both], axis=1)


def identify(a: Endpoint, b: Endpoint, protocol: U8, start: I64) -> tuple[U8, U8]:
    """Flow ids and Community IDs.

    Parameters
    ----------
    a, b : Endpoint
        The two ends, the smaller one first.
    protocol : ndarray of uint8
    start : ndarray of int64
        First packet of the flow, ns since the epoch.

    Returns
    -------
    flow_id : ndarray of uint8, shape (n, 16)
        ASCII: hexadecimal digits of SHA-1 over the ordered tuple and the start. The same on every
        run, equal for all slices of one flow.
    community_id : ndarray of uint8, shape (n, 30)
        ASCII: Community ID version 1, seed 0 (github.com/corelight/community-id-spec).
    """
    flow = np.empty((len(start), 16), np.uint8)
    community = np.empty((len(start), 30), np.uint8)
    v4 = is_ipv4(a.high, a.low) & is_ipv4(b.high, b.low)
    ported = np.isin(protocol, _PORTED)
    for four, ports in itertools.product((True, False), repeat=2):
        rows = np.flatnonzero((v4 == four) & (ported == ports))
        if not len(rows):
            continue
        message = _ordered_tuple(a.take(rows), b.take(rows), protocol[rows], v4=four, ports=ports)
        seed = np.zeros((len(rows), 2), np.uint8)
        digest = sha1_block(np.concatenate([seed, message], axis=1))
        community[rows] = _base64(digest)
        stamped = np.concatenate([message, _big_endian(start[rows], ">i8")], axis=1)
        flow[rows] = _hex(sha1_block(stamped)[:, :2])
    return flow, community


def _hex(words: U32) -> U8:
    octets = np.ascontiguousarray(words.astype(">u4")).view(np.uint8)
    return _HEX[np.stack([octets >> 4, octets & 15], axis=2).reshape(len(octets), -1)]


def _base64(words: U32) -> U8:
    octets = np.ascontiguousarray(words.astype(">u4")).view(np.uint8)
    padded = np.concatenate([octets, np.zeros((len(octets), 1), np.uint8)], axis=1).astype("u4")
    three = (padded[:, 0::3] << 16) | (padded[:, 1::3] << 8) | padded[:, 2::3]
    six = np.stack([three >> s & 63 for s in (18, 12, 6, 0)], axis=2).reshape(len(octets), 28)
    letters = _BASE64[six]
    letters[:, 27] = ord("=")
    version = np.broadcast_to(np.frombuffer(b"1:", np.uint8), (len(octets), 2))
    return np.concatenate([version, letters], axis=1)
