"""What an access path does to packets, as logic without a clock or a socket.

Each packet meets, in this order, a drop-tail queue that drains at the rate of the path, loss, and
the delay behind it. Delays keep the order of packets, but for those picked for reordering.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from llmflow.errors import LabError

SECOND = 1_000_000_000  # ns
SLOWEST = 6  # times the mean jitter; an exponential tail would stall the packets behind it
SHORTCUT = 0.2  # of the delay, for reordered packets


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """Loss in bursts: a chain with a good and a bad state, one step a packet.

    Parameters
    ----------
    enter, leave : float
        Probability to go from good to bad, and back; a burst lasts ``1 / leave`` packets on
        average.
    loss_bad, loss_good : float
        Probability of loss in either state.

    References
    ----------
    E. O. Elliott, "Estimates of Error Rates for Codes on Burst-Noise Channels", Bell System
    Technical Journal 42 (1963).
    """

    enter: float
    leave: float
    loss_bad: float = 1.0
    loss_good: float = 0.0

    def __post_init__(self) -> None:
        for name in ("enter", "leave", "loss_bad", "loss_good"):
            _check(name, getattr(self, name), 1)

    @property
    def mean_loss(self) -> float:
        """Share of packets lost in the long run."""
        if not self.enter:
            return self.loss_good
        bad = self.enter / (self.enter + self.leave)
        return bad * self.loss_bad + (1 - bad) * self.loss_good


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of an access path.

    Parameters
    ----------
    delay_s : float
        Propagation delay, seconds, at most 10.
    jitter_s : float
        Mean of the exponential delay on top, seconds; capped at six times the mean.
    loss : float
        Probability that a packet is lost, each by itself.
    burst : GilbertElliott, optional
        Loss in bursts, beside ``loss``.
    reorder : float
        Probability that a packet leaves after a fifth of the delay and may overtake others.
    duplicate : float
        Probability that a packet arrives twice.
    rate_bps : float
        Bits per second; 0: no limit.
    queue_bytes : int
        Room in front of the rate limit, the packet being sent included; what does not fit is
        dropped. An empty queue takes a packet of any size.

    Raises
    ------
    LabError
        If a value is out of range.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    burst: GilbertElliott | None = None
    reorder: float = 0.0
    duplicate: float = 0.0
    rate_bps: float = 0.0
    queue_bytes: int = 150_000

    def __post_init__(self) -> None:
        for name in ("loss", "reorder", "duplicate"):
            _check(name, getattr(self, name), 1)
        for name in ("delay_s", "jitter_s"):
            _check(name, getattr(self, name), 10)
        for name in ("rate_bps", "queue_bytes"):
            _check(name, getattr(self, name), 1e12)


class Link:
    """One direction at work.

    The same seed and the same calls give the same release times.

    Parameters
    ----------
    direction : Direction
        What it does to packets.
    seed : int
        Of everything drawn.

    Attributes
    ----------
    lost, queue_drops : int
        Packets lost on the way, and those that found the queue full.
    reordered : int
        Packets that overtook another one.
    duplicated : int
        Packets that arrive twice.
    """

    def __init__(self, direction: Direction, seed: int) -> None:
        self.direction = direction
        self.lost = self.queue_drops = self.reordered = self.duplicated = 0
        self._random = Random(seed)
        self._delay = round(direction.delay_s * SECOND)
        self._byte = 8 * SECOND / direction.rate_bps if direction.rate_bps else 0.0  # ns
        self._busy = 0  # until when the queue drains
        self._last = 0  # latest release so far
        self._bad = False

    def offer(self, now_ns: int, size: int) -> tuple[int, ...]:
        """Take a packet.

        Parameters
        ----------
        now_ns : int
            When it came; never less than in the call before.
        size : int
            Its bytes.

        Returns
        -------
        tuple of int
            When it is released, ns: nothing if it was dropped, two times if it was duplicated.
        """
        sent = now_ns
        if self._byte:
            waiting = max(0, self._busy - now_ns)
            if waiting and waiting / self._byte + size > self.direction.queue_bytes:
                self.queue_drops += 1
                return ()
            sent += waiting + math.ceil(size * self._byte)
            self._busy = sent
        if self._loses():
            self.lost += 1
            return ()
        release = self._release(sent)
        if self._draws(self.direction.duplicate):
            self.duplicated += 1
            return release, release
        return (release,)

    def _draws(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability

    def _loses(self) -> bool:
        lost = self._draws(self.direction.loss)
        burst = self.direction.burst
        if burst is None:
            return lost
        if self._draws(burst.leave if self._bad else burst.enter):
            self._bad = not self._bad
        return self._draws(burst.loss_bad if self._bad else burst.loss_good) or lost

    def _release(self, sent: int) -> int:
        if self._draws(self.direction.reorder):
            release = sent + round(SHORTCUT * self._delay)
            if release < self._last:
                self.reordered += 1
                return release
        else:
            release = sent + self._delay
            jitter = self.direction.jitter_s
            if jitter:
                slower = min(self._random.expovariate(1 / jitter), SLOWEST * jitter)
                release += round(slower * SECOND)
        self._last = max(self._last, release)
        return self._last


def _check(name: str, value: float, most: float) -> None:
    if not 0 <= value <= most:  # not a number fails too
        raise LabError(f"{name} is {value}", hint=f"give a number from 0 to {most:g}")
