"""Scenarios: what is refused, and that plans follow from name and seed alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmflow.errors import LabError
from llmflow.lab.kinds import kinds
from llmflow.lab.scenario import FRONTS, PROGRAM, Scenario, matching, plan, read_scenario, shipped

GOOD = """
paths = ["fibre", "far"]
concurrency = 3

[path.far]
like = "lte"
down = { loss = 0.02 }

[[sessions]]
kinds = ["openai-*", "shell"]
each = 2
seconds = [3, 9]
"""


def scenario(folder: Path, text: str) -> Scenario:
    file = folder / "mine.toml"
    file.write_text(text)
    return read_scenario(file)


def test_every_shipped_scenario_can_be_planned() -> None:
    for name in shipped():
        sessions = plan(read_scenario(name), seed=1)
        assert sessions, name
        assert len({one.number for one in sessions}) == len(sessions)


def test_sessions_of_each_kind_on_each_path(tmp_path: Path) -> None:
    sessions = plan(scenario(tmp_path, GOOD), seed=1)
    names = [name for name in kinds() if name.startswith("openai-") or name == "shell"]
    for name in names:
        for path in ("fibre", "far"):
            assert sum(one.kind == name and one.path == path for one in sessions) == 2


def test_sessions_go_over_stacks_that_their_kind_knows(tmp_path: Path) -> None:
    for one in plan(scenario(tmp_path, GOOD), seed=3):
        if one.front != PROGRAM:
            assert one.transport in kinds()[one.kind].transports
            assert one.front in FRONTS[one.transport]


def test_no_more_sessions_at_a_time_than_allowed(tmp_path: Path) -> None:
    sessions = plan(scenario(tmp_path, GOOD), seed=1)
    begins_and_ends = [(one.start, 1) for one in sessions]
    begins_and_ends += [(one.start + one.seconds, -1) for one in sessions]
    open_ones = most = 0
    for _, step in sorted(begins_and_ends):
        open_ones += step
        most = max(most, open_ones)
    assert most == 3


def test_pieces_are_the_whole_once(tmp_path: Path) -> None:
    read = scenario(tmp_path, GOOD)
    whole = {(one.number, one.seed) for one in plan(read, seed=5)}
    pieces = [(one.number, one.seed) for k in (1, 2, 3) for one in plan(read, seed=5, piece=(k, 3))]
    assert len(pieces) == len(whole)
    assert set(pieces) == whole


def test_the_seed_decides(tmp_path: Path) -> None:
    read = scenario(tmp_path, GOOD)
    assert plan(read, seed=1) == plan(read, seed=1)
    assert plan(read, seed=1) != plan(read, seed=2)


def test_arrivals_spread_over_their_time(tmp_path: Path) -> None:
    text = GOOD.replace("concurrency = 3", "arrivals = 1000")
    starts = [one.start for one in plan(scenario(tmp_path, text), seed=1)]
    assert starts == sorted(starts)
    assert starts[-1] > 500


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("each = 2", "", "needs a number"),
        ("each = 2", "each = 2\ncount = 3", "needs a number"),
        ("each = 2", "each = 0", "needs a number"),
        ("[3, 9]", "[9, 3]", "two times"),
        ("[3, 9]", "[3]", "two times"),
        ('["openai-*", "shell"]', '["nothing-like-it"]', "no kind is called"),
        ('["openai-*", "shell"]', '"shell"', "no list of names"),
        ("concurrency = 3", "concurrency = 0", "concurrency"),
        ("concurrency = 3", "speed = 3", "unknown key speed"),
        ('paths = ["fibre", "far"]', 'paths = ["moon"]', "moon"),
        ('paths = ["fibre", "far"]', "paths = []", "paths"),
        ("each = 2", 'each = 2\npaths = ["lte"]', "lacks: lte"),
        ("each = 2", 'each = 2\ntransports = ["pigeon"]', "pigeon"),
        ("loss = 0.02", "loss = 2.0", "loss"),
        ("[[sessions]]", "[[sessions", "no TOML"),
        ("each = 2", "each = 200001", "to 200000"),
        ("concurrency = 3", "arrivals = inf", "at most a day"),
        ("concurrency = 3", 'offload = "yes"', "neither true nor false"),
        ('paths = ["fibre", "far"]', 'paths = ["fibre", "far", "far"]', "twice"),
        ('paths = ["fibre", "far"]', 'paths = ["fibre"]', "does not list far"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(LabError, match=said):
        scenario(tmp_path, GOOD.replace(old, new))


def test_sessions_are_tables(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no list of tables"):
        scenario(tmp_path, 'paths = ["fibre"]\nsessions = [1]')


def test_too_many_sessions_are_refused_before_they_are_drawn(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="more than 200000 sessions"):
        plan(scenario(tmp_path, GOOD.replace("each = 2", "each = 200000")), seed=1)


@pytest.mark.parametrize("pattern", ["*", "other:*", "llm:*", "*-drip"])
def test_wildcards_in_front_leave_probes_and_tunnels_out(pattern: str) -> None:
    apart = ("probe-", "wireguard-", "openvpn-")
    assert not [name for name in matching([pattern, "dns"]) if name.startswith(apart)]
    assert "probe-drip" in matching(["probe-*"])


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(LabError, match="smoke"):
        read_scenario("no-such-thing")


def test_a_block_that_leaves_no_transport_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("each = 2", 'each = 2\ntransports = ["udp"]')
    with pytest.raises(LabError, match="no such transport"):
        plan(scenario(tmp_path, text), seed=1)
