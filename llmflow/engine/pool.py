"""Work spread over processes, with results in order."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_FEW = 8  # items that are sooner done here than a process has started


def ordered(function: Callable[[T], R], items: Iterable[T], workers: int) -> Generator[R]:
    """Apply a function to items, in several processes where there are many items.

    Results come in the order of the items, so that they do not depend on the number of processes.
    At most ``workers + 1`` items are under way, which bounds memory.

    Parameters
    ----------
    function : callable
        Picklable, as are its argument and its result.
    items : iterable
        Taken in this process.
    workers : int
        Processes that may be busy, this one included.
    """
    rest = iter(items)
    front = list(itertools.islice(rest, _FEW if workers > 1 else 0))
    items = itertools.chain(front, rest)
    if len(front) < _FEW:
        yield from map(function, items)
        return
    # Not forked: numpy's and Arrow's threads would not come along.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers - 1, context, initializer=_leave_signals)
    try:
        under_way: deque[Future[R]] = deque()
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_signals() -> None:
    """Ctrl-C is for the process that people talk to; it ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
