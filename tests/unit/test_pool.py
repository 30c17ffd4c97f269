"""Several threads: the same results in the same order, and nothing left behind."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmflow.engine.line import classify
from llmflow.engine.pool import ordered
from llmflow.flows import assemble
from llmflow.flows.stream import FlowStream
from llmflow.learn.model import load_model

MIXED = Path(__file__).parents[2] / "pcaps" / "mixed.pcap"


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("items", [0, 3, 9])
def test_results_come_in_order(workers: int, items: int) -> None:
    """However many threads, and however few items."""
    expected = [math.factorial(n) for n in range(items)]
    assert list(ordered(math.factorial, range(items), workers)) == expected


def test_errors_come_through_and_end_the_threads() -> None:
    """An error in a thread is that of the caller; none goes on behind its back."""
    with pytest.raises(ValueError, match="negative"):
        list(ordered(math.factorial, [1, 2, 3, 4, -1, 5], 2))
    assert threading.active_count() == 1


def test_items_are_taken_as_they_are_needed() -> None:
    """Memory stays bounded: the input is never far ahead of the results."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for n in range(40):
            taken.append(n)
            yield n

    results = ordered(math.factorial, items(), 2)
    assert next(results) == 1
    assert len(taken) <= 5
    results.close()
    assert threading.active_count() == 1


def test_labels_do_not_depend_on_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small batches, labelled here or in another thread: equal tables."""
    monkeypatch.setattr(assemble, "_BATCH", 500)
    model = load_model()
    one, two = (list(classify(FlowStream([str(MIXED)]), model, n)) for n in (1, 2))
    assert len(one) > 2
    assert all(
        a.flows.equals(b.flows) and a.turns.equals(b.turns) for a, b in zip(one, two, strict=True)
    )
