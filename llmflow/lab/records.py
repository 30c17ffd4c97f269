"""Records of a run: JSON lines, one object each."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmflow.errors import LabError

Record = dict[str, Any]


def read_records(paths: Iterable[Path]) -> Iterator[Record]:
    """Records of files, one after the other.

    Raises
    ------
    LabError
        A line is no JSON object.
    """
    for path in paths:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    record = None
                if not isinstance(record, dict):
                    raise LabError(
                        "is no JSON object", where=f"{path}:{number}", hint="run the scenario again"
                    )
                yield record


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of records."""
    with path.open("w") as file:
        file.writelines(map(_line, records))


def append_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Add records to a file as whole lines, whoever else does the same."""
    text = "".join(map(_line, records))
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(text)


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"
