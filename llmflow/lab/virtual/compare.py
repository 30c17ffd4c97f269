"""How far HTTP/3 in virtual time is from the same in real time."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llmflow.arrays import F64
from llmflow.capture.records import NANOSECOND
from llmflow.flows.stream import Assembled, FlowStream
from llmflow.lab.records import read_records
from llmflow.lab.truth import ends

_APART = 1_000_000  # ns; what comes closer together is one chunk
_FEWEST = 20  # chunks of a kind in either run, to be compared


class Distance(NamedTuple):
    """Kolmogorov-Smirnov distances of two runs, from 0 (alike) to 1.

    Attributes
    ----------
    gaps, sizes : float
        Of the times between chunks sent down, and of their bytes.
    chunks : int
        In the run that has fewer.
    """

    gaps: float
    sizes: float
    chunks: int


def compare(one: Path, other: Path) -> dict[str, Distance]:
    """Compare what came down over HTTP/3 in two runs, by kind.

    Parameters
    ----------
    one, other : Path
        Folders as ``llmflow lab run`` wrote them.

    Returns
    -------
    dict of str to Distance
        Kinds that both runs have enough of.

    Raises
    ------
    LabError, CaptureError
        Labels or a capture cannot be read.
    """
    from scipy.stats import ks_2samp

    first, second = _chunks(one), _chunks(other)
    found = {}
    for kind in sorted(first.keys() & second.keys()):
        (gaps, sizes), (other_gaps, other_sizes) = first[kind], second[kind]
        fewest = min(len(gaps), len(other_gaps))
        if fewest >= _FEWEST:
            found[kind] = Distance(
                float(ks_2samp(gaps, other_gaps).statistic),
                float(ks_2samp(sizes, other_sizes).statistic),
                fewest,
            )
    return found


def _chunks(run: Path) -> dict[str, tuple[F64, F64]]:
    """Gaps (seconds) and bytes of chunks, by kind."""
    kinds = {
        (flow["client_ip"], flow["client_port"]): flow["kind"]
        for flow in read_records([run / "flows.jsonl"])
        if flow.get("transport") == "h3"
    }
    gaps, sizes = defaultdict[str, list[F64]](list), defaultdict[str, list[F64]](list)
    for assembled in FlowStream([str(run / "capture.pcapng")]).assemble():
        for row, end in enumerate(ends(assembled.batch.flows.client)):
            if end in kinds:
                gap, size = _of_flow(assembled, row)
                gaps[kinds[end]].append(gap)
                sizes[kinds[end]].append(size)
    return {kind: (np.concatenate(gaps[kind]), np.concatenate(sizes[kind])) for kind in gaps}


def _of_flow(assembled: Assembled, row: int) -> tuple[F64, F64]:
    rows = np.flatnonzero(assembled.data.down & (assembled.data.flow == row))
    times = assembled.batch.packets.time[rows]
    begins = np.flatnonzero(np.diff(times, prepend=times[:1] - _APART - 1) > _APART)
    bytes_down = np.add.reduceat(assembled.data.new[rows], begins) if len(begins) else begins
    gaps = np.diff(times[begins]) / NANOSECOND
    return gaps.astype(np.float64), bytes_down.astype(np.float64)
