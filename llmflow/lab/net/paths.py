"""Access paths: what lies between a client and the servers, by name or from a scenario's table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from llmflow.errors import LabError
from llmflow.lab.net.impairment import Direction, GilbertElliott

CONGESTION = ("cubic", "bbr")
NAME = re.compile(r"[a-z][a-z0-9-]{0,11}")  # becomes part of the name of an interface


@dataclass(frozen=True, slots=True)
class AccessPath:
    """What lies between a client and the servers.

    Parameters
    ----------
    name : str
        At most 12 lower-case letters, digits and hyphens.
    up, down : Direction
        From the client to the servers, and back.
    congestion : str
        TCP congestion control of both ends, ``cubic`` or ``bbr``.

    Raises
    ------
    LabError
        If the name or the congestion control is not one of these.
    """

    name: str
    up: Direction
    down: Direction
    congestion: str = "cubic"

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise LabError(
                f"{self.name!r} is no name for an access path",
                hint="use 1 to 12 lower-case letters, digits and hyphens, a letter first",
            )
        if self.congestion not in CONGESTION:
            raise LabError(
                f"congestion control {self.congestion!r} is not known",
                where=self.name,
                hint=f"choose one of {', '.join(CONGESTION)}",
            )


def _mbps(rate: float) -> float:
    return rate * 1e6


# Delays are one way and include the way to the data centre. All values are chosen, not measured:
# round trips of 4 to 80 ms, losses of 0 to 1 % alone and in bursts and reordering of up to 0.5 %
# cover what users of consumer access see. Queues hold 50 to 150 ms at their rate, as in home
# routers and base stations, so that transfers beside a stream make it wait.
PATHS = {
    path.name: path
    for path in (
        AccessPath(
            "campus",
            up=Direction(delay_s=0.002, rate_bps=_mbps(1000), queue_bytes=1_000_000),
            down=Direction(delay_s=0.002, rate_bps=_mbps(1000), queue_bytes=1_000_000),
        ),
        AccessPath(
            "fibre",
            up=Direction(delay_s=0.006, rate_bps=_mbps(50), queue_bytes=500_000),
            down=Direction(delay_s=0.006, rate_bps=_mbps(100), queue_bytes=1_000_000),
        ),
        AccessPath(
            "dsl",
            up=Direction(
                delay_s=0.012, jitter_s=0.001, loss=0.0005, rate_bps=_mbps(5), queue_bytes=90_000
            ),
            down=Direction(
                delay_s=0.012, jitter_s=0.001, loss=0.0005, rate_bps=_mbps(25), queue_bytes=300_000
            ),
        ),
        AccessPath(
            "lte",
            up=Direction(
                delay_s=0.028, jitter_s=0.006, loss=0.003, rate_bps=_mbps(8), queue_bytes=150_000
            ),
            down=Direction(
                delay_s=0.028, jitter_s=0.006, loss=0.003, rate_bps=_mbps(20), queue_bytes=375_000
            ),
            congestion="bbr",
        ),
        AccessPath(
            "wifi",
            up=Direction(
                delay_s=0.015,
                jitter_s=0.012,
                burst=GilbertElliott(enter=0.002, leave=0.3, loss_bad=0.5),
                reorder=0.005,
                rate_bps=_mbps(10),
                queue_bytes=150_000,
            ),
            down=Direction(
                delay_s=0.015,
                jitter_s=0.012,
                burst=GilbertElliott(enter=0.002, leave=0.3, loss_bad=0.5),
                reorder=0.005,
                rate_bps=_mbps(10),
                queue_bytes=150_000,
            ),
        ),
        AccessPath(
            "satellite",
            up=Direction(
                delay_s=0.035,
                jitter_s=0.005,
                burst=GilbertElliott(enter=0.002, leave=0.2),
                rate_bps=_mbps(10),
                queue_bytes=150_000,
            ),
            down=Direction(
                delay_s=0.035,
                jitter_s=0.005,
                burst=GilbertElliott(enter=0.002, leave=0.2),
                duplicate=0.0005,
                rate_bps=_mbps(80),
                queue_bytes=1_000_000,
            ),
            congestion="bbr",
        ),
    )
}


def access_path(name: str, table: Mapping[str, Any] | None = None) -> AccessPath:
    """Find an access path by name, or make one from a table of a scenario.

    Parameters
    ----------
    name : str
        One of ``PATHS`` if there is no table, else the new path's own.
    table : mapping, optional
        ``like`` (a name of ``PATHS`` to start from), ``congestion``, and the tables ``up`` and
        ``down`` with fields of :class:`~llmflow.lab.net.impairment.Direction`.

    Raises
    ------
    LabError
        If a name or key is not known or a value is out of range.
    """
    if table is None:
        if name not in PATHS:
            raise LabError(
                f"there is no access path {name!r}", hint=f"choose one of {', '.join(PATHS)}"
            )
        return PATHS[name]
    where = f"path {name}"
    if not isinstance(table, Mapping):
        raise LabError("this is no table", where=where, hint="use like, congestion, up and down")
    unknown = set(table) - {"like", "congestion", "up", "down"}
    if unknown:
        raise LabError(
            f"unknown key {min(unknown)}", where=where, hint="use like, congestion, up and down"
        )
    start = (
        access_path(str(table["like"]))
        if "like" in table
        else AccessPath(name, Direction(), Direction())
    )
    return AccessPath(
        name,
        up=_filled(start.up, table.get("up", {}), f"{where}, up"),
        down=_filled(start.down, table.get("down", {}), f"{where}, down"),
        congestion=table.get("congestion", start.congestion),
    )


def direction(table: Mapping[str, Any]) -> Direction:
    """Make a direction from a table of its fields; the reverse of :func:`dataclasses.asdict`.

    Raises
    ------
    LabError
        If a key is not known or a value is not a number or out of range.
    """
    return _filled(Direction(), table, "direction")


Filled = TypeVar("Filled", Direction, GilbertElliott)


def _filled(start: Filled, table: object, where: str) -> Filled:
    """Put the values of a table in place of those of ``start``."""
    names = [field.name for field in fields(start)]
    if not isinstance(table, Mapping):
        raise LabError("this is no table", where=where, hint=f"give {', '.join(names)}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in names:
            raise LabError(f"unknown key {key}", where=where, hint=f"use {', '.join(names)}")
        if key == "burst":
            none = GilbertElliott(enter=0, leave=1)
            values[key] = None if value is None else _filled(none, value, f"{where}, burst")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise LabError(f"{key} is {value!r}", where=where, hint="give a number")
        else:
            values[key] = value
    try:
        return replace(start, **values)
    except LabError as error:
        raise LabError(str(error), where=where) from None
