"""Which packets of a block may say names in clear: chosen at once, from the payloads' first bytes.

Payloads are opened only of what is chosen here, a few packets of each connection.
"""

from __future__ import annotations

import numpy as np

from llmflow.arrays import I64, U8, U64, Bool
from llmflow.capture.chains import unaligned
from llmflow.capture.columns import TCP, UDP, PacketColumns

# What a payload begins with: a whole ClientHello, the front of one, a request of HTTP/1, a QUIC
# Initial, a DNS answer; and what may be the rest of a hello.
HELLO, FRONT, REQUEST, INITIAL, ANSWER, MORE = range(1, 7)

_FRONT_BYTES = 10  # that a choice takes
_LEAST = 60  # bytes without which a payload that was cut holds no name
_DNS = 53
_VERSIONS = np.array(
    [1, 0x6B3343CF, *range(0xFF000015, 0xFF000023), 0xFACEB001, 0xFACEB002, 0xFACEB00E, 0x54303530,
     0x54303531], np.uint64,
)  # fmt: skip
_METHODS = np.array([b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN"])
_METHODS = np.sort(_METHODS.astype("S4").view(">u4").astype(np.uint64))
_CAPITAL = np.zeros(256, np.bool_)
_CAPITAL[(_METHODS >> np.uint64(24)).astype(np.int64)] = True


def _bits(words: U64, shift: int, width: int) -> U64:
    bits: U64 = words >> np.uint64(shift) & np.uint64((1 << width) - 1)
    return bits


def candidates(data: bytes, at: I64, packets: PacketColumns, waiting: Bool) -> tuple[I64, U8]:
    """Choose the packets that may say names.

    Parameters
    ----------
    data : bytes
    at : ndarray of int64
        Where in ``data`` each payload begins.
    packets : PacketColumns
    waiting : ndarray of bool, shape (65536,)
        TCP source ports of which hellos have begun and not ended.

    Returns
    -------
    row : ndarray of int64
        Rows of the packets to open, in their order.
    kind : ndarray of uint8
        What each begins with.
    """
    captured, payload = packets.captured, packets.payload
    kind = np.zeros(len(packets), np.uint8)
    long = (captured >= _FRONT_BYTES) & ((captured >= _LEAST) | (captured == payload))
    rows = np.flatnonzero(long)
    words = unaligned(data, ">u8")[at[rows]].astype(np.uint64)
    tcp, udp = packets.protocol[rows] == TCP, packets.protocol[rows] == UDP
    _tls(data, at, packets, kind, rows[tcp], words[tcp])
    some = np.flatnonzero(tcp & _CAPITAL[(words >> np.uint64(56)).astype(np.int64)])
    kind[rows[some[np.isin(_bits(words[some], 32, 32), _METHODS)]]] = REQUEST
    some = np.flatnonzero(udp & (words >> np.uint64(62) == 3))  # RFC 9000, section 17.2
    kind[rows[some[_is_initial(words[some])]]] = INITIAL
    # What was cut cannot be unlocked.
    kind[(kind == INITIAL) & (captured < payload)] = 0
    # A response without error to one question, with answers (RFC 1035, section 4.1.1).
    some = np.flatnonzero(udp & (packets.src_port[rows] == _DNS))
    word = words[some]
    fine = (_bits(word, 32, 16) & np.uint64(0xF80F) == 0x8000) & (_bits(word, 16, 16) == 1)
    kind[rows[some[fine & (_bits(word, 0, 16) > 0)]]] = ANSWER
    _more(kind, packets, waiting)
    chosen = np.flatnonzero(kind)
    return chosen, kind[chosen]


def _tls(data: bytes, at: I64, packets: PacketColumns, kind: U8, rows: I64, words: U64) -> None:
    """ClientHellos in handshake records (RFC 8446, sections 4 and 5.1)."""
    some = np.flatnonzero(words >> np.uint64(48) == 0x1603)
    some = some[_bits(words[some], 16, 8) == 1]
    hello, word = rows[some], words[some]
    record = _bits(word, 24, 16).astype(np.int64)
    length = _bits(word, 0, 16).astype(np.int64) << 8 | unaligned(data, "u1")[at[hello] + 8]
    whole = (length + 4 <= record) & (length + 9 <= packets.payload[hello])
    kind[hello] = np.where(whole, HELLO, FRONT)


def _is_initial(words: U64) -> Bool:
    """Whether long headers are of Initial packets, in versions that can be read."""
    version, type_ = _bits(words, 24, 32), _bits(words, 60, 2)
    two = version == 0x6B3343CF  # RFC 9369, section 3.2
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
