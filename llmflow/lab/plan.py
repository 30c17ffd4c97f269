"""Plans and configurations: the files that a run hands to its servers and clients."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from llmflow.errors import LabError
from llmflow.lab.script import Session

_MOST_BYTES = 1 << 27  # of a plan: some 500,000 sessions


def write_plan(path: Path, sessions: Iterable[Session]) -> None:
    """Write a plan: JSON lines, one session each."""
    path.write_text("".join(json.dumps(asdict(session)) + "\n" for session in sessions))


def read_plan(path: Path) -> tuple[Session, ...]:
    """Read a plan.

    Raises
    ------
    LabError
        It cannot be read, a line is no session, or two sessions have one number.
    """
    sessions: dict[int, Session] = {}
    for line, text in enumerate(_text(path).splitlines(), 1):
        where = f"{path}, line {line}"
        session = Session(**checked(Session, _json(text, where), where))
        if session.number in sessions or not 0 <= session.number < 1 << 32:
            raise LabError("the number of the session is not its own", where=where, hint="renumber")
        sessions[session.number] = session
    return tuple(sessions.values())


def read_object(path: Path) -> dict[str, Any]:
    """Read a file of one JSON object.

    Raises
    ------
    LabError
        It cannot be read or holds something else.
    """
    found = _json(_text(path), str(path))
    if not isinstance(found, dict):
        raise LabError("holds no JSON object", where=str(path), hint="write one")
    return found


_SORTS: dict[str, Any] = {
    "int": int,
    "float": (int, float),
    "str": str,
    "bool": bool,
    "list": list,
    "dict": dict,
}


def checked(kind: type, found: object, where: str) -> dict[str, Any]:
    """Fields of a dataclass as they stand in a file; those of plain types are of that type.

    Raises
    ------
    LabError
        It is no object, has fields that are not known, or values of a wrong type.
    """
    if not isinstance(found, dict):
        raise LabError("is no JSON object", where=where, hint="write one")
    known = {field.name: field.type for field in fields(kind)}
    for name, value in found.items():
        sort = _SORTS.get(str(known.get(name, "")).partition("[")[0], object)
        if name not in known or not isinstance(value, sort):
            raise LabError(f"{name} is not known or of a wrong type", where=where, hint="mend it")
    try:
        kind(**found)
    except TypeError as error:
        raise LabError(f"fields are missing ({error})", where=where, hint="add them") from None
    return found


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise LabError("is too large", where=str(path), hint="check the path")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"cannot be read ({error})", where=str(path), hint="check it") from None


def _json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LabError(f"is no JSON ({error})", where=where, hint="write it anew") from None
