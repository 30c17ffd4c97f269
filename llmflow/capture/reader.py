"""Sources to packet columns: files and standard input, several captures as one stream."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmflow.arrays import I64
from llmflow.capture import dpkt_lane, lanes
from llmflow.capture.account import TRUNCATED_CAPTURE, PacketAccount
from llmflow.capture.columns import PacketColumns
from llmflow.capture.dpkt_lane import Tunnels
from llmflow.capture.framing import open_framer
from llmflow.capture.links import WITHOUT_IP
from llmflow.capture.records import Framer, Records
from llmflow.capture.sources import HEAD, BrokenSourceError, Source, is_pipe, open_source
from llmflow.errors import CaptureError

BLOCK_BYTES = 4 << 20

Progress = Callable[[int], None]


@dataclass(slots=True)
class _Capture:
    """One opened capture: its framer, and the bytes read but not yet framed."""

    source: Source
    framer: Framer
    pending: bytes


def _open(path: str | Path, stack: contextlib.ExitStack) -> _Capture:
    source = open_source(path, stack)
    head, more = b"", True
    try:
        while more and len(head) < HEAD:
            more = bool(piece := source.read(HEAD - len(head)))
            head += piece
    except BrokenSourceError as error:
        if not head:
            raise CaptureError(f"cannot be unpacked ({error})", where=source.name) from None
    framer, skip = open_framer(head, source.name)
    return _Capture(source, framer, head[skip:])


def _first_time(path: str | Path) -> int:
    """Time of the first packet near the front of a capture, to put a rotated set in order."""
    with contextlib.ExitStack() as stack:
        capture = _open(path, stack)
        for _, records in _blocks(capture, 1 << 16, PacketAccount(), lambda _: None):
            if len(records):
                return int(records.time[0])
    return 0


def _blocks(
    capture: _Capture, block_bytes: int, account: PacketAccount, progress: Progress
) -> Iterator[tuple[bytes, Records]]:
    """Blocks of one capture with the records that are whole in them."""
    source, done, last = capture.source, 0, False
    while not last:
        try:
            piece = source.read(block_bytes)
        except BrokenSourceError as error:
            account.damage(TRUNCATED_CAPTURE, f"{source.name}: cannot be unpacked on ({error})")
            piece = b""
        last = not piece
        block = capture.pending + piece
        records, used, damage = capture.framer.feed(block, last=last)
        yield block, records
        progress(source.progress())
        for found in damage:
            place = f"{source.name}: at byte {done + found.offset} of the records"
            account.damage(found.reason, f"{place}: {found.what}")
        capture.pending, done = block[used:], done + used


def _refuse_twice(paths: Sequence[str | Path]) -> None:
    """Refuse a capture that is named twice: its packets would count twice."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        try:
            status = Path(path).stat()
        except OSError:
            continue  # opening it says why
        place = status.st_dev, status.st_ino
        if place in seen:
            raise CaptureError("is named twice", where=str(path), hint="name each capture once")
        seen.add(place)


def read_records(
    paths: Sequence[str | Path],
    account: PacketAccount,
    *,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress = lambda _: None,
) -> Iterator[tuple[bytes, Records, int]]:
    """Frame captures as one stream of packet records, not decoded.

    Several captures (a rotated set) are read in the order of their first packets' times, whatever
    their names.

    Parameters
    ----------
    paths : sequence of str or Path
        pcap or pcapng files; ``-`` is standard input.
    account : PacketAccount
        Packets, link types, interfaces and damage are counted as they are read.
    block_bytes : int
        How much is read at once; does not change what comes out.
    progress : callable
        Called with the number of bytes read since the last call.

    Yields
    ------
    block : bytes
    records : Records
        The records in the block.
    position : int
        Running number of the first of them; damaged places have none.

    Raises
    ------
    CaptureError
        A path that cannot be opened, is empty, or is no capture: before anything is yielded if
        several captures were given.
    """
    if len(paths) > 1:
        for path in paths:
            if is_pipe(path):
                raise CaptureError(
                    "a pipe cannot be one of several captures",
                    where=str(path),
                    hint="name files only, or pipe one capture",
                )
        _refuse_twice(paths)
        times = [_first_time(path) for path in paths]
        paths = [paths[i] for i in np.argsort(times, kind="stable")]
    position = 0
    for path in paths:
        with contextlib.ExitStack() as stack:
            capture = _open(path, stack)
            for block, records in _blocks(capture, block_bytes, account, progress):
                account.link_types.update(records.links())
                account.packets += len(records)
                yield block, records, position
                position += len(records)
            account.interfaces.update(dict.fromkeys(capture.framer.interfaces()))


@dataclass(frozen=True, slots=True)
class Block:
    """Decoded packets, with the bytes that they were decoded from."""

    packets: PacketColumns
    data: bytes
    records: Records
    position: int

    def payload_at(self, packets: PacketColumns, rows: I64) -> I64:
        """Where in ``data`` the payloads of some rows of its packets begin."""
        record = packets.position[rows] - self.position
        return self.records.offset[record] + packets.payload_at[rows]


def read_packets(
    paths: Sequence[str | Path],
    account: PacketAccount,
    *,
    tunnels: Tunnels = "inner",
    block_bytes: int = BLOCK_BYTES,
    progress: Progress = lambda _: None,
) -> Iterator[PacketColumns]:
    """The packets of :func:`read_blocks`, without the bytes; parameters and errors as there."""
    blocks = read_blocks(
        paths, account, tunnels=tunnels, block_bytes=block_bytes, progress=progress
    )
    for block in blocks:
        yield block.packets


def read_blocks(
    paths: Sequence[str | Path],
    account: PacketAccount,
    *,
    tunnels: Tunnels = "inner",
    block_bytes: int = BLOCK_BYTES,
    progress: Progress = lambda _: None,
) -> Iterator[Block]:
    """Read captures as one stream of packets: :func:`read_records`, decoded.

    Parameters
    ----------
    paths, account, block_bytes, progress
        As for :func:`read_records`; the account is complete at the end.
    tunnels : {"inner", "outer"}
        Which IP header of a tunnelled packet makes its row.

    Yields
    ------
    Block
        In capture order; together every decoded packet once.

    Raises
    ------
    CaptureError
        As :func:`read_records`; and where no packet could be decoded for want of a known link type.
    """
    stream = read_records(paths, account, block_bytes=block_bytes, progress=progress)
    for block, records, position in stream:
        packets, skipped = lanes.decode(block, records, position, tunnels)
        account.ip_packets += len(packets)
        account.skipped.update(skipped)
        if len(packets):
            yield Block(packets, block, records, position)
    unknown = sorted(set(account.link_types) - dpkt_lane.LINKS)
    if unknown and not set(account.link_types) & dpkt_lane.LINKS:
        name = WITHOUT_IP.get(unknown[0], "")
        raise CaptureError(
            f"link type {unknown[0]}{name and f' ({name})'} is not supported, so no packet could be"
            " decoded",
            where=str(paths[0]),
            hint="`llmflow inspect` shows what is in it",
        )
