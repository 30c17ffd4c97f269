"""Removes the namespaces of a run when the lab is done with them, or dead.

``python -m llmflow.lab.net.guardian PREFIX`` waits until its standard input ends. Only the lab
holds the other end of that pipe, and the kernel closes it however the lab ends.
"""

from __future__ import annotations

import signal
import sys
import time

from llmflow.errors import LabError
from llmflow.lab.net.namespaces import ask_real_time, remove
from llmflow.lab.net.processes import READY, say

GOODBYE = b"done"  # the lab has ended in good order
PRIORITY = 20  # above all of the lab: a program that never sleeps must not keep it from the CPU
GRACE = 0.5  # seconds: a command that a killed lab had just begun may still make a namespace


def main(prefix: str) -> None:
    """Wait for the lab to end, then leave nothing of it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ask_real_time(PRIORITY)
    say(READY)
    if sys.stdin.buffer.read() != GOODBYE:
        time.sleep(GRACE)
    remove(prefix)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except LabError as error:
        sys.exit(str(error))
