"""Datagrams as frames, and frames as blocks of a pcapng capture.

scapy would do, but takes a hundred times as long.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import NamedTuple

HEADERS = 42  # bytes of Ethernet, IPv4 and UDP
_MACS = (b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02")  # locally administered: client, server
_UDP = 17
_NANOSECONDS = b"\x09\0\x01\0\x09\0\0\0"  # option if_tsresol: 10⁻⁹ s


class Address(NamedTuple):
    """One end of a flow."""

    ip: str
    port: int


class Framer:
    """Puts headers around the datagrams of one direction.

    Parameters
    ----------
    source, target : Address
        Ends.
    up : bool
        Whether the client sends.
    """

    def __init__(self, source: Address, target: Address, *, up: bool) -> None:
        macs = _MACS if up else _MACS[::-1]
        self._ethernet = macs[1] + macs[0] + b"\x08\0"
        self._ends = IPv4Address(source.ip).packed + IPv4Address(target.ip).packed
        self._ports = struct.pack("!HH", source.port, target.port)

    def frame(self, payload: bytes) -> bytes:
        """Ethernet, IPv4 and UDP with right lengths and checksums."""
        length = 8 + len(payload)
        fixed = struct.pack("!BBHHHBB", 0x45, 0, 20 + length, 0, 0x4000, 64, _UDP)
        ip = fixed + _checksum(fixed + self._ends) + self._ends
        udp = self._ports + struct.pack("!H", length)
        pseudo = self._ends + struct.pack("!HH", _UDP, length)
        total = _checksum(pseudo + udp + payload)
        if total == b"\0\0":  # which would mean: none
            total = b"\xff\xff"
        return b"".join((self._ethernet, ip, udp, total, payload))


def head(interfaces: Iterable[str]) -> bytes:
    """Begin a capture with one Ethernet interface of each name, times in nanoseconds."""
    blocks = [_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))]
    for name in interfaces:
        text = name.encode()
        options = struct.pack("<HH", 2, len(text)) + _padded(text) + _NANOSECONDS + bytes(4)
        blocks.append(_block(1, struct.pack("<HHI", 1, 0, 0) + options))
    return b"".join(blocks)


def packet(interface: int, time: int, frame: bytes) -> bytes:
    """One captured frame, at ``time`` ns since 1970."""
    size = len(frame)
    fixed = struct.pack("<IIIII", interface, time >> 32, time & 0xFFFFFFFF, size, size)
    return _block(6, fixed + _padded(frame))


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", 12 + len(body))
    return b"".join((struct.pack("<I", kind), size, body, size))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _checksum(data: bytes) -> bytes:
    # A sum of 16-bit words with end-around carry (RFC 1071) is the remainder of the whole number,
    # but is never 0 for data that are not.
    total = int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF
    return struct.pack("!H", 0xFFFF - (total or 0xFFFF))
