"""Atheris target: hellos and QUIC Initials from hostile bytes.

Run it for long by hand: ``python tests/fuzz/fuzz_names.py [libFuzzer options] [corpus folder]``.
A finding is any exception but :class:`MalformedError`, a broken bound, or a run that hangs.
"""

from __future__ import annotations

import contextlib
import sys

from llmflow.metadata import quic, tls
from llmflow.metadata.collector import NameCollector
from llmflow.metadata.ja4 import ja4
from llmflow.metadata.wire import MalformedError

MAX_BYTES = 1 << 14


def hello(data: bytes) -> None:
    """A ClientHello and a ServerHello, whole and cut, bare and in records."""
    for whole in (True, False):
        with contextlib.suppress(MalformedError):
            ja4(tls.client_hello(data, whole=whole))
        with contextlib.suppress(MalformedError):
            tls.server_hello(data, whole=whole)
    with contextlib.suppress(MalformedError):
        tls.record_message(data)


def initial(data: bytes) -> None:
    """A datagram as it came, and frames as if their packet had been opened."""
    reader = quic.InitialReader()
    reader.feed(0, data)
    reader.front()
    if sum(len(part) for _, part in quic.crypto_frames(data)) > len(data):
        raise AssertionError("more CRYPTO data than bytes")


def flow(data: bytes) -> None:
    """Segments and datagrams of one flow: byte 0 says which, byte 1 where."""
    collector: NameCollector[int] = NameCollector(max_bytes=MAX_BYTES)
    while len(data) > 3:
        kind, offset, size = data[0], data[1], data[2] + 1
        seq = None if kind & 2 else offset * 16
        front = b"\x16\3\1" if kind & 4 else b""
        collector.feed(0, kind & 1, seq, front + data[3 : 3 + size])
        data = data[3 + size :]
    if not 0 <= collector.held <= MAX_BYTES:
        raise AssertionError("more held than allowed")
    collector.finish(0)


TARGETS = (hello, initial, flow)


def target(data: bytes) -> None:
    """The first byte picks the parser."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def main() -> None:
    """Hand over to libFuzzer. Only here is Atheris needed, so that the tests can do without."""
    import atheris  # noqa: PLC0415

    atheris.instrument_all()
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
