"""Access paths by name and from tables of a scenario."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from llmflow.errors import LabError
from llmflow.lab.net.impairment import GilbertElliott
from llmflow.lab.net.paths import PATHS, access_path, direction


def test_a_path_starts_from_another_one_and_changes_what_is_said() -> None:
    table = {"like": "wifi", "congestion": "bbr", "down": {"burst": {"enter": 0.1, "leave": 0.5}}}
    path = access_path("train", table)
    assert (path.name, path.congestion, path.up) == ("train", "bbr", PATHS["wifi"].up)
    assert path.down.burst == GilbertElliott(enter=0.1, leave=0.5)
    assert path.down.jitter_s == PATHS["wifi"].down.jitter_s


def test_a_path_of_its_own_has_no_impairment_but_what_is_said() -> None:
    path = access_path("own", {"up": {"delay_s": 1}})
    assert path.up.delay_s == 1
    assert asdict(path.down) == asdict(access_path("bare", {}).up)


@pytest.mark.parametrize("path", PATHS.values(), ids=str)
def test_directions_survive_the_way_to_the_bridge(path: Any) -> None:
    for one in (path.up, path.down):
        assert direction(json.loads(json.dumps(asdict(one)))) == one


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"dwon": {}}, "unknown key dwon"),
        ({"up": {"lost": 1}}, "path x, up: unknown key lost"),
        ({"up": {"loss": "1"}}, "loss is '1'"),
        ({"up": {"loss": True}}, "loss is True"),
        ({"up": {"loss": 2}}, "path x, up: loss is 2"),
        ({"up": {"burst": {"leave": 2}}}, "up, burst: leave is 2"),
        ({"up": {"burst": 1}}, "burst: this is no table"),
        ({"up": 3}, "up: this is no table"),
        ({"congestion": "vegas"}, "'vegas' is not known"),
        ({"like": "avian"}, "no access path 'avian'"),
        ({"like": ["wifi"]}, "no access path"),
        ({"congestion": []}, "is not known"),
        (["wifi"], "this is no table"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_place(table: Any, said: str) -> None:
    with pytest.raises(LabError, match=said):
        access_path("x", table)


@pytest.mark.parametrize("name", ["", "Home", "1st", "a" * 13, "a b", "../x"])
def test_a_name_that_cannot_be_an_interface_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="no name for an access path"):
        access_path(name, {})
