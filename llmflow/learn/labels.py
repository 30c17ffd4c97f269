"""Labels: which captures, and which of their connections, show LLM streams.

Three forms are read:

* a manifest (CSV, or TSV by its ending) with the columns ``capture,label``. A row without flow
  columns labels all of a capture's connections; rows with ``protocol, client_ip, client_port,
  server_ip, server_port`` label one each, whichever end is called client, and go before it.
  Further columns: ``group`` (what must not be on both sides of a split; the capture if not given)
  and the fields of :class:`Label`.
* a folder whose sub-folders are named after labels and hold captures.
* a run of the traffic lab: a folder with ``capture.pcapng`` and ``flows.jsonl``.

``llm-stream`` is the positive label, ``unknown`` and ``llm-vpn`` are left out of training and
scoring, and every other label is negative.
"""

from __future__ import annotations

import csv
import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from llmflow.capture.columns import IPV4_MAPPED, PROTOCOLS
from llmflow.errors import LabelError
from llmflow.learn.model import LLM_STREAM

UNKNOWN = "unknown"
REAL, LAB = "real", "lab"  # sources of traffic
LLM_VPN = "llm-vpn"  # streams inside a tunnel among other traffic: no flow of its own to judge
LAB_CAPTURE, LAB_FLOWS = "capture.pcapng", "flows.jsonl"
SUFFIXES = (".pcap", ".pcapng", ".cap")
FLOW_COLUMNS = ("protocol", "client_ip", "client_port", "server_ip", "server_port")

# protocol, then (address, port) of the smaller and of the larger endpoint
ConnectionKey = tuple[int, tuple[int, int], tuple[int, int]]


def connection_key(protocol: int, a: int, a_port: int, b: int, b_port: int) -> ConnectionKey:
    """The key of a connection, whichever end is named first; addresses as 128-bit numbers."""
    low, high = sorted([(a, a_port), (b, b_port)])
    return protocol, low, high


@dataclass(frozen=True, slots=True)
class Label:
    """A label, and what else is known of the connection: for splits and reports, never a feature.

    Parameters
    ----------
    name : str
    category : str
        What it is reported under: the service of LLM traffic, the sort of other traffic.
    kind : str
        What exactly, for splits that leave kinds out; the category if not given.
    provider : str
        Family of services that must be left out together; the category if not given.
    transport, front, path, site, client : str
        Transport protocol, server software, access path, place, and user or client software.
    source : str
        ``real``, ``lab`` or ``synth``.
    basis, confidence : str
        Where the label comes from, and how sure it is.
    group : str
        What must not be on both sides of a split; the capture's group if not given.
    """

    name: str
    category: str
    kind: str = ""
    provider: str = ""
    transport: str = ""
    front: str = ""
    path: str = ""
    site: str = ""
    client: str = ""
    source: str = REAL
    basis: str = "manifest"
    confidence: str = ""
    group: str = ""

    @property
    def positive(self) -> bool:
        """Whether it says *LLM stream*."""
        return self.name == LLM_STREAM


FACTS = tuple(field.name for field in fields(Label) if field.name not in ("name", "group"))


@dataclass(slots=True)
class LabelledCapture:
    """A capture with its labels: ``default`` for all connections that ``flows`` does not name."""

    path: Path
    group: str
    default: Label | None = None
    flows: dict[ConnectionKey, Label] = field(default_factory=dict)

    def label(self, key: ConnectionKey) -> Label | None:
        """The label of a connection; None where it is unknown."""
        label = self.flows.get(key, self.default)
        return None if label is None or label.name in (UNKNOWN, LLM_VPN) else label


def _address(text: str) -> int:
    address = ipaddress.ip_address(text)
    return int(address) | IPV4_MAPPED if address.version == 4 else int(address)  # noqa: PLR2004


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 1 << 16:
        raise ValueError(f"port {port}")
    return port


def _protocol(text: str) -> int:
    numbers = {name: number for number, name in PROTOCOLS.items()}
    name = text.strip().lower()
    return numbers[name] if name in numbers else int(name)


def flow_key(given: list[Any]) -> ConnectionKey:
    """The key of a connection written as protocol, address, port, address, port."""
    protocol, a, a_port, b, b_port = map(str, given)
    return connection_key(
        _protocol(protocol), _address(a), _port(a_port), _address(b), _port(b_port)
    )


def _rows(manifest: Path) -> Iterator[tuple[int, dict[str, str]]]:
    dialect = "excel-tab" if manifest.suffix == ".tsv" else "excel"
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, dialect=dialect, restval="")
            missing = {"capture", "label"} - set(reader.fieldnames or ())
            if missing:
                raise LabelError(
                    f"the manifest has no column {' and '.join(sorted(missing))}",
                    where=str(manifest),
                    hint="its first line names the columns, capture,label at least",
                )
            for row in reader:
                yield reader.line_num, row
    except FileNotFoundError:
        raise LabelError("no such file", where=str(manifest), hint="check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"the manifest cannot be read ({error})", where=str(manifest)) from None


def _read_manifest(manifest: Path) -> list[LabelledCapture]:
    captures: dict[Path, LabelledCapture] = {}
    for line, row in _rows(manifest):
        where = f"{manifest}:{line}"
        name, text = row["capture"].strip(), row["label"].strip()
        if not name or not text:
            raise LabelError("a row without capture or label", where=where, hint="fill it in")
        if "\0" in name:
            raise LabelError("the name of no file", where=where, hint="correct the column capture")
        path = manifest.parent / name
        group = row.get("group") or ""
        found = captures.setdefault(path, LabelledCapture(path, group or str(path)))
        text = text.lower() if text.lower() in (LLM_STREAM, UNKNOWN) else text
        facts = {name: row[name] for name in FACTS if row.get(name)}
        label = Label(text, **{"category": text, **facts})
        given = [row.get(column) or "" for column in FLOW_COLUMNS]
        if not any(given):
            if group and found.group != group:
                raise LabelError("one capture is in two groups", where=where, hint="keep one")
            if found.default not in (None, label):
                raise LabelError("two rows label all of one capture", where=where, hint="keep one")
            found.default = label
            continue
        try:
            key = flow_key(given)
        except ValueError as error:
            raise LabelError(
                f"the flow columns cannot be read ({error})",
                where=where,
                hint=f"give all of {', '.join(FLOW_COLUMNS)}, or none",
            ) from None
        if group and group != found.group:
            label = replace(label, group=group)
        if found.flows.setdefault(key, label).name != label.name:
            raise LabelError(
                f"one connection is labelled {found.flows[key].name} and {label.name}",
                where=where,
                hint="keep one of the rows",
            )
    return list(captures.values())


def _read_folder(folder: Path) -> list[LabelledCapture]:
    return [
        LabelledCapture(
            path, str(path), Label(labelled.name.lower(), labelled.name, basis="folder")
        )
        for labelled in sorted(folder.iterdir())
        if labelled.is_dir()
        for path in sorted(labelled.rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]


def _read_lab_run(folder: Path) -> list[LabelledCapture]:
    """The connections of a run, grouped by kind, whichever run they are of.

    Where two kinds of traffic used one 5-tuple, the connection is left out.
    """
    found = LabelledCapture(folder / LAB_CAPTURE, folder.name)
    log = folder / LAB_FLOWS
    for line, text in enumerate(log.read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(text)
            key = flow_key([row[column] for column in FLOW_COLUMNS])
            facts = {name: str(row[name]) for name in FACTS if row.get(name)}
            # Sessions of one kind are one script: they are no independent witnesses.
            facts |= {"source": LAB, "basis": LAB, "group": f"{LAB}/{row['kind']}"}
            label = Label(str(row["label"]), **facts)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise LabelError(
                f"is no record of a connection ({error})",
                where=f"{log}:{line}",
                hint="run the lab again",
            ) from None
        if row.get("rejected"):  # the lab itself ran late: its times are not those of the script
            label = Label(UNKNOWN, label.category)
        first = found.flows.setdefault(key, label)
        if replace(first, group=label.group) != label:
            found.flows[key] = Label(UNKNOWN, label.category)
    return [found] if found.flows else []


def _read_source(source: Path) -> list[LabelledCapture]:
    if not source.is_dir():
        return _read_manifest(source)
    return _read_lab_run(source) if (source / LAB_FLOWS).is_file() else _read_folder(source)


def read_labels(sources: list[Path]) -> list[LabelledCapture]:
    """Read manifests, folders and lab runs.

    Raises
    ------
    LabelError
        A source that cannot be read, contradicts itself, or names no capture; a capture that two
        sources name.
    """
    captures: list[LabelledCapture] = []
    for source in sources:
        try:
            found = _read_source(source)
        except OSError as error:
            what = f"cannot be read ({error.strerror})"
            raise LabelError(what, where=str(error.filename or source)) from None
        if not found:
            raise LabelError(
                "names no capture",
                where=str(source),
                hint="give a manifest with capture,label or a folder with one folder per label",
            )
        captures += found
    seen: set[Path] = set()
    for capture in captures:
        real = capture.path.resolve()
        if real in seen:
            raise LabelError("is named by two sources", where=str(capture.path))
        seen.add(real)
    return captures
