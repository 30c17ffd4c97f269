"""Records of a run: JSON lines, appended by several processes to one file."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Mapping
from pathlib import Path


def append(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    """Add records to a file as lines, whole ones, whoever else does the same."""
    text = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(text)
