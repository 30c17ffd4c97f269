"""What the player of visits is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from llmflow.errors import LabError
from llmflow.lab.plan import checked, read_object


@dataclass(frozen=True, slots=True)
class Config:
    """Configuration of the player of one access path.

    Parameters
    ----------
    t0 : float
        When the run starts, Unix seconds.
    path : str
        Name of the access path; sessions of other paths are left alone.
    plan : Path
        JSON lines of :class:`~llmflow.lab.script.Session`.
    log : Path
        Where a record of each visit and connection is appended, JSON lines.
    authority : Path
        Certificates to trust, PEM.
    servers : dict of str to str
        IP address of the server by program.
    shared : dict of str to Path
        Scratch directory of the server by program.
    gids : dict of str to int
        Group by program: the kernel's label of its packets.
    """

    t0: float
    path: str
    plan: Path
    log: Path
    authority: Path
    servers: dict[str, str]
    shared: dict[str, Path]
    gids: dict[str, int]

    @classmethod
    def from_json(cls, path: Path) -> Self:
        """Read it; LabError says what is wrong."""
        found = checked(cls, read_object(path), str(path))
        try:
            return cls(
                **found
                | {name: Path(found[name]) for name in ("plan", "log", "authority")}
                | {"shared": {name: Path(place) for name, place in found["shared"].items()}}
                | {"gids": {name: int(gid) for name, gid in found["gids"].items()}}
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise LabError(
                f"a value is of a wrong type ({error})", where=str(path), hint="mend it"
            ) from None
