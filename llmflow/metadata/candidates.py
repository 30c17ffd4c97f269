"""Which packets of a block may say names in clear: chosen at once, from the payloads' first bytes.

Payloads are opened only of what is chosen here, a few packets of each connection.
"""

from __future__ import annotations

import numpy as np

from llmflow.arrays import I64, U8, U64, Bool
from llmflow.capture.chains import unaligned
from llmflow.capture.columns import TCP, UDP, PacketColumns
from llmflow.capture.reader import Block
from llmflow.metadata.quic import READABLE, V2

# What a payload begins with: a whole ClientHello, the front of one, a request of HTTP/1, a QUIC
# Initial, a DNS answer; and what may be the rest of a hello.
HELLO, FRONT, REQUEST, INITIAL, ANSWER, MORE = range(1, 7)

_LEAST = 32  # bytes below which a payload holds no name, or, where it was cut,
_LEAST_CUT = 60
_DNS = 53
_VERSIONS = np.array(sorted(READABLE), np.uint64)
_METHODS = np.array([b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN"])
_METHODS = np.sort(_METHODS.astype("S4").view(">u4").astype(np.uint64))
# First bytes worth a second look, by protocol: TLS handshake, methods; QUIC long header (RFC 9000).
# A bit per protocol, so that two small tables tell.
_FIRST, _OF = np.zeros((2, 256), np.uint8)
_OF[TCP], _OF[UDP] = 1, 2
_FIRST[[0x16, *(_METHODS >> np.uint64(24)).tolist()]] = 1
_FIRST[0xC0:] = 2


def _bits(words: U64, shift: int, width: int) -> U64:
    bits: U64 = words >> np.uint64(shift) & np.uint64((1 << width) - 1)
    return bits


def candidates(block: Block, packets: PacketColumns, waiting: Bool) -> tuple[I64, U8]:
    """Choose the packets that may say names.

    Parameters
    ----------
    block : Block
    packets : PacketColumns
        Some of its packets.
    waiting : ndarray of bool, shape (65536,)
        TCP source ports of which hellos have begun and not ended.

    Returns
    -------
    row : ndarray of int64
        Rows of the packets to open, in their order.
    kind : ndarray of uint8
        What each begins with.
    """
    kind = np.zeros(len(packets), np.uint8)
    rows = np.flatnonzero(packets.captured >= _LEAST)
    at, protocol = block.payload_at(packets, rows), packets.protocol[rows]
    dns = (packets.src_port[rows] == _DNS) & (protocol == UDP)
    # One byte of each, then more of the few that are left.
    some = np.flatnonzero(_FIRST[unaligned(block.data, "u1")[at]] & _OF[protocol] | dns)
    rows, at, protocol, dns = rows[some], at[some], protocol[some], dns[some]
    captured, payload = packets.captured[rows], packets.payload[rows]
    some = np.flatnonzero((captured == payload) | (captured >= _LEAST_CUT))
    rows, at, protocol, dns = rows[some], at[some], protocol[some], dns[some]
    words = unaligned(block.data, ">u8")[at].astype(np.uint64)
    tcp = protocol == TCP
    _tls(block.data, packets, kind, rows[tcp], at[tcp], words[tcp])
    kind[rows[tcp & np.isin(_bits(words, 32, 32), _METHODS)]] = REQUEST
    # What was cut cannot be unlocked.
    uncut = packets.captured[rows] == packets.payload[rows]
    kind[rows[~tcp & ~dns & uncut & _is_initial(words)]] = INITIAL
    # A response without error to one question, with answers (RFC 1035, section 4.1.1).
    fine = (_bits(words, 32, 16) & np.uint64(0xF80F) == 0x8000) & (_bits(words, 16, 16) == 1)
    kind[rows[dns & fine & (_bits(words, 0, 16) > 0)]] = ANSWER
    _more(kind, packets, waiting)
    chosen = np.flatnonzero(kind)
    return chosen, kind[chosen]


def _tls(data: bytes, packets: PacketColumns, kind: U8, rows: I64, at: I64, words: U64) -> None:
    """ClientHellos in handshake records (RFC 8446, sections 4 and 5.1)."""
    some = np.flatnonzero(words >> np.uint64(48) == 0x1603)
    some = some[_bits(words[some], 16, 8) == 1]
    hello, word = rows[some], words[some]
    record = _bits(word, 24, 16).astype(np.int64)
    length = _bits(word, 0, 16).astype(np.int64) << 8 | unaligned(data, "u1")[at[some] + 8]
    whole = (length + 4 <= record) & (length + 9 <= packets.payload[hello])
    kind[hello] = np.where(whole, HELLO, FRONT)


def _is_initial(words: U64) -> Bool:
    """Whether long headers are of Initial packets, in versions that can be read."""
    version, type_ = _bits(words, 24, 32), _bits(words, 60, 2)
    two = version == V2  # RFC 9369, section 3.2
    known = np.isin(version, _VERSIONS) | (version & np.uint64(0x0F0F0F0F) == 0x0A0A0A0A)
    initial: Bool = known & (type_ == two)
    return initial


def _more(kind: U8, packets: PacketColumns, waiting: Bool) -> None:
    """Segments that may go on with a hello, of flows known by their port so far."""
    ports = packets.src_port[kind == FRONT]
    if waiting.any() or len(ports):
        known = waiting.copy()
        known[ports] = True
        more = (kind == 0) & (packets.captured > 0) & (packets.protocol == TCP)
        kind[more & known[packets.src_port]] = MORE
