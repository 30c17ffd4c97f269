"""The registry: every feature is declared once, and everything else is derived from it.

The Arrow schema, the documentation, ``llmflow features list``, the schema hash in models and
the parametrised tests against a slow reference all read this table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from llmflow.arrays import F64
from llmflow.features.segments import Segments

Kernel = Callable[[Segments], F64]


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature.

    Parameters
    ----------
    name, unit : str
    group : str
        ``cadence``, ``clock``, ``pauses``, ``size``, ``padding``, ``uplink``, ``exchange``,
        ``request`` or ``connection``.
    counts : str
        Which packets it counts.
    null : str
        When it is null (NaN in arrays); never a sentinel number.
    formula : str
        One sentence, from the kernel's docstring.
    version : int
        Raised when the formula changes.
    kernel : callable
        ``Segments -> float64 array``, one value per segment.
    """

    name: str
    unit: str
    group: str
    counts: str
    null: str
    formula: str
    version: int
    kernel: Kernel

    @property
    def needs_uplink(self) -> bool:
        """Whether a one-way capture of the downlink leaves it null."""
        return self.group in ("uplink", "exchange", "request", "connection")


FEATURES: dict[str, Feature] = {}


def feature(
    *, unit: str, group: str, counts: str, null: str, version: int = 1
) -> Callable[[Kernel], Kernel]:
    """Declare a kernel as a feature; its name and docstring become the feature's."""

    def declare(kernel: Kernel) -> Kernel:
        name = kernel.__name__
        formula = " ".join((kernel.__doc__ or "").split())
        FEATURES[name] = Feature(name, unit, group, counts, null, formula, version, kernel)
        return kernel

    return declare


def schema_hash(features: Mapping[str, Feature]) -> str:
    """SHA-256 over names, units, formulas and versions: binds a model to the features it reads."""
    lines = [f"{f.name}|{f.unit}|{f.version}|{f.formula}|{f.null}" for f in features.values()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def compute(segments: Segments, features: Mapping[str, Feature] = FEATURES) -> F64:
    """Features of all segments.

    Parameters
    ----------
    segments : Segments
    features : mapping of str to Feature
        All declared features if not given.

    Returns
    -------
    ndarray of float64, shape (segments, features)
        Columns in the order of ``features``; NaN is null.
    """
    out = np.empty((len(segments), len(features)))
    with np.errstate(divide="ignore", invalid="ignore"):
        for column, entry in enumerate(features.values()):
            out[:, column] = entry.kernel(segments)
    return out
