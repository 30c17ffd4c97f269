"""When somebody on the telephone speaks, and what it sounds like."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np
from numpy.typing import NDArray

# Mean talk spurt and pause of a conversation, seconds: ITU-T P.59 (1993), table 1.
SPURT, PAUSE = 1.004, 1.587


def speaking(rng: Random, step: float) -> Iterator[bool]:
    """Whether one party speaks, every ``step`` seconds for ever."""
    speaks = rng.random() < SPURT / (SPURT + PAUSE)
    while True:
        length = rng.expovariate(1 / (SPURT if speaks else PAUSE))
        for _ in range(max(1, round(length / step))):
            yield speaks
        speaks = not speaks


def noise(rng: Random, speaks: bool, count: int) -> NDArray[np.int16]:
    """Samples of noise as loud and as changing as syllables, or of a quiet room."""
    level = 3000 * rng.betavariate(2, 3) if speaks else 20
    draw = np.random.default_rng(rng.getrandbits(32))
    # Neighbouring samples are alike, as low tones carry most of a voice.
    smooth = np.convolve(draw.normal(0, level, count + 7), np.ones(8) / 3, "valid")
    return np.clip(smooth, -32768, 32767).astype(np.int16)
