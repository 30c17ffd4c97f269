"""Work spread over threads, with results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 3  # items for each other thread: batches of flows come in bursts


def ordered(function: Callable[[T], R], items: Iterable[T], workers: int) -> Generator[R]:
    """Apply a function to items, in other threads if there may be several.

    Results come in the order of the items, so that they do not depend on the number of threads, and
    only so many items are under way, which bounds memory. Threads, because numpy lets go of
    Python's lock while it works on large arrays, and other processes would need copies.

    Parameters
    ----------
    function : callable
    items : iterable
        Taken in this thread.
    workers : int
        Threads that may be busy, this one included.
    """
    if workers == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers - 1)
    try:
        under_way: deque[Future[R]] = deque()
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > _AHEAD * (workers - 1):
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
