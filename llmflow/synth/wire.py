"""Frames and capture files: what a tap beside the client would have written.

scapy builds the frames with full payloads, so lengths and checksums are right; the capture keeps
the first bytes of each, as a tap with a snap length does.  Nothing here is left to a default that
could differ between two runs: addresses, identifiers, hop counts and times all come from the
caller.  scapy is imported only when a :class:`Framer` is made.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from llmflow.errors import LlmflowError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

EPOCH = 1_767_225_600  # 2026-01-01T00:00:00Z, the start of every capture
SNAPLEN = 96  # headers, options and the first bytes of the payload
MICROSECONDS = 1_000_000

_MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")  # locally administered: client, gateway
_TYPE_IP4, _TYPE_IP6 = 0x0800, 0x86DD
_TCP, _UDP = 6, 17


class Side(IntEnum):
    """Who sends: the client's end or the server's end of a flow."""

    CLIENT = 0
    SERVER = 1

    @property
    def peer(self) -> Side:
        """The other end."""
        return Side(1 - self)


@dataclass(frozen=True)
class Ends:
    """The two ends of a flow.

    Parameters
    ----------
    client_ip, server_ip : str
        Addresses, both of one IP version.
    client_port, server_port : int
        Ports.
    """

    client_ip: str
    client_port: int
    server_ip: str
    server_port: int

    @property
    def ipv6(self) -> bool:
        """Whether the flow runs over IPv6."""
        return ":" in self.client_ip

    def ip(self, side: Side) -> str:
        """Return the address of one end."""
        return self.client_ip if side is Side.CLIENT else self.server_ip

    def port(self, side: Side) -> int:
        """Return the port of one end."""
        return self.client_port if side is Side.CLIENT else self.server_port


class Packet(NamedTuple):
    """One captured frame: seconds since :data:`EPOCH`, kept bytes, length on the wire."""

    time: float
    frame: bytes
    wire_length: int


class IpHeader(NamedTuple):
    """What changes from packet to packet in the IP header."""

    ident: int
    ttl: int


class TcpHeader(NamedTuple):
    """What changes from segment to segment in the TCP header."""

    seq: int
    ack: int
    flags: str
    window: int
    options: list[tuple[str, Any]]


class Framer:
    """Builds Ethernet frames with scapy, one reusable layer stack per flow and direction.

    Raises
    ------
    LlmflowError
        If scapy is not installed.
    """

    def __init__(self) -> None:
        try:
            from scapy.layers.inet import IP, TCP, UDP  # noqa: PLC0415 - optional and GPL
            from scapy.layers.inet6 import IPv6  # noqa: PLC0415
            from scapy.layers.l2 import Ether  # noqa: PLC0415
            from scapy.packet import Raw  # noqa: PLC0415
        except ImportError as error:
            raise LlmflowError(
                "making captures needs scapy", hint="pip install 'llmflow[synth]'"
            ) from error
        self._ether, self._ip4, self._ip6 = Ether, IP, IPv6
        self._tcp, self._udp, self._raw = TCP, UDP, Raw
        self._stacks: dict[tuple[Ends, Side, int], tuple[Any, Any, Any, Any]] = {}

    def tcp(
        self, ends: Ends, side: Side, header: IpHeader, tcp: TcpHeader, payload: bytes
    ) -> bytes:
        """Return the frame of one TCP segment sent by `side`."""
        frame, network, transport, body = self._stack(ends, side, _TCP)
        self._set_network(ends, network, header)
        transport.seq, transport.ack, transport.flags, transport.window, transport.options = tcp
        body.load = payload
        return bytes(frame)

    def udp(self, ends: Ends, side: Side, header: IpHeader, payload: bytes) -> bytes:
        """Return the frame of one UDP datagram sent by `side`."""
        frame, network, _, body = self._stack(ends, side, _UDP)
        self._set_network(ends, network, header)
        body.load = payload
        return bytes(frame)

    def _stack(self, ends: Ends, side: Side, protocol: int) -> tuple[Any, Any, Any, Any]:
        key = (ends, side, protocol)
        if key not in self._stacks:
            source, target = ends.ip(side), ends.ip(side.peer)
            ether = self._ether(
                src=_MACS[side], dst=_MACS[side.peer], type=_TYPE_IP6 if ends.ipv6 else _TYPE_IP4
            )
            network = (
                self._ip6(src=source, dst=target, nh=protocol)
                if ends.ipv6
                else self._ip4(src=source, dst=target, proto=protocol, flags="DF")
            )
            layer = self._tcp if protocol == _TCP else self._udp
            transport = layer(sport=ends.port(side), dport=ends.port(side.peer))
            stack = (ether, network, transport, self._raw(load=b""))
            ether.add_payload(network)
            network.add_payload(transport)
            transport.add_payload(stack[3])
            for part in stack:
                part.explicit = 1  # no field holds a list of values: skip the costly expansion
            self._stacks[key] = stack
        return self._stacks[key]

    @staticmethod
    def _set_network(ends: Ends, network: Any, header: IpHeader) -> None:  # noqa: ANN401
        if ends.ipv6:
            network.hlim = header.ttl
        else:
            network.id, network.ttl = header.ident & 0xFFFF, header.ttl


def captured(time: float, frame: bytes) -> Packet:
    """Return the frame as the tap keeps it, cut at the snap length.

    Examples
    --------
    >>> packet = captured(0.0, bytes(1514))
    >>> len(packet.frame), packet.wire_length
    (96, 1514)
    """
    return Packet(time, frame[:SNAPLEN], len(frame))


def pcap_bytes(packets: Iterable[Packet]) -> bytes:
    """Return a classic little-endian microsecond pcap file with Ethernet frames.

    Parameters
    ----------
    packets : iterable of Packet
        In the order of time.

    Returns
    -------
    bytes
        The whole file.
    """
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, SNAPLEN, 1)]
    for packet in packets:
        stamp = EPOCH * MICROSECONDS + round(packet.time * MICROSECONDS)
        seconds, fraction = divmod(stamp, MICROSECONDS)
        parts.append(struct.pack("<IIII", seconds, fraction, len(packet.frame), packet.wire_length))
        parts.append(packet.frame)
    return b"".join(parts)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that its name never shows half of it.

    Parameters
    ----------
    path : pathlib.Path
        Where to; its directory is made if it does not exist.
    content : bytes
        The whole content.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            hint="choose another directory with -o",
        ) from error
