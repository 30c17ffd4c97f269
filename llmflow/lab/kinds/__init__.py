"""The kinds of traffic, one file per family with a tuple ``KINDS``; a leading _ marks helpers."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache
from random import Random

from llmflow.lab.script import Exchange, Kind, Session

REMEMBERED = 128  # scripts, of some 0.3 MB each


@lru_cache(maxsize=1)
def kinds() -> dict[str, Kind]:
    """All kinds by name."""
    found: dict[str, Kind] = {}
    families = sorted(module.name for module in pkgutil.iter_modules(__path__))
    for family in (name for name in families if not name.startswith("_")):
        for kind in importlib.import_module(f"{__name__}.{family}").KINDS:
            if kind.name in found:
                raise ValueError(f"two kinds are called {kind.name}")
            found[kind.name] = kind
    return found


@lru_cache(maxsize=REMEMBERED)
def script(session: Session) -> tuple[Exchange, ...]:
    """What a session says; the same in every process."""
    return kinds()[session.kind].build(Random(session.seed), session.seconds)
