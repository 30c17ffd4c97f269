"""DNS answers: which name an address was looked up by (RFC 1035; SVCB and HTTPS records, RFC 9460).

Unicast DNS only: the caller hands over what came from port 53, not mDNS and LLMNR.
"""

from __future__ import annotations

from typing import NamedTuple

from llmflow.capture.columns import IPV4_MAPPED
from llmflow.metadata.wire import Cursor, MalformedError, host_name

_MAX_RECORDS = 256
_MAX_LABELS = 128  # a name has 127 at most; also ends loops of compression pointers
_A, _CNAME, _AAAA, _SVCB, _HTTPS, _IN = 1, 5, 28, 64, 65, 1
_IPV4_HINT, _IPV6_HINT = 4, 6


class Answer(NamedTuple):
    """An address that a client was given for a name.

    Parameters
    ----------
    client : int
        Who asked; handed through.
    address : int
        The answer, as a 128-bit number; IPv4 as IPv4-mapped IPv6.
    name : str
        What was asked for, whatever chain of aliases led to the address.
    time : int
        When the answer passed; handed through.
    ttl : int
        Seconds it may be kept: the smallest on the chain.
    """

    client: int
    address: int
    name: str
    time: int
    ttl: int


class _Record(NamedTuple):
    kind: int
    ttl: int
    data: Cursor


def _name(cursor: Cursor, message: bytes) -> str:
    """Read a name that may be compressed (RFC 1035, section 4.1.4)."""
    labels: list[bytes] = []
    here = cursor
    for _ in range(_MAX_LABELS):
        size = here.number(1)
        if size == 0:
            return host_name(b".".join(labels).decode("ascii", "replace"))
        if size >= 0xC0:
            here = Cursor(message, (size & 0x3F) << 8 | here.number(1))
        elif size < 0x40:
            labels.append(here.take(size))
        else:
            raise MalformedError("a label of unknown type")
    raise MalformedError("a name without end")


def _addresses(record: _Record, message: bytes) -> list[int]:
    data = record.data
    if record.kind == _A:
        return [IPV4_MAPPED | data.number(4)]
    if record.kind == _AAAA:
        return [data.number(16)]
    found: list[int] = []
    data.number(2)
    _name(data, message)
    while data.left:
        key, value = data.number(2), data.vector(2)
        if key == _IPV4_HINT:
            found += [IPV4_MAPPED | number for number in value.numbers(4)]
        elif key == _IPV6_HINT:
            found += value.numbers(16)
    return found


def answers(message: bytes, client: int = 0, time: int = 0) -> list[Answer]:
    """Addresses in a DNS response.

    Parameters
    ----------
    message : bytes
        A UDP payload, or what follows the two bytes of length on TCP (RFC 1035, section 4.2.2).
    client, time : int
        Where the response went and when; handed through to the answers.

    Returns
    -------
    list of Answer
        In the order of the message; empty for questions and errors. Addresses of names that do not
        belong to the chain from the question are left out, and so is what was cut off.

    Raises
    ------
    MalformedError
        No DNS message, or one that contradicts itself before the answers.
    """
    cursor = Cursor(message)
    cursor.take(2)
    flags, questions, count = cursor.number(2), cursor.number(2), cursor.number(2)
    cursor.take(4)
    # A response (QR) to a standard query (opcode 0) without error (RCODE 0) to one question.
    if flags & 0xF80F != 0x8000 or questions != 1:
        return []
    asked = _name(cursor, message)
    cursor.take(4)
    records: list[tuple[str, _Record]] = []
    try:
        for _ in range(min(count, _MAX_RECORDS)):
            owner = _name(cursor, message)
            kind, group = cursor.number(2), cursor.number(2)
            record = _Record(kind, cursor.number(4), cursor.vector(2))
            if group == _IN:
                records.append((owner, record))
    except MalformedError:
        pass  # cut by the snaplen: what came before is good
    return _follow(asked, records, message, client, time) if asked else []


def _follow(
    asked: str, records: list[tuple[str, _Record]], message: bytes, client: int, time: int
) -> list[Answer]:
    """Answers to ``asked``, along the chain of aliases."""
    chain = {asked: 1 << 31}
    aliases = [(x, _target(r, message), r.ttl) for x, r in records if r.kind == _CNAME]
    # Servers send chains in order, but nothing demands it; every round adds a name or is the last.
    size = 0
    while len(chain) > size:
        size = len(chain)
        for owner, target, ttl in aliases:
            if owner in chain and target and target not in chain:
                chain[target] = min(chain[owner], ttl)
    result: list[Answer] = []
    for owner, record in records:
        if owner in chain and record.kind in (_A, _AAAA, _SVCB, _HTTPS):
            try:
                addresses = _addresses(record, message)
            except MalformedError:
                continue
            ttl = min(chain[owner], record.ttl)
            result += [Answer(client, address, asked, time, ttl) for address in addresses]
    return result


def _target(record: _Record, message: bytes) -> str:
    try:
        return _name(record.data, message)
    except MalformedError:
        return ""
