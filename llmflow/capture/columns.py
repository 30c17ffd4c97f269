"""PacketColumns: one row per IP packet, as equal-length numpy arrays, ~100 bytes a packet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import I64, U8, U16, U32, U64

# IPv4 addresses live in the IPv4-mapped IPv6 range (RFC 4291, section 2.5.5.2).
IPV4_MAPPED = 0xFFFF_0000_0000

TCP, UDP, DCCP, SCTP, UDP_LITE = 6, 17, 33, 132, 136
ICMP, ICMPV6 = 1, 58
PORTED = (TCP, UDP, DCCP, SCTP, UDP_LITE)  # protocols whose rows have ports
# IANA protocol numbers that have a name here; others are written as numbers.
PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 50: "esp",
             58: "icmpv6", 89: "ospf", 132: "sctp", 136: "udplite"}  # fmt: skip
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

# Bits of `hint`: what the first bytes of the payload say about the protocol, where they are there.
HINT_CLIENT_HELLO, HINT_SERVER_HELLO, HINT_QUIC_LONG = 1, 2, 4


class Columns:
    """Equal-length numpy arrays as fields of a dataclass: the moves that all such tables share."""

    @classmethod
    def names(cls) -> list[str]:
        """Field names, in order."""
        return [field.name for field in fields(cls)]  # type: ignore[arg-type]

    def columns(self) -> list[NDArray[Any]]:
        """The arrays, in order."""
        return [getattr(self, name) for name in self.names()]

    def __len__(self) -> int:
        return len(getattr(self, self.names()[0]))

    def take(self, index: NDArray[Any] | slice) -> Self:
        """Rows picked by index array, mask or slice."""
        return type(self)(*(column[index] for column in self.columns()))

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """All rows of all parts, in order; needs at least one part."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.names()))


@dataclass(frozen=True, slots=True)
class PacketColumns(Columns):
    """Decoded packets in capture order.

    Parameters
    ----------
    time : ndarray of int64
        Nanoseconds since 1970-01-01 UTC.
    src_hi, src_lo, dst_hi, dst_lo : ndarray of uint64
        Halves of the addresses; IPv4 as IPv4-mapped IPv6 (RFC 4291, section 2.5.5.2).
    src_port, dst_port : ndarray of uint16
        0 for protocols without ports.
    protocol : ndarray of uint8
        IP protocol number (IANA).
    flags : ndarray of uint8
        TCP flags (RFC 9293), 0 for other protocols.
    ip_bytes, payload : ndarray of int64
        Bytes of the IP packet, and of the TCP or UDP payload, on the wire: both come from the
        headers, so a short snaplen does not change them.
    seq, ack : ndarray of uint32
        TCP sequence and acknowledgement number, 0 for other protocols.
    window : ndarray of uint16
        TCP window field, not scaled.
    hint : ndarray of uint8
        ``HINT_*`` bits from the first payload bytes.
    vlan : ndarray of uint16
        Outermost VLAN id, 0 without a tag.
    vlan_inner : ndarray of uint16
        Innermost VLAN id where there are several tags, else 0.
    tunnel : ndarray of uint8
        Code of the innermost tunnel that the IP packet lies in (``capture.packet.Tunnel``), 0 none.
    tunnel_id : ndarray of uint32
        Its number: TEID, VNI, GRE key, MPLS label, PPPoE or L2TP session; 0 without one.
    payload_at, captured : ndarray of uint32
        Where the TCP or UDP payload begins in the captured packet, and how many bytes of it are
        there; both 0 where there are none.
    position : ndarray of int64
        Running number of the packet in the whole input, from 0.
    """

    time: I64
    src_hi: U64
    src_lo: U64
    dst_hi: U64
    dst_lo: U64
    src_port: U16
    dst_port: U16
    protocol: U8
    flags: U8
    ip_bytes: I64
    payload: I64
    seq: U32
    ack: U32
    window: U16
    hint: U8
    vlan: U16
    vlan_inner: U16
    tunnel: U8
    tunnel_id: U32
    payload_at: U32
    captured: U32
    position: I64

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[int, ...]]) -> PacketColumns:
        """Columns from one tuple per packet, in the order of the fields."""
        table = list(rows)
        columns = zip(*table, strict=True) if table else ([] for _ in DTYPES)
        return cls(*(np.array(c, dtype) for c, dtype in zip(columns, DTYPES.values(), strict=True)))


_WIDTHS: dict[str, type[np.generic]] = {
    "I64": np.int64,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
}
DTYPES = {field.name: np.dtype(_WIDTHS[str(field.type)]) for field in fields(PacketColumns)}
