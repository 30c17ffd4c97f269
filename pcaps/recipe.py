"""Make the captures of this folder again: `make captures`.

Those of `llmflow synth` come out the same, byte for byte. `lab.pcap` is an excerpt of real stacks
(scenario `excerpt`): each run makes another one, and needs root.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from llmflow.lab.records import read_records
from llmflow.synth import LABEL_COLUMNS

HERE = Path(__file__).parent
KEPT = 96  # bytes of each packet: the headers


def main() -> None:
    """Run the commands that every user has, and keep what they make."""
    llmflow = [sys.executable, "-m", "llmflow"]
    subprocess.run([*llmflow, "synth", "-o", str(HERE)], check=True)  # noqa: S603 - our own command
    if os.geteuid():
        sys.exit("lab.pcap stays as it is: the lab needs root")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        subprocess.run([*llmflow, "lab", "run", "excerpt", "-o", str(run)], check=True)  # noqa: S603
        # A plain pcap: a pcapng tells of the machine that it was captured on.
        cut = ["editcap", "-F", "nsecpcap", "-s", str(KEPT), str(run / "capture.pcapng")]
        cut.append(str(HERE / "lab.pcap"))
        subprocess.run(cut, check=True)  # noqa: S603
        with (HERE / "lab.labels.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, LABEL_COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            for flow in read_records([run / "flows.jsonl"]):
                writer.writerow(flow | {"capture": "lab.pcap", "category": flow["kind"]})


if __name__ == "__main__":
    main()
