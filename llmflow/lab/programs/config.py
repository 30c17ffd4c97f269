"""What the player of visits is told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from llmflow.errors import LlmflowError


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
    def from_json(cls, text: str) -> Self:
        """Parse a configuration.

        Raises
        ------
        LlmflowError
            If it is not JSON, or a field is missing, unknown or of another type.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            made = cls(**values)
            return cls(
                t0=float(made.t0),
                path=str(made.path),
                plan=Path(made.plan),
                log=Path(made.log),
                authority=Path(made.authority),
                servers={str(name): str(host) for name, host in made.servers.items()},
                shared={str(name): Path(place) for name, place in made.shared.items()},
                gids={str(name): int(gid) for name, gid in made.gids.items()},
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise LlmflowError(
                f"not a configuration: {error}", where="programs", hint="see programs.config.Config"
            ) from None

    def to_json(self) -> str:
        """Write it such that :meth:`from_json` reads the same."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, default=str)
