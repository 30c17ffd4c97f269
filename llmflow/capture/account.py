"""The packet account: every packet is decoded or counted under a named reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

# Reasons that mean damage or loss (exit code 3), as against packets that are simply not IP.
TRUNCATED_CAPTURE = "truncated-capture"  # the file ends inside a record
DAMAGED_RECORD = "damaged-record"  # lengths that cannot be: what follows is searched for
UNKNOWN_LINK_TYPE = "unknown-link-type"
TRUNCATED_PACKET = "truncated-packet"  # the snaplen cut the headers
MALFORMED = "malformed"  # header lengths that contradict each other
DAMAGE = frozenset(
    {TRUNCATED_CAPTURE, DAMAGED_RECORD, UNKNOWN_LINK_TYPE, TRUNCATED_PACKET, MALFORMED}
)

NOT_IP = "not-ip"  # ARP, LLDP, spanning tree, …
ENCRYPTED = "encrypted"  # the link layer is: WLAN, MACsec
TOO_DEEP = "too-many-layers"  # tags and tunnels without end, and no IP among the first of them
FRAGMENT = "later-fragment"  # no ports in it

MAX_NOTES = 100


@dataclass(slots=True)
class PacketAccount:
    """What became of the packets: ``packets == ip_packets + sum(skipped.values())``, always.

    Parameters
    ----------
    packets : int
        Packet records met, one for each damaged place included.
    ip_packets : int
        Packets that became a row of PacketColumns.
    skipped : Counter of str
        Packets not decoded, by reason.
    link_types : Counter of int
        Packets by link type (LINKTYPE_ numbers of tcpdump.org).
    notes : list of str
        One sentence per damaged place: what, where; of the first hundred.
    interfaces : dict of str to None
        Names of interfaces, where the captures have them, in order.
    """

    packets: int = 0
    ip_packets: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    link_types: Counter[int] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    interfaces: dict[str, None] = field(default_factory=dict)

    @property
    def damaged(self) -> bool:
        """Whether anything was lost to damage or to an unknown format."""
        return any(self.skipped[reason] for reason in DAMAGE)

    @property
    def places(self) -> int:
        """Damaged places in the files."""
        return self.skipped[DAMAGED_RECORD] + self.skipped[TRUNCATED_CAPTURE]

    def damage(self, reason: str, note: str) -> None:
        """Count one record lost at a damaged place."""
        self.packets += 1
        self.skipped[reason] += 1
        if len(self.notes) < MAX_NOTES:
            self.notes.append(note)

    def summary(self) -> str:
        """One line for people."""
        text = f"{self.packets} packets, {self.ip_packets} decoded"
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(self.skipped.items()) if n)
        return f"{text}; not decoded: {reasons}" if reasons else text
