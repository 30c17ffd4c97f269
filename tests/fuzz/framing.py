"""Fuzz target: any bytes as a capture, whole and in pieces: records that lie in their block."""

from __future__ import annotations

import sys
from itertools import pairwise

import atheris

with atheris.instrument_imports(include=["llmflow"]):
    from llmflow.capture import chains
    from llmflow.capture.framing import open_framer
    from llmflow.capture.records import Damage
    from llmflow.errors import CaptureError

Row = tuple[int, int, int, int, int]
CUTS = 3  # bytes at the end of an input that say where it is cut
# Inputs are small. So that chains of records are followed in lockstep in them, as in large blocks:
chains._STRETCH, chains._WINDOW = 1 << 7, 1 << 6


def feed(data: bytes, cuts: bytes, least_chains: int) -> tuple[list[Row], list[Damage]]:
    """Records and damage of a capture fed in pieces, their places counted behind its header."""
    chains._LEAST_CHAINS = least_chains
    framer, skip = open_framer(data, "fuzz")
    body = data[skip:]
    edges = [0, *sorted(len(body) * cut // 256 for cut in cuts), len(body)]
    rows: list[Row] = []
    damage: list[Damage] = []
    pending, done = b"", 0
    feeds = [(body[a:b], False) for a, b in pairwise(edges)]
    for piece, last in [*feeds, (b"", True)]:
        pending += piece
        records, used, found = framer.feed(pending, last=last)
        assert 0 <= used <= len(pending)
        assert all(0 <= place.offset <= len(pending) for place in found)
        end = 0
        columns = (column.tolist() for column in records.columns())
        for at, captured, wire, time, link in zip(*columns, strict=True):
            assert end <= at <= at + captured <= used
            assert min(captured, wire, link) >= 0
            end = at + captured
            rows.append((done + at, captured, wire, time, link))
        damage += [Damage(place.reason, done + place.offset, place.what) for place in found]
        pending, done = pending[used:], done + used
    framer.interfaces()
    return rows, damage


def one(data: bytes) -> None:
    """Refused, or the same records and damage whole and in pieces, without and with lockstep."""
    data, cuts = data[:-CUTS], data[-CUTS:]
    try:
        whole = feed(data, b"", 1 << 30)
    except CaptureError:
        return
    assert whole == feed(data, cuts, 1)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
