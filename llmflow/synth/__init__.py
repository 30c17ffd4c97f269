"""Small labelled captures, made to measure and the same every time (needs scapy)."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from llmflow.errors import LlmflowError
from llmflow.synth.scenarios import SCENARIOS, Scene
from llmflow.synth.wire import pcap_bytes, write_atomically

__all__ = ["LABEL_COLUMNS", "SCENARIOS", "write_scenario"]

LABEL_COLUMNS = (
    "capture",
    "label",
    "protocol",
    "client_ip",
    "client_port",
    "server_ip",
    "server_port",
    "category",
)


def write_scenario(name: str, directory: Path | str, seed: int = 1) -> Path:
    """Write the capture of one scenario and, beside it, the labels of its flows.

    Parameters
    ----------
    name : str
        A key of :data:`SCENARIOS`.
    directory : path-like
        Where ``<name>.pcap`` and ``<name>.labels.csv`` go; made if it does not exist.
    seed : int, optional
        The same seed writes the same bytes.

    Returns
    -------
    pathlib.Path
        The capture.

    Raises
    ------
    LlmflowError
        If there is no such scenario or scapy is not installed.
    OutputError
        If a file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     write_scenario("voip", directory).name
    'voip.pcap'
    """
    if name not in SCENARIOS:
        raise LlmflowError(
            "no such scenario", where=name, hint=f"there are: {', '.join(SCENARIOS)}"
        )
    scene = Scene(name, seed)
    SCENARIOS[name].build(scene)
    capture = Path(directory) / f"{name}.pcap"
    write_atomically(capture, pcap_bytes(scene.packets()))
    write_atomically(capture.with_name(f"{name}.labels.csv"), _labels(scene, capture.name))
    return capture


def _labels(scene: Scene, capture: str) -> bytes:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(LABEL_COLUMNS)
    for label, protocol, ends, category in scene.labels:
        client = (ends.client_ip, ends.client_port)
        server = (ends.server_ip, ends.server_port)
        writer.writerow((capture, label, protocol, *client, *server, category))
    return table.getvalue().encode()
