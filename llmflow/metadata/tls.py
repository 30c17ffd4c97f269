"""TLS hellos in clear: ClientHello and ServerHello.

RFC 8446 (TLS 1.3; records in 5.1, handshake in 4), RFC 5246 (1.2), RFC 6066 section 3 (SNI),
RFC 7301 (ALPN), RFC 9849 (ECH). SSL 2.0 hellos are refused.

ECH: an outer ClientHello names the *public name* of its configuration, which is the front's and not
the service's. Browsers send the same extension with random content (GREASE, RFC 9849 section 6.2)
where they have no configuration, and then the name is the service's. From the ClientHello the two
cannot be told apart, and that is by design.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import NamedTuple, TypeVar

from llmflow.metadata.wire import Cursor, MalformedError, host_name

_T = TypeVar("_T")
_NO_ALPN: tuple[bytes, ...] = ()

CLIENT_HELLO, SERVER_HELLO = 1, 2
MAX_HELLO = 1 << 16
_HANDSHAKE = 22
_MAX_RECORD = (1 << 14) + 2048  # RFC 5246, section 6.2.3
_MAX_RECORDS = 256
MAX_OVERHEAD = 4 + 5 * _MAX_RECORDS  # bytes of headers that a hello may come with

_HEAD = Struct(">HH")  # of an extension: type, length
_ONE_NAME = Struct(">HBH")  # SNI: length of the list; type and length of the name
_OUTER = Struct(">xHHB")  # ECH: KDF, AEAD, configuration
_FIXED = 34  # bytes of version and random

# Extension types (IANA).
SERVER_NAME, SIGNATURE_ALGORITHMS, ALPN, SUPPORTED_VERSIONS = 0, 13, 16, 43
ECH = 0xFE0D
_READ = frozenset({SERVER_NAME, SIGNATURE_ALGORITHMS, ALPN, SUPPORTED_VERSIONS, ECH})

_VERSIONS = {0x0300: "3.0", 0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}
_FIRST_1_3, _LAST_1_3 = 0x1301, 0x1307  # cipher suites of TLS 1.3 only (RFC 8446, B.4; RFC 9150)
# SHA-256 of "HelloRetryRequest" in place of the random bytes (RFC 8446, section 4.1.3).
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


class Message(NamedTuple):
    """A handshake message, perhaps its front only: type, length it should have, bytes there are."""

    kind: int
    length: int
    body: bytes

    @property
    def whole(self) -> bool:
        """Whether all of it is there."""
        return len(self.body) == self.length


class Ech(NamedTuple):
    """Outer ECH extension (RFC 9849, section 5): HPKE algorithms, number of the configuration."""

    kdf: int
    aead: int
    config_id: int


class ClientHello(NamedTuple):
    """What a ClientHello says.

    Parameters
    ----------
    version : int
        ``legacy_version``.
    ciphers, extensions, versions, signatures : tuple of int
        As sent, in order, with GREASE (RFC 8701); empty where the extension is missing or damaged.
    sni : str
        Server name, in the form of :func:`llmflow.metadata.wire.host_name`; empty without one.
    alpn : tuple of bytes
        Protocols offered, in order.
    ech : Ech or None
        An outer ECH extension, real or GREASE; ``sni`` is then the outer name.
    whole : bool
        False if the end is damaged or was not captured: lists and names may be missing.
    """

    version: int
    ciphers: tuple[int, ...]
    extensions: tuple[int, ...]
    versions: tuple[int, ...]
    signatures: tuple[int, ...]
    sni: str
    alpn: tuple[bytes, ...]
    ech: Ech | None
    whole: bool


@dataclass(frozen=True, slots=True)
class ServerHello:
    """What a ServerHello says: chosen version and cipher; ``alpn`` is in clear up to TLS 1.2.

    ``retry`` marks a HelloRetryRequest (RFC 8446, section 4.1.4), whose choices already bind.
    """

    version: int
    cipher: int
    alpn: bytes
    retry: bool


def version_name(number: int) -> str:
    """Name of a protocol version; empty for unknown ones and drafts other than of TLS 1.3.

    >>> version_name(0x0303), version_name(0x7f1c), version_name(0x0a0a)
    ('1.2', '1.3', '')
    """
    return "1.3" if number >> 8 == 0x7F else _VERSIONS.get(number, "")


def message(stream: bytes) -> Message | None:
    """First handshake message of a handshake stream (QUIC has no records); None if too short.

    Raises
    ------
    MalformedError
        A message longer than any hello may be.
    """
    if len(stream) < 4:
        return None
    length = int.from_bytes(stream[1:4], "big")
    if length > MAX_HELLO:
        raise MalformedError("a hello of more than 64 KiB")
    return Message(stream[0], length, stream[4 : 4 + length])


def record_message(stream: bytes) -> Message | None:
    """First handshake message of the bytes of a TCP stream, put together from records.

    Returns
    -------
    Message or None
        None as long as not even its header is there.

    Raises
    ------
    MalformedError
        Whatever follows, this is no TLS hello: other record types, SSL 2.0, impossible lengths.
    """
    if stream[:2] == b"\x16\3":  # the usual: all of it in one record
        record, length = int.from_bytes(stream[3:5], "big"), int.from_bytes(stream[6:9], "big")
        whole = length + 4 <= record <= min(len(stream) - 5, _MAX_RECORD)
        if whole and stream[5] in (CLIENT_HELLO, SERVER_HELLO):
            return Message(stream[5], length, stream[9 : 9 + length])
    parts: list[bytes] = []
    held, wanted, at = 0, MAX_HELLO, 0
    while at < len(stream) and held < wanted:
        head = stream[at : at + 5]
        if head[0] != _HANDSHAKE or (len(head) > 1 and head[1] != 3):
            raise MalformedError("no TLS handshake record")
        if len(head) < 5:
            break
        length = int.from_bytes(head[3:], "big")
        if not 0 < length <= _MAX_RECORD or len(parts) == _MAX_RECORDS:
            raise MalformedError("a TLS record of impossible length")
        parts.append(stream[at + 5 : at + 5 + length])
        held, at = held + len(parts[-1]), at + 5 + length
        if held >= 4 and wanted == MAX_HELLO and (found := message(b"".join(parts))):
            if found.kind not in (CLIENT_HELLO, SERVER_HELLO):
                raise MalformedError("no hello")
            wanted = found.length + 4
    return message(b"".join(parts))


# Few clients send few bodies over and over, the server's name apart.
_remembered = lru_cache(maxsize=4096)


def _sni(body: bytes) -> str:
    rest = len(body) - 5
    if rest >= 0 and _ONE_NAME.unpack_from(body) == (rest + 3, 0, rest):  # nobody sends more
        return host_name(body[5:].decode("utf-8", "replace"))
    names = Cursor(body).vector(2)
    while names.left:
        kind, name = names.number(1), names.vector(2)
        if kind == 0:
            return host_name(name.take(name.left).decode("utf-8", "replace"))
    return ""


@_remembered
def _alpn(body: bytes) -> tuple[bytes, ...]:
    protocols = Cursor(body).vector(2)
    found: list[bytes] = []
    while protocols.left:
        name = protocols.vector(1)
        found.append(name.take(name.left))
    return tuple(found)


@_remembered
def _versions(body: bytes) -> tuple[int, ...]:
    return Cursor(body).vector(1).numbers(2)


@_remembered
def _ciphers(body: bytes) -> tuple[int, ...]:
    return Cursor(body).vector(2).numbers(2)


@_remembered
def _signatures(body: bytes) -> tuple[int, ...]:
    return Cursor(body).vector(2).numbers(2)


def _ech(body: bytes) -> Ech | None:
    # Type 1 is the inner hello, which is never in clear.
    return (
        Ech(*_OUTER.unpack_from(body)) if body[:1] == b"\0" and len(body) >= _OUTER.size else None
    )


def _extensions(body: bytes, at: int) -> tuple[tuple[int, ...], dict[int, bytes], bool]:
    """Types in order, the first bodies of those read, and whether nothing is beyond them.

    What stands before a cut or before damage is as good as in a whole hello.
    """
    types: list[int] = []
    bodies: dict[int, bytes] = {}
    if at == len(body):  # RFC 5246, section 7.4.1.2: extensions may be left out
        return (), bodies, True
    end = min(at + 2 + int.from_bytes(body[at : at + 2], "big"), len(body))
    at += 2
    head = _HEAD.unpack_from
    while at + 4 <= end:
        kind, size = head(body, at)
        begin, after = at + 4, at + 4 + size
        if after > end:
            break
        types.append(kind)
        if kind in _READ and kind not in bodies:
            bodies[kind] = body[begin:after]
        at = after
    return tuple(types), bodies, at == end


def _field(bodies: dict[int, bytes], kind: int, read: Callable[[bytes], _T], missing: _T) -> _T:
    """One extension's content; damage in it costs this field and no other."""
    body = bodies.get(kind)
    if body is None:
        return missing
    try:
        return read(body)
    except MalformedError:
        return missing


def client_hello(body: bytes, *, whole: bool = True) -> ClientHello:
    """Read a ClientHello (RFC 8446, section 4.1.2).

    Parameters
    ----------
    body : bytes
        The message without its 4-byte header.
    whole : bool
        False if ``body`` is the front of a message only; what lies in it is given.

    Raises
    ------
    MalformedError
        Lengths before the extensions that contradict each other, or a front that ends there.
    """
    try:
        begin = _FIXED + 1 + body[_FIXED]
        end = begin + 2 + int.from_bytes(body[begin : begin + 2], "big")
        at = end + 1 + body[end]
    except IndexError:
        raise MalformedError("a hello that ends before its extensions") from None
    if at > len(body):
        raise MalformedError("a length reaches behind the end")
    types, bodies, sound = _extensions(body, at)
    return ClientHello(
        int.from_bytes(body[:2], "big"),
        _ciphers(body[begin:end]),
        types,
        _field(bodies, SUPPORTED_VERSIONS, _versions, ()),
        _field(bodies, SIGNATURE_ALGORITHMS, _signatures, ()),
        _field(bodies, SERVER_NAME, _sni, ""),
        _field(bodies, ALPN, _alpn, _NO_ALPN),
        _field(bodies, ECH, _ech, None),
        whole and sound,
    )


def _version(body: bytes) -> int:
    return Cursor(body).number(2)


def server_hello(body: bytes, *, whole: bool = True) -> ServerHello:
    """Read a ServerHello (RFC 8446, section 4.1.3); parameters and errors as `client_hello`."""
    cursor = Cursor(body)
    legacy, random = cursor.number(2), cursor.take(32)
    cursor.vector(1)
    cipher = cursor.number(2)
    cursor.number(1)
    _, bodies, sound = _extensions(body, cursor.at)
    # The extension rules (RFC 8446, 4.2.1); the cipher tells as much where it was not captured.
    cut_1_3 = not (whole and sound) and _FIRST_1_3 <= cipher <= _LAST_1_3
    version = _field(bodies, SUPPORTED_VERSIONS, _version, 0x0304 if cut_1_3 else legacy)
    protocols = _field(bodies, ALPN, _alpn, _NO_ALPN)
    return ServerHello(version, cipher, protocols[0] if protocols else b"", random == _RETRY)
