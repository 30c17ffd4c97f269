"""CPU time and memory of llmflow and of other readers on the same captures: `make bench`.

Each program runs alone, as a process of its own; the programs take turns, and each is compared with
the ``classify`` of its own round, because seconds of different times on a shared machine cannot be
compared. Printed is a Markdown table per capture.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CLASSIFY, READ, STAGES = (
    "`llmflow classify`",
    "reading and decoding alone",
    "stages, in one process",
)
HEADINGS = ("", "CPU time", "min to max", "packets per CPU second", "peak memory")


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run took, its children included.

    Parameters
    ----------
    output : str
        What it printed.
    seconds : float
        CPU time, user and system.
    peak : int
        MB of memory of its largest process; never less than this program's own.
    """

    output: str
    seconds: float
    peak: int


def programs(folder: str) -> dict[str, list[str]]:
    """Commands by name, but for those not installed; the capture's path comes behind each."""
    loop = [sys.executable, str(HERE / "loops.py")]
    target = str(Path(folder) / "flows.parquet")
    found = {
        CLASSIFY: [sys.executable, "-m", "llmflow", "classify", "-o", target],
        READ: [*loop, "read"],
        STAGES: [sys.executable, str(HERE / "stages.py")],
        "dpkt, loop to the IP header": [*loop, "dpkt"],
    }
    if importlib.util.find_spec("nfstream"):
        found["NFStream, flows and statistics"] = [*loop, "nfstream"]
    else:
        sys.stderr.write("NFStream is not installed (extra `bench`): skipped\n")
    if shutil.which("tcpdump"):
        found["tcpdump, copy (`-w /dev/null`)"] = ["tcpdump", "-w", "/dev/null", "-r"]
        # -S: absolute sequence numbers, which need no table of connections.
        show = 'exec tcpdump -nnS -r "$0" > /dev/null'
        found["tcpdump, text (`-nnS > /dev/null`)"] = ["sh", "-c", show]
    else:
        sys.stderr.write("tcpdump is not installed: skipped\n")
    return found


def run(command: list[str]) -> Usage:
    """Run a command to its end and measure it."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        with process.stdout as pipe:
            output = pipe.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        # 3 is llmflow's code for damage in the capture.
        if process.returncode not in (0, 3):
            errors.seek(0)
            sys.exit(f"{' '.join(command)}: {errors.read().decode(errors='replace')}")
    return Usage(output, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024)


def measure(capture: str, rounds: int) -> dict[str, list[Usage]]:
    """What each program took in each round; stages stand behind the program that tells them."""
    taken: dict[str, list[Usage]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        commands = programs(folder)
        for number in range(rounds):
            for name, command in commands.items():
                used = run([*command, capture])
                taken[name].append(used)
                sys.stderr.write(f"round {number + 1}: {name}: {used.seconds:.2f} s\n")
                if name == STAGES:
                    for line in used.output.splitlines():
                        stage, seconds = line.split("\t")
                        taken[f"stage: {stage}"].append(Usage("", float(seconds), 0))
    return taken


def table(taken: dict[str, list[Usage]]) -> str:
    """A Markdown table that reads as text, too."""
    packets = int(taken[READ][0].output)
    rows = [HEADINGS]
    for name, used in taken.items():
        ratios = [a.seconds / b.seconds for a, b in zip(used, taken[CLASSIFY], strict=True)]
        seconds = statistics.median(one.seconds for one in used)
        peak = max(one.peak for one in used)
        rows.append((
            name,
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            f"{packets / seconds:,.0f}" if seconds else "",
            f"{peak} MB" if peak else "",
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    cells.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def main() -> None:
    """Measure on each capture and print a table per capture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("captures", nargs="+", metavar="CAPTURE", help="classic pcap of Ethernet")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for capture in given.captures:
        taken = measure(capture, given.rounds)
        size = Path(capture).stat().st_size / 1e6
        head = f"{Path(capture).name}: {int(taken[READ][0].output):,} packets, {size:,.0f} MB"
        sys.stdout.write(f"{head}; rounds: {given.rounds}\n\n{table(taken)}\n")


if __name__ == "__main__":
    main()
