"""What holds for every access path and every sequence of packets."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from llmflow.lab.net.impairment import Direction, GilbertElliott, Link

shares = st.floats(0, 1)
times = st.floats(0, 0.2)
directions = st.builds(
    Direction,
    delay_s=times,
    jitter_s=times,
    loss=shares,
    burst=st.none() | st.builds(GilbertElliott, shares, shares, shares, shares),
    reorder=shares,
    duplicate=shares,
    rate_bps=st.just(0) | st.floats(1e4, 1e9),
    queue_bytes=st.integers(0, 10_000),
)
# Gaps in ns and sizes.
offers = st.lists(st.tuples(st.integers(0, 50_000_000), st.integers(1, 9000)), max_size=60)


def releases(link: Link, packets: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    clock = accumulate(gap for gap, _ in packets)
    return [link.offer(now, size) for now, (_, size) in zip(clock, packets, strict=True)]


@given(directions, offers, st.integers(0, 99))
def test_every_packet_is_accounted_for_and_none_leaves_early(
    direction: Direction, packets: list[tuple[int, int]], seed: int
) -> None:
    """Counters say where packets went; seed and offers decide everything."""
    link = Link(direction, seed)
    found = releases(link, packets)
    assert found == releases(Link(direction, seed), packets)
    assert link.lost + link.queue_drops == found.count(())
    assert link.duplicated == sum(len(times) == 2 for times in found)
    earliest = int(direction.delay_s * 1e9 * (0.2 if direction.reorder else 1)) - 1
    clock = accumulate(gap for gap, _ in packets)
    for now, times in zip(clock, found, strict=True):
        assert all(time >= now + earliest for time in times)


@given(directions, offers)
def test_order_is_kept_but_for_packets_counted_as_reordered(
    direction: Direction, packets: list[tuple[int, int]]
) -> None:
    """Jitter alone never lets a packet overtake another one."""
    link = Link(direction, seed=1)
    left = [times[0] for times in releases(link, packets) if times]
    latest = [0, *accumulate(left, max)]
    assert link.reordered == sum(time < last for time, last in zip(left, latest, strict=False))
    if not direction.reorder:
        assert left == sorted(left)


@given(st.floats(1e4, 1e8), st.integers(0, 20_000), offers)
def test_a_rate_limited_path_is_never_faster_than_its_rate(
    rate: float, queue: int, packets: list[tuple[int, int]]
) -> None:
    """Two packets in a row are apart by at least the time to send the second one."""
    found = releases(Link(Direction(rate_bps=rate, queue_bytes=queue), seed=1), packets)
    last = 0
    for (_, size), times in zip(packets, found, strict=True):
        if times:
            assert times[0] - last >= int(size * 8e9 / rate)
            last = times[0]
