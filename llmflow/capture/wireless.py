"""802.11 data frames, and the radio headers that stand before them.

IEEE 802.11-2020, clause 9; radiotap.org; CACE PPI specification; wlan-ng (Prism, AVS).
"""

from __future__ import annotations

from llmflow.capture.account import ENCRYPTED, FRAGMENT, MALFORMED
from llmflow.capture.packet import DONE, IEEE80211, LINK, LLC, Packet, SkipError

_AVS_MAGIC = (0x80211001, 0x80211002)


def ieee80211(packet: Packet, at: int) -> tuple[int, int]:
    """A MAC header of 24 to 36 bytes; only data frames in clear carry LLC."""
    control = packet.le16(at)
    if control & 0x0C != 0x08 or control & 0x40:  # no data frame, or one without data
        return DONE, at
    size = 24
    if control & 0x0300 == 0x0300:  # to and from the distribution system: a fourth address
        size += 6
    aggregated = mesh = 0
    if control & 0x80:  # quality of service
        quality = packet.le16(at + size)
        aggregated, mesh = quality & 0x80, quality & 0x0100 and control & 0x0300 == 0x0300
        size += 2
        if control & 0x8000:  # high-throughput control
            size += 4
    packet.need(at + size)
    if control & 0x4000:
        raise SkipError(ENCRYPTED)
    if packet.le16(at + 22) & 0x0F:
        raise SkipError(FRAGMENT)
    at += size
    if aggregated:  # an A-MSDU: the first of its frames
        at += 14
    if mesh:  # mesh control (9.2.4.7.3): up to two more addresses
        at += 6 + {1: 6, 2: 12}.get(packet.u8(at) & 3, 0)
    return LLC, at


def radiotap(packet: Packet, at: int) -> tuple[int, int]:
    """Little-endian; its flags say whether the MAC header is padded to 4 bytes."""
    size = packet.le16(at + 2)
    if size < 8:
        raise SkipError(MALFORMED)
    packet.need(at + size)
    present = packet.le32(at + 4)
    field, word = 8, present
    for _ in range(16):  # bit 31: another word of field bits follows
        if not word & 1 << 31:
            break
        word, field = packet.le32(at + field), field + 4
    kind, end = ieee80211(packet, at + size)
    if kind == LLC and present & 2:
        if present & 1:  # the time stamp counter, aligned to 8
            field = (field + 7 & ~7) + 8
        if packet.u8(at + field) & 0x20:
            end += -(end - at - size) % 4
    return kind, end


def ppi(packet: Packet, at: int) -> tuple[int, int]:
    """Version, flags, length of this header, link type of what follows."""
    size, link = packet.le16(at + 2), packet.le32(at + 4)
    if size < 8:
        raise SkipError(MALFORMED)
    return LINK + min(link, 0xFFFF), at + size


def prism(packet: Packet, at: int) -> tuple[int, int]:
    """Prism's header of 144 bytes, or AVS, which names its length."""
    if packet.u32(at) in _AVS_MAGIC:
        size = packet.u32(at + 4)
        if size < 8:
            raise SkipError(MALFORMED)
        return IEEE80211, at + size
    return IEEE80211, at + 144
