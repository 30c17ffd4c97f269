"""Packets through one direction of an access path, by a clock that is only a number."""

from __future__ import annotations

from itertools import pairwise

import pytest

from llmflow.errors import LabError
from llmflow.lab.net.impairment import Direction, GilbertElliott, Link

MS = 1_000_000


def offered(direction: Direction, count: int, gap: int = MS, size: int = 1000) -> Link:
    link = Link(direction, seed=1)
    for index in range(count):
        link.offer(index * gap, size)
    return link


def test_a_delay_alone_shifts_every_packet() -> None:
    link = Link(Direction(delay_s=0.02), seed=1)
    assert [link.offer(now * MS, 100) for now in (0, 1, 7)] == [(20 * MS,), (21 * MS,), (27 * MS,)]


def test_the_rate_spaces_packets_by_their_size() -> None:
    link = Link(Direction(rate_bps=8_000_000), seed=1)  # 1 byte a microsecond
    assert [link.offer(0, size) for size in (1000, 500)] == [(1 * MS,), (1_500_000,)]
    assert link.offer(10 * MS, 1000) == (11 * MS,), "an idle link saves up no credit"


def test_what_does_not_fit_the_queue_is_dropped_and_takes_no_time() -> None:
    link = Link(Direction(rate_bps=8_000_000, queue_bytes=2000), seed=1)
    assert [link.offer(0, 1000) for _ in range(4)] == [(1 * MS,), (2 * MS,), (), ()]
    assert link.offer(1 * MS, 1000) == (3 * MS,)
    assert (link.queue_drops, link.lost) == (2, 0)


def test_an_empty_queue_takes_a_packet_larger_than_itself() -> None:
    assert Link(Direction(rate_bps=8_000_000, queue_bytes=100), seed=1).offer(0, 1000) == (MS,)


def test_loss_is_about_as_often_as_asked() -> None:
    assert 400 < offered(Direction(loss=0.05), 10_000).lost < 600


def test_bursts_lose_packets_in_a_row_and_as_many_as_the_chain_says() -> None:
    burst = GilbertElliott(enter=0.01, leave=0.25)
    link = Link(Direction(burst=burst), seed=1)
    lost = [not link.offer(now, 100) for now in range(50_000)]
    runs = sum(not before and after for before, after in pairwise(lost))
    assert burst.mean_loss == pytest.approx(0.01 / 0.26)
    assert sum(lost) / len(lost) == pytest.approx(burst.mean_loss, rel=0.15)
    assert sum(lost) / runs == pytest.approx(4, rel=0.15)


def test_a_reordered_packet_overtakes() -> None:
    early = Link(Direction(delay_s=0.02, reorder=1), seed=1)
    assert early.offer(0, 100) == (4 * MS,)
    assert early.reordered == 0, "nothing was there to be overtaken"
    mixed = Link(Direction(delay_s=0.02, reorder=0.1), seed=1)
    releases = [mixed.offer(now * MS, 100)[0] for now in range(1000)]
    overtaken = sum(release < max(releases[:n], default=0) for n, release in enumerate(releases))
    assert mixed.reordered == overtaken
    assert 70 < overtaken < 130


def test_a_duplicate_arrives_with_its_original() -> None:
    link = Link(Direction(delay_s=0.02, duplicate=1), seed=1)
    assert link.offer(0, 100) == (20 * MS, 20 * MS)
    assert link.duplicated == 1


@pytest.mark.parametrize(
    "values",
    [{"loss": 1.1}, {"delay_s": -1}, {"jitter_s": float("nan")}, {"rate_bps": float("inf")}],
)
def test_a_value_out_of_range_is_refused_by_name(values: dict[str, float]) -> None:
    with pytest.raises(LabError, match=next(iter(values))):
        Direction(**values)  # type: ignore[arg-type]
