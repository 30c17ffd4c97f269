"""QUIC Initial packets: taking off their protection, and the ClientHello inside.

RFC 9000 section 17.2 (long headers), RFC 9001 section 5 (protection), RFC 9369 (version 2). An
Initial is protected with keys that everybody on the path can derive from the connection id that the
client chose first; after a Retry, from the one the server chose. Read are versions 1 and 2, the
drafts 21 to 34, Meta's numbers for them (mvfst) and Google's T050 and T051. Google QUIC proper
(Q0xx) carries no TLS: it is named (`version_name`) and not read.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, lru_cache
from typing import NamedTuple

from llmflow.metadata import tls
from llmflow.metadata.wire import Cursor, MalformedError, Pieces

V1, V2, DRAFT_29 = 1, 0x6B3343CF, 0xFF00001D
MAX_CRYPTO = 1 << 16
MAX_PACKETS = 16  # Initial packets looked into per connection; a post-quantum hello takes two
_MAX_COALESCED = 8
_MAX_FRAMES = 512
_MAX_ID = 20  # RFC 9000, section 17.2

_SALT_V1 = "38762cf7f55934b34d179ae6a4c80cadccbb7f0a"
_SALT_V2 = "0dede3def700a6db819381be6e269dcbf9bd2ed9"
_SALT_29 = "afbfec289993d24c9e9786f19c6111e04390a899"
_SALT_23 = "c3eef712c72ebb5a11a7d2432bb46365bef9f502"
_SALT_21 = "7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a"
_SALTS = {
    V1: _SALT_V1,
    V2: _SALT_V2,
    **{0xFF000000 | draft: _SALT_V1 for draft in (33, 34)},
    **{0xFF000000 | draft: _SALT_29 for draft in range(29, 33)},
    **{0xFF000000 | draft: _SALT_23 for draft in range(23, 29)},
    **{0xFF000000 | draft: _SALT_21 for draft in (21, 22)},
    0xFACEB001: _SALT_21,  # mvfst (Meta)
    0xFACEB002: _SALT_23,
    0xFACEB00E: _SALT_23,
    0x54303530: "7ff579e5acd072915580304c43a2367c60488310",  # T050 and T051 (Google)
    0x54303531: "7a4edef4e7ccee5fa4506c19124fc8ccda6e033d",
}
READABLE = frozenset(_SALTS)  # versions whose Initial packets can be read; greased ones, too
_PING, _ACK, _ACK_ECN = 1, 2, 3
_CRYPTO = (6, 8)  # 8 is Google's; a STREAM frame, as it is with others, cannot be in an Initial


class Keys(NamedTuple):
    """Keys of one side: packet protection, its nonce, header protection."""

    key: bytes
    iv: bytes
    hp: bytes


class Initial(NamedTuple):
    """A protected Initial packet: ``number`` is where its packet number begins in ``packet``."""

    version: int
    dcid: bytes
    packet: bytes
    number: int


def version_name(version: int) -> str:
    """Name of a version.

    Returns
    -------
    str
        Empty for numbers that nobody is known to use, as random bytes have them.

    Examples
    --------
    >>> [version_name(version) for version in (1, 0x6B3343CF, 0xFF00001D, 0x51303436, 0xFACEB002)]
    ['1', '2', 'draft-29', 'Q046', 'mvfst-2']
    >>> version_name(0x1A2A3A4A), version_name(0x12345678)
    ('greased', '')
    """
    if version & 0x0F0F0F0F == 0x0A0A0A0A:
        return "greased"
    if version in (V1, V2):
        return "1" if version == V1 else "2"
    if version >> 8 == 0xFF0000:
        return f"draft-{version & 0xFF}"
    if version >> 8 == 0xFACEB0:
        return f"mvfst-{version & 0xFF:x}"
    if version >> 8 in (0x513033, 0x513034, 0x513035, 0x543035) and 0x30 <= version & 0xFF <= 0x39:
        return version.to_bytes(4, "big").decode()
    return ""


def _readings(version: int) -> tuple[int, ...]:
    """Versions whose rules a packet may follow; none if it cannot be read.

    Versions that ask for negotiation (RFC 9000, section 15) have no rules of their own; clients
    that begin with one protect the packet as with the version they really mean.
    """
    if version & 0x0F0F0F0F == 0x0A0A0A0A:
        return V1, DRAFT_29
    return (version,) if version in _SALTS else ()


@cache  # there are eight
def _info(label: str, length: int) -> bytes:
    name = b"tls13 " + label.encode()
    return length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"


def _expand(secret: bytes, label: str, length: int) -> bytes:
    """HKDF-Expand-Label of SHA-256 for one block of output (RFC 8446, section 7.1; RFC 5869)."""
    return hmac.digest(secret, _info(label, length) + b"\1", "sha256")[:length]


@lru_cache(maxsize=64)
def initial_keys(version: int, dcid: bytes, side: str = "client") -> Keys | None:
    """Keys of Initial packets (RFC 9001, section 5.2; RFC 9369, section 3.3).

    Parameters
    ----------
    version : int
    dcid : bytes
        The first destination connection id of the client, or the source id of the last Retry.
    side : {"client", "server"}
        Who sends.

    Returns
    -------
    Keys or None
        None for a version that is not supported.
    """
    salt = _SALTS.get(version)
    if salt is None:
        return None
    secret = _expand(hmac.digest(bytes.fromhex(salt), dcid, "sha256"), f"{side} in", 32)
    prefix = "quicv2" if version == V2 else "quic"
    sizes = (("key", 16), ("iv", 12), ("hp", 16))
    return Keys(*(_expand(secret, f"{prefix} {name}", size) for name, size in sizes))


def initials(datagram: bytes) -> Iterator[Initial]:
    """Initial packets of a datagram (RFC 9000, section 12.2), until something else ends it.

    Retry and Version Negotiation packets have no length and end a datagram, and so does a packet
    with a short header. Others are stepped over.
    """
    start = 0
    for _ in range(_MAX_COALESCED):
        cursor = Cursor(datagram, start)
        try:
            first, version = cursor.number(1), cursor.number(4)
            dcid = cursor.vector(1)
            cursor.vector(1)
            kind = first >> 4 & 3
            if version == V2:
                kind = kind - 1 & 3  # RFC 9369, section 3.2: types are numbered one higher
            if first & 0xC0 != 0xC0 or dcid.left > _MAX_ID or not _readings(version) or kind == 3:
                return
            if kind == 0:
                cursor.take(cursor.varint())
            length = cursor.varint()
            number = cursor.at - start
            cursor.take(length)
        except MalformedError:
            return
        if kind == 0:
            name = dcid.take(dcid.left)
            yield Initial(version, name, datagram[start : cursor.at], number)
        start = cursor.at


def unprotect(initial: Initial, keys: Keys) -> bytes | None:
    """Take the protection off (RFC 9001, sections 5.3 and 5.4).

    Returns
    -------
    bytes or None
        The frames; None if the keys are not the packet's.
    """
    # Heavy, and needed only where there is QUIC.
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    packet, at = initial.packet, initial.number
    sample = packet[at + 4 : at + 20]
    if len(sample) < 16:
        return None
    # ECB of one block is the header protection of RFC 9001, section 5.4.3.
    mask = Cipher(algorithms.AES(keys.hp), modes.ECB()).encryptor().update(sample)  # noqa: S305
    first = packet[0] ^ mask[0] & 0x0F
    width = (first & 3) + 1
    number = bytes(a ^ b for a, b in zip(packet[at : at + width], mask[1:], strict=False))
    header = bytes([first]) + packet[1:at] + number
    # Initial packets are few: what is left out of their numbers is zero.
    nonce = int.from_bytes(keys.iv, "big") ^ int.from_bytes(number, "big")
    try:
        return AESGCM(keys.key).decrypt(nonce.to_bytes(12, "big"), packet[at + width :], header)
    except InvalidTag:
        return None


def crypto_frames(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """Offset and data of CRYPTO frames (RFC 9000, section 19); other frames are skipped."""
    cursor = Cursor(frames)
    try:
        for _ in range(_MAX_FRAMES):
            rest = frames[cursor.at :].lstrip(b"\0")  # PADDING
            cursor.at = len(frames) - len(rest)
            if not rest:
                return
            kind = cursor.number(1)
            if kind in _CRYPTO:
                offset = cursor.varint()
                yield offset, cursor.take(cursor.varint())
            elif kind in (_ACK, _ACK_ECN):
                _skip_ack(cursor, ecn=kind == _ACK_ECN)
            elif kind != _PING:  # nothing but CONNECTION_CLOSE may be here, and it is the last
                return
    except MalformedError:
        return


def _skip_ack(cursor: Cursor, *, ecn: bool) -> None:
    cursor.varint()
    cursor.varint()
    ranges = cursor.varint()
    for _ in range(min(2 * ranges + 1 + 3 * ecn, cursor.left + 1)):
        cursor.varint()


class InitialReader:
    """Puts together the ClientHello of a connection from its datagrams, in any order.

    Attributes
    ----------
    version : int
        Of the packets that the hello was in; the first seen as long as there is none; 0 at first.
    message : tls.Message or None
        The ClientHello, once it is whole or given up.
    """

    __slots__ = ("_client", "_crypto", "_left", "_waiting", "message", "version")

    def __init__(self) -> None:
        self.version = 0
        self.message: tls.Message | None = None
        self._crypto: dict[Keys, Pieces] = {}
        self._waiting: list[Initial] = []
        self._left = MAX_PACKETS
        self._client: int | None = None

    @property
    def exhausted(self) -> bool:
        """Whether more datagrams are of no use."""
        return not self._left

    @property
    def held(self) -> int:
        """Bytes held."""
        waiting = sum(len(initial.packet) for initial in self._waiting)
        return waiting + sum(pieces.held for pieces in self._crypto.values())

    def feed(self, side: int, datagram: bytes) -> None:
        """Read a datagram of either side; whose open with a client's keys is the client."""
        if not self.version and len(datagram) > 4 and datagram[0] & 0x80:
            version = int.from_bytes(datagram[1:5], "big")
            self.version = version if version_name(version) else 0
        for initial in initials(datagram):
            if self.exhausted or self._client not in (None, side):
                break
            self._left -= 1
            if self._open(initial):
                self._client = side
            else:
                self._waiting.append(initial)
        if self.exhausted:
            self.close()

    def close(self) -> None:
        """Look into no further packet, and hold nothing; what is there has to do."""
        with suppress(MalformedError):
            self.message = self.front()
        self._left = 0
        self._waiting.clear()
        self._crypto.clear()

    def front(self) -> tls.Message | None:
        """The ClientHello as far as it is there."""
        found = [tls.message(pieces.run(0)) for pieces in self._crypto.values()]
        return self.message or next((message for message in found if message), None)

    def _open(self, initial: Initial) -> bool:
        # Its own id is right for the first flight and after a Retry; once the server has answered,
        # the client uses the server's id but the keys stay.
        own = (initial_keys(version, initial.dcid) for version in _readings(initial.version))
        for keys in (*own, *self._crypto):
            if keys and (frames := unprotect(initial, keys)) is not None:
                self._collect(initial.version, keys, frames)
                return True
        return False

    def _collect(self, version: int, keys: Keys, frames: bytes) -> None:
        new = keys not in self._crypto
        pieces = self._crypto.setdefault(keys, Pieces(MAX_CRYPTO, _MAX_FRAMES))
        for offset, data in crypto_frames(frames):
            if offset + len(data) <= MAX_CRYPTO:
                pieces.add(offset, data)
        try:
            message = tls.message(pieces.run(0))
        except MalformedError:  # nothing that follows can mend it
            self._left = 0
            return
        if message and message.whole and message.kind == tls.CLIENT_HELLO:
            self.version, self.message, self._left = version, message, 0
        elif new:  # later packets may have come before the one that tells the keys
            waiting, self._waiting = self._waiting, []
            self._waiting += [initial for initial in waiting if not self._open(initial)]
