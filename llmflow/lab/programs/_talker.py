"""Write lines for ever, as a log or a build does: what terminals and screens of the lab show."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from random import Random


def talker(rng: Random, gap: float, longest: int, target: str = "-") -> list[str]:
    """Command that writes lines of up to ``longest`` letters, on average ``gap`` seconds apart.

    ``target`` is a file, or - for the standard output.
    """
    seed = rng.randrange(10**6)
    return [sys.executable, str(Path(__file__)), target, str(seed), str(gap), str(longest)]


def _talk(target: str, seed: str, gap: str, longest: str) -> None:
    rng = Random(seed)
    with Path("/dev/stdout" if target == "-" else target).open("a", buffering=1) as out:
        while True:
            letters = rng.choices("abcdefghij klmno", k=rng.randint(1, int(longest)))
            print("".join(letters), file=out)
            time.sleep(rng.expovariate(1 / float(gap)))


if __name__ == "__main__":
    _talk(*sys.argv[1:])
