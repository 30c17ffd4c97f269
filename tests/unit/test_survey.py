"""The counts of `inspect` against a slow, obvious count."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from llmflow.capture import survey as room
from llmflow.capture.account import PacketAccount
from llmflow.capture.columns import PORTED
from llmflow.capture.reader import read_packets
from llmflow.capture.survey import Survey, survey
from tests.builders import SECOND, START, ethernet, frame, ipv4, pcap, tcp

PCAPS = sorted((Path(__file__).parents[2] / "pcaps").glob("*.pcap"))


def facts(found: Survey) -> tuple[object, ...]:
    return (
        found.account.packets, found.account.ip_packets, found.first, found.last, found.cut,
        found.above_mtu, found.late, found.step_back, found.tunnels, found.with_ports,
        found.inner.count(), found.outer.count(),
    )  # fmt: skip


@pytest.mark.parametrize("path", PCAPS, ids=lambda path: path.stem)
def test_counts_are_those_of_a_dictionary(path: Path) -> None:
    """Flows, those with ports, and those seen one way, counted packet by packet."""
    directions: dict[object, set[bool]] = defaultdict(set)
    times: list[int] = []
    for packets in read_packets([path], PacketAccount()):
        for row in zip(*(column.tolist() for column in packets.columns()), strict=True):
            p = dict(zip(packets.names(), row, strict=True))
            ends = [tuple(p[f"{end}_{part}"] for part in ("hi", "lo", "port"))
                    for end in ("src", "dst")]  # fmt: skip
            directions[p["protocol"], *sorted(ends)].add(ends[0] <= ends[1])
            times.append(p["time"])
    ported = {key: seen for key, seen in directions.items() if key[0] in PORTED}  # type: ignore[index]
    found = survey([path])
    one_way = sum(len(seen) == 1 for seen in ported.values())
    assert found.inner.count() == (len(directions), len(ported), one_way)
    assert (found.first, found.last) == (min(times), max(times))


def test_blocks_and_merging_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the captures are read and whenever distinct rows are merged."""
    whole = facts(survey(PCAPS[:4]))
    monkeypatch.setattr(room, "_MERGE_ROWS", 3)
    assert facts(survey(PCAPS[:4], block_bytes=5000)) == whole


def test_what_biases_the_features_is_counted(tmp_path: Path) -> None:
    """Snaplen, packets above the MTU, steps back in time: by hand, whatever the blocks."""
    largest, larger = frame(bytes(1460)), frame(bytes(1461))
    inside = ethernet(ipv4(ipv4(tcp(bytes(1450))), protocol=4))  # only the outer one is too long
    arp = ethernet(bytes(1600), ethertype=0x0806)
    times = [5, 3, 4, 9, 2]
    frames = [largest, larger, inside, arp, frame()]
    (tmp_path / "capture").write_bytes(
        pcap([(START + t * SECOND, f) for t, f in zip(times, frames, strict=True)], snaplen=200)
    )
    for block_bytes in (1, 300, 1 << 20):
        found = survey([tmp_path / "capture"], block_bytes=block_bytes)
        assert (found.cut, found.above_mtu) == (4, 2)
        assert (found.late, found.step_back) == (2, 7 * SECOND)
        assert (found.first, found.last) == (START + 2 * SECOND, START + 9 * SECOND)
        assert found.tunnels == {"ip-in-ip": 1}
        assert (found.account.packets, found.account.ip_packets) == (5, 4)
        assert found.with_ports == 4
        assert (found.inner.count(), found.outer.count()) == ((1, 1, 1), (2, 1, 1))
