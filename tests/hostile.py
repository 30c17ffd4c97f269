"""Captures of every kind, compressed in every way, and random damage to them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable

import pyarrow as pa
from hypothesis import strategies as st

from tests.builders import (
    SECOND,
    START,
    block,
    enhanced,
    interface,
    obsolete,
    pcap,
    section,
    simple,
)
from tests.unit.frames import LINK_FRAMES, TUNNELS, V4, V6

# Every link type and every tunnel, around both versions of IP: (link type, frame).
FRAMES = [
    (link, wrap(packet))
    for link, wrap in [*LINK_FRAMES.values(), *((1, wrap) for wrap, *_ in TUNNELS.values())]
    for packet in (V4, V6)
]
LINKS = sorted({link for link, _ in FRAMES})
_MODIFIED = {
    "kuznetzov": (0xA1B2CD34, 8, 0),
    "ixia": (0x1C0001AC, 0, 4),
    "ixia, us": (0x1C0001AB, 0, 4),
}


def _modified(order: str, magic: int, record: int, file: int, frames: list[bytes]) -> bytes:
    """pcap with larger headers: ``record`` bytes more for each record, ``file`` for the file."""
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1) + bytes(file)
    for number, frame in enumerate(frames):
        sizes = struct.pack(order + "IIII", 1_700_000_000 + number, 5, len(frame), len(frame))
        data += sizes + bytes(record) + frame
    return data


def _pcapng(order: str) -> bytes:
    """One section with an interface for each link type, and its frames in every kind of block."""
    data = section(order=order)
    for link in LINKS:
        data += interface(order=order, link=link, resolution=9, offset=1)
    writers = enhanced, obsolete
    for number, (link, frame) in enumerate(FRAMES):
        write = writers[number % len(writers)]
        data += write(START + number * SECOND, frame, order=order, port=LINKS.index(link))
    return data + block(5, b"1234", order=order) + simple(FRAMES[0][1], order=order)


def captures() -> dict[str, bytes]:
    """A capture for each file format, byte order, link type and tunnel."""
    ethernet = [frame for link, frame in FRAMES if link == 1]
    found = {}
    for order in "<>":
        for nano in (False, True):
            stamped = [(START + n * SECOND + n, frame) for n, frame in enumerate(ethernet)]
            found[f"pcap {order} nano={nano}"] = pcap(stamped, order=order, nano=nano)
        for name, layout in _MODIFIED.items():
            found[f"{name} {order}"] = _modified(order, *layout, ethernet)
        found[f"pcapng {order}"] = _pcapng(order)
    found["pcapng, both orders"] = found["pcapng <"] + found["pcapng >"]
    for link in LINKS:
        frames = [frame for other, frame in FRAMES if other == link]
        stamped = [(START + number * SECOND, frame) for number, frame in enumerate(frames)]
        found[f"link type {link}"] = pcap(stamped, link=link)
    return found


def _arrow(kind: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, kind) as stream:
            stream.write(data)
        packed: bytes = sink.getvalue().to_pybytes()
        return packed

    return pack


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "gzip members": lambda data: gzip.compress(data[:99_999]) + gzip.compress(data[99_999:]),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": _arrow("zstd"),
    "lz4": _arrow("lz4"),
}

# Where (as a share of the capture), what, and a number for it.
Edit = tuple[float, str, int]
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["set", "flip", "delete", "insert", "zero", "end"]),
        st.integers(0, 255),
    ),
    max_size=6,
)


def mutate(data: bytes, edits: list[Edit], first: int = 0) -> bytes:
    """A capture with bytes changed, taken out or put in from ``first`` on, or its end cut off."""
    for place, what, value in edits:
        at = first + int(place * max(len(data) - first, 0))
        if what == "set":
            data = data[:at] + bytes([value]) + data[at + 1 :]
        elif what == "flip":
            data = data[:at] + bytes(byte ^ value for byte in data[at : at + 1]) + data[at + 1 :]
        elif what == "delete":
            data = data[:at] + data[at + value :]
        elif what == "insert":
            data = data[:at] + bytes([value]) * value + data[at:]
        elif what == "end":
            data = data[:at]
        else:
            data = data[:at] + bytes(value) + data[at + value :]
    return data
