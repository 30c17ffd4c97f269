"""Sources to packet columns: files and standard input, several captures as one stream."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from llmflow.capture import dpkt_lane, lanes
from llmflow.capture.account import PacketAccount
from llmflow.capture.columns import PacketColumns
from llmflow.capture.dpkt_lane import Tunnels
from llmflow.capture.framing import Framer, Records, open_framer
from llmflow.capture.links import WITHOUT_IP
from llmflow.errors import CaptureError

BLOCK_BYTES = 4 << 20
STDIN = "-"

Progress = Callable[[int], None]


@dataclass(slots=True)
class _Source:
    """One opened capture: its framer, and the bytes read but not yet framed."""

    name: str
    stream: BinaryIO
    framer: Framer
    pending: bytes
    head: int  # bytes read to know the format


def _open(path: str | Path, stack: contextlib.ExitStack) -> _Source:
    name = str(path)
    try:
        stream: BinaryIO
        if name == STDIN:
            if sys.stdin is None:
                raise CaptureError("is closed", where="standard input", hint="pipe a capture")
            name, stream = "standard input", sys.stdin.buffer
        else:
            stream = stack.enter_context(Path(path).open("rb"))  # noqa: SIM115 - the stack closes it
        head = stream.read(1 << 16)
    except FileNotFoundError:
        raise CaptureError("no such file", where=name, hint="check the path") from None
    except IsADirectoryError:
        raise CaptureError("is a folder", where=name, hint="name the captures in it") from None
    except OSError as error:
        raise CaptureError(f"cannot be read ({error.strerror})", where=name) from None
    framer, skip = open_framer(head, name)
    return _Source(name, stream, framer, head[skip:], len(head))


def _first_time(path: str | Path) -> int:
    """Time of the first packet near the front of a capture, to put a rotated set in order."""
    with contextlib.ExitStack() as stack:
        source = _open(path, stack)
        for _, records in _blocks(source, 1 << 16, PacketAccount(), lambda _: None):
            if len(records):
                return int(records.time[0])
    return 0


def _blocks(
    source: _Source, block_bytes: int, account: PacketAccount, progress: Progress
) -> Iterator[tuple[bytes, Records]]:
    """Blocks of one source with the records that are whole in them."""
    done, last = 0, False
    progress(source.head)
    while not last:
        try:
            piece = source.stream.read(block_bytes)
        except OSError as error:
            raise CaptureError(f"cannot be read on ({error.strerror})", where=source.name) from None
        last = not piece
        block = source.pending + piece
        records, used, damage = source.framer.feed(block, last=last)
        yield block, records
        progress(len(piece))
        for found in damage:
            place = f"{source.name}: at byte {done + found.offset} of the records"
            account.damage(found.reason, f"{place}: {found.what}")
        source.pending, done = block[used:], done + used


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
            if str(path) == STDIN or Path(path).is_fifo():
                raise CaptureError(
                    "a pipe cannot be one of several captures",
                    where=str(path),
                    hint="name files only, or pipe one capture",
                )
        times = [_first_time(path) for path in paths]
        paths = [paths[i] for i in np.argsort(times, kind="stable")]
    position = 0
    for path in paths:
        with contextlib.ExitStack() as stack:
            source = _open(path, stack)
            for block, records in _blocks(source, block_bytes, account, progress):
                links, counts = np.unique(records.link, return_counts=True)
                account.link_types.update(dict(zip(links.tolist(), counts.tolist(), strict=True)))
                account.packets += len(records)
                yield block, records, position
                position += len(records)
            account.interfaces.update(dict.fromkeys(source.framer.interfaces()))


def read_packets(
    paths: Sequence[str | Path],
    account: PacketAccount,
    *,
    tunnels: Tunnels = "inner",
    block_bytes: int = BLOCK_BYTES,
    progress: Progress = lambda _: None,
) -> Iterator[PacketColumns]:
    """Read captures as one stream of packets: :func:`read_records`, decoded.

    Parameters
    ----------
    paths, account, block_bytes, progress
        As for :func:`read_records`; the account is complete at the end.
    tunnels : {"inner", "outer"}
        Which IP header of a tunnelled packet makes its row.

    Yields
    ------
    PacketColumns
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
            yield packets
    unknown = sorted(set(account.link_types) - dpkt_lane.LINKS)
    if unknown and not set(account.link_types) & dpkt_lane.LINKS:
        name = WITHOUT_IP.get(unknown[0], "")
        raise CaptureError(
            f"link type {unknown[0]}{name and f' ({name})'} is not supported, so no packet could be"
            " decoded",
            where=str(paths[0]),
            hint="`llmflow inspect` shows what is in it",
        )
