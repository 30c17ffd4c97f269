"""Data sets on disk: the tables of many captures, extended capture by capture.

A data set is a folder::

    dataset.json          what the columns mean, how flows were cut, which captures are in it
    connections.parquet   one row per labelled connection
    segments.parquet      one row per segment, with every declared feature

A capture is read again only where its bytes, its labels or the rules have changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import llmflow
from llmflow.errors import LabelError
from llmflow.flows.batch import FlowOptions
from llmflow.learn.extraction import CONNECTIONS, SEGMENTS, Part, extract_capture, tables_hash
from llmflow.learn.labels import LabelledCapture
from llmflow.learn.perturb import AS_IT_IS
from llmflow.report.folders import check_folder, whole_folder

FORMAT = 1
ABOUT = "dataset.json"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the rows of a data set depend on, beside captures and labels."""

    options: FlowOptions = field(default_factory=FlowOptions)
    variants: tuple[str, ...] = (AS_IT_IS,)

    def as_json(self) -> dict[str, Any]:
        """For ``dataset.json``; memory changes no flow that is not told of."""
        options = {name: v for name, v in asdict(self.options).items() if name != "memory"}
        return {"schema": tables_hash(), "options": options, "variants": list(self.variants)}


@dataclass(slots=True)
class Tables:
    """The parts of a data set by capture, in order.

    Parameters
    ----------
    parts : dict of str to Part
    digests : dict of str to str
        What each part was made of.
    """

    parts: dict[str, Part] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def joined(self) -> tuple[pa.Table, pa.Table]:
        """Connections and segments of all captures; ``connection`` counts through all of them."""
        connections, segments, before = [CONNECTIONS.empty_table()], [SEGMENTS.empty_table()], 0
        for part in self.parts.values():
            number = pc.add(part.segments["connection"], pa.scalar(before, pa.int32()))
            segments.append(part.segments.set_column(0, SEGMENTS.field(0), number))
            connections.append(part.connections)
            before += len(part.connections)
        return (
            pa.concat_tables(connections).combine_chunks(),
            pa.concat_tables(segments).combine_chunks(),
        )


def without_addresses(tables: Tables) -> Tables:
    """Tables to be shared: connections have a protocol and a number, captures their folder."""
    shared = Tables()
    for name, part in tables.parts.items():
        flows = enumerate(part.connections["flow"].to_pylist())
        numbers = pa.array([f"{flow.split()[0]} {n}" for n, flow in flows], pa.string())
        place = CONNECTIONS.get_field_index("flow")
        connections = part.connections.set_column(place, CONNECTIONS.field(place), numbers)
        run = Path(name).parent.name
        capture = pa.array([run] * len(connections), pa.string())
        place = CONNECTIONS.get_field_index("capture")
        shared.parts[run] = replace(
            part, connections=connections.set_column(place, CONNECTIONS.field(place), capture)
        )
        shared.digests[run] = tables.digests[name]
    return shared


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a data set."""
    try:
        return (folder / ABOUT).is_file()
    except OSError:  # reading it says why
        return False


def extract_all(
    captures: Sequence[LabelledCapture],
    rules: Rules,
    workers: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[Part]:
    """The parts of captures, in their order; ``workers`` processes do not change them."""
    jobs = [(capture, rules.options, rules.variants) for capture in captures]
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield extract_capture(job)
            progress()
        return
    with ProcessPoolExecutor(workers) as pool:
        for part in pool.map(extract_capture, jobs, chunksize=4):
            yield part
            progress()


def build_dataset(
    folder: Path,
    captures: Sequence[LabelledCapture],
    rules: Rules,
    *,
    workers: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> tuple[Tables, int]:
    """Make a data set of captures, or bring one up to date; what was done survives an interrupt.

    Returns
    -------
    tables : Tables
    fresh : int
        How many captures had to be read.

    Raises
    ------
    OutputError
        The folder cannot be written, or something else stands there.
    """
    check_folder(folder, ABOUT, "data set")
    former = read_tables(folder) if is_dataset(folder) and _obeys(folder, rules) else Tables()
    digests = {str(c.path): _digest(c) for c in captures}
    stale = [c for c in captures if former.digests.get(str(c.path)) != digests[str(c.path)]]
    tables = Tables(dict(former.parts), dict(former.digests))
    try:
        for capture, part in zip(stale, extract_all(stale, rules, workers, progress), strict=True):
            name = str(capture.path)
            tables.parts[name], tables.digests[name] = part, digests[name]
        tables = Tables({name: tables.parts[name] for name in digests}, digests)
    finally:
        write_tables(folder, tables, rules)
    return tables, len(stale)


def _obeys(folder: Path, rules: Rules) -> bool:
    about = _read_about(folder)
    return all(about.get(key) == value for key, value in rules.as_json().items())


def _digest(labelled: LabelledCapture) -> str:
    """Names a capture's bytes together with its labels."""
    labels = [labelled.group, labelled.default, sorted(labelled.flows.items(), key=repr)]
    state = hashlib.sha256(repr(labels).encode())
    try:
        with labelled.path.open("rb") as file:
            state.update(hashlib.file_digest(file, "sha256").digest())
    except OSError:  # reading it says why
        state.update(b"unreadable")
    return state.hexdigest()


def write_tables(folder: Path, tables: Tables, rules: Rules) -> None:
    """Write a data set: whole or not at all."""
    connections, segments = tables.joined()
    about = {
        "format": FORMAT,
        "llmflow": llmflow.__version__,
        **rules.as_json(),
        "captures": [
            {
                "path": name,
                "digest": tables.digests[name],
                "connections": len(part.connections),
                "segments": len(part.segments),
                "damaged": part.damaged,
                "unusable": part.unusable,
            }
            for name, part in tables.parts.items()
        ],
    }
    with whole_folder(folder) as fresh:
        for table, name in ((connections, "connections"), (segments, "segments")):
            pq.write_table(table, fresh / f"{name}.parquet", compression="zstd")
        (fresh / ABOUT).write_text(json.dumps(about, indent=1) + "\n")


def _read_about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / ABOUT).read_bytes())
        if about["format"] == FORMAT and isinstance(about["captures"], list):
            return dict(about)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise LabelError(f"{ABOUT} cannot be read", where=str(folder), hint="build it again elsewhere")


def read_tables(folder: Path, rules: Rules | None = None) -> Tables:
    """Read a data set.

    Parameters
    ----------
    folder : Path
    rules : Rules, optional
        How its flows must have been cut; not looked at if not given.

    Raises
    ------
    LabelError
        It is damaged, was made for other features, or by other rules.
    """
    about = _read_about(folder)
    if about.get("schema") != tables_hash():
        raise LabelError(
            "the data set holds other features than this llmflow computes",
            where=str(folder),
            hint="run `llmflow dataset build` again",
        )
    if rules and about.get("options") != rules.as_json()["options"]:
        raise LabelError(
            "the flows of the data set were cut by other timeouts",
            where=str(folder),
            hint="give the same ones, or run `llmflow dataset build` again",
        )
    try:
        tables = _split(
            about["captures"], *(_read(folder, name) for name in ("connections", "segments"))
        )
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise LabelError(
            f"the data set is damaged ({error})", where=str(folder), hint="build it again"
        ) from None
    return tables


def _read(folder: Path, name: str) -> pa.Table:
    schema = {"connections": CONNECTIONS, "segments": SEGMENTS}[name]
    return pq.read_table(folder / f"{name}.parquet", schema=schema)


def _split(captures: list[dict[str, Any]], connections: pa.Table, segments: pa.Table) -> Tables:
    """Back from joined tables to the parts of the captures."""
    tables, before, row = Tables(), 0, 0
    for entry in captures:
        count, size = int(entry["connections"]), int(entry["segments"])
        inside = segments.slice(row, size)
        number = pc.subtract(inside["connection"], pa.scalar(before, pa.int32()))
        span = pc.min_max(number).as_py()
        if size and not 0 <= span["min"] <= span["max"] < count:
            raise ValueError("segments of no connection")
        tables.parts[entry["path"]] = Part(
            connections.slice(before, count),
            inside.set_column(0, SEGMENTS.field(0), number),
            str(entry["damaged"]),
            str(entry["unusable"]),
        )
        tables.digests[entry["path"]] = entry["digest"]
        before, row = before + count, row + size
    if (before, row) != (len(connections), len(segments)):
        raise ValueError("rows of no capture")
    return tables
