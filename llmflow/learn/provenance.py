"""Labels with provenance: where each comes from, what contradicts it, and one file for all.

``basis`` of a label is its source, then the reason (``names: ...``, ``keys: ...``, ``folder``,
``lab``, ``manifest``); ``confidence`` is ``high``, ``medium`` or ``low``.
"""

from __future__ import annotations

import csv
import io
import ipaddress
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from llmflow.capture.columns import IPV4_MAPPED, PROTOCOLS
from llmflow.learn.labels import (
    FACTS,
    FLOW_COLUMNS,
    UNKNOWN,
    ConnectionKey,
    Label,
    LabelledCapture,
)

_CONFIDENCE = ("", "low", "medium", "high")
_IPV4_END = IPV4_MAPPED + (1 << 32)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Different labels for one connection, or for all of a capture (``flow`` is empty)."""

    capture: Path
    flow: str
    claims: tuple[tuple[str, Label], ...]

    def __str__(self) -> str:
        """One line for people."""
        said = "; ".join(f"{source}: {describe(label)}" for source, label in self.claims)
        return f"{self.capture} {self.flow or '(all connections)'}: {said}"


def describe(label: Label) -> str:
    """A label with its confidence and basis."""
    sure = f", {label.confidence} confidence" if label.confidence else ""
    return f"{label.name} ({label.basis}{sure})"


def _address(number: int) -> str:
    if IPV4_MAPPED <= number < _IPV4_END:
        return str(ipaddress.IPv4Address(number - IPV4_MAPPED))
    return str(ipaddress.IPv6Address(number))


def _columns(key: ConnectionKey) -> list[str]:
    """Protocol, then the end with the higher port, then the other, which is likely the server."""
    protocol, a, b = key
    client, server = (a, b) if a[1] >= b[1] else (b, a)
    ends = [part for address, port in (client, server) for part in (_address(address), str(port))]
    return [PROTOCOLS.get(protocol, str(protocol)).lower(), *ends]


def flow_text(key: ConnectionKey | None) -> str:
    """A connection for people, as data sets name it; empty for all of a capture."""
    if key is None:
        return ""
    protocol, client, port, server, server_port = _columns(key)
    ends = [f"{f'[{ip}]' if ':' in ip else ip}:{p}"
            for ip, p in ((client, port), (server, server_port))]  # fmt: skip
    return " ".join((protocol, *ends))


def labels_of(capture: LabelledCapture) -> Iterator[tuple[ConnectionKey | None, Label]]:
    """The labels of a capture: that of all its connections (None) first."""
    if capture.default:
        yield None, capture.default
    yield from sorted(capture.flows.items())


def merge_labels(
    sources: Sequence[tuple[str, Sequence[LabelledCapture]]],
) -> tuple[list[LabelledCapture], list[Conflict]]:
    """Bring the labels of several sources together.

    A label of a single connection goes before one of all connections inside its source, but not
    against another source. Connections on which sources differ become ``unknown``: nobody is
    believed. ``unknown`` contradicts nothing.

    Parameters
    ----------
    sources : sequence of (str, sequence of LabelledCapture)
        Each with its name.

    Returns
    -------
    captures : list of LabelledCapture
    conflicts : list of Conflict
    """
    found: dict[Path, list[tuple[str, LabelledCapture]]] = {}
    for name, captures in sources:
        for capture in captures:
            found.setdefault(capture.path.resolve(), []).append((name, capture))
    merged, conflicts = [], []
    for claims in found.values():
        first = claims[0][1]
        keys = dict.fromkeys(key for _, capture in claims for key, _ in labels_of(capture))
        out = LabelledCapture(first.path, first.group)
        for key in keys:
            said = [
                (name, label)
                for name, capture in claims
                if (label := capture.flows.get(key, capture.default) if key else capture.default)
            ]
            label = _settle([label for _, label in said])
            if label is None:
                conflicts.append(Conflict(first.path, flow_text(key), tuple(said)))
                basis = "conflict: " + "; ".join(f"{name} says {x.name}" for name, x in said)
                label = Label(UNKNOWN, UNKNOWN, basis=basis)
            if key is None:
                out.default = label
            else:
                out.flows[key] = label
        merged.append(out)
    return merged, conflicts


def _settle(labels: list[Label]) -> Label | None:
    """The label that all agree on, each fact from the surest that has it; None if they differ."""
    known = [label for label in labels if label.name != UNKNOWN] or labels
    if len({label.name for label in known}) > 1:
        return None
    ranked = sorted(known, key=lambda label: -_CONFIDENCE.index(_confidence(label)))
    facts = {name: next(filter(None, (getattr(x, name) for x in ranked)), "") for name in FACTS}
    facts |= {
        "basis": "; ".join(dict.fromkeys(label.basis for label in known)),
        "confidence": _confidence(ranked[0]),
    }
    return replace(ranked[0], **facts)


def _confidence(label: Label) -> str:
    """As given, if it is one of ours; a lab knows what it did."""
    given = label.confidence or ("high" if label.basis == "lab" else "")
    return given if given in _CONFIDENCE else ""


def manifest_text(captures: Sequence[LabelledCapture], folder: Path) -> str:
    """A manifest of labels, its captures relative to the folder it will lie in."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["capture", "label", *FLOW_COLUMNS, *FACTS, "group"])
    for capture in captures:
        name = os.path.relpath(capture.path.resolve(), folder.resolve())
        for key, label in labels_of(capture):
            flow = _columns(key) if key else [""] * len(FLOW_COLUMNS)
            facts = asdict(label)
            own = capture.group in (str(capture.path), str(capture.path.resolve()))
            group = label.group or ("" if own else capture.group)
            writer.writerow([name, label.name, *flow, *(facts[x] for x in FACTS), group])
    return out.getvalue()
