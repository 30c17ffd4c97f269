"""Programs of the lab: what each must say about itself, and what the player reads."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from llmflow.errors import LabError
from llmflow.lab.kinds import kinds
from llmflow.lab.programs import missing, programs
from llmflow.lab.programs.config import Config
from llmflow.lab.script import OTHER

CONFIG = Config(
    t0=12.5,
    path="fibre",
    plan=Path("plan.jsonl"),
    log=Path("log.jsonl"),
    authority=Path("ca.pem"),
    servers={"ssh": "10.0.0.1"},
    shared={"ssh": Path("ssh")},
    gids={"ssh": 5001},
)
TOLD = json.dumps(asdict(CONFIG), default=str)


def test_names_are_unique_among_programs_and_kinds() -> None:
    assert not programs().keys() & kinds().keys()


def test_two_programs_do_not_want_the_same_port() -> None:
    ports = [port for program in programs().values() for port in program.ports]
    assert len(ports) == len(set(ports))


@pytest.mark.parametrize("name", programs())
def test_a_program_says_what_it_is_and_needs(name: str) -> None:
    program = programs()[name]
    assert program.name == name
    assert program.label in {OTHER, "llm-vpn"}
    assert program.category
    assert program.ports
    assert all(protocol in {"tcp", "udp"} for protocol, _ in program.ports)


def test_a_configuration_survives_its_way_to_the_player(tmp_path: Path) -> None:
    told = tmp_path / "config.json"
    told.write_text(TOLD)
    assert Config.from_json(told) == CONFIG


@pytest.mark.parametrize(
    "change",
    [{"t0": "soon"}, {"gids": ["ssh"]}, {"gids": {"ssh": None}}, {"plan": 3}, {"unheard": 1}],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    told = tmp_path / "config.json"
    told.write_text(json.dumps(json.loads(TOLD) | change))
    with pytest.raises(LabError):
        Config.from_json(told)


def test_what_a_program_lacks_is_named() -> None:
    program = replace(
        programs()["ssh"], needs=("no-such-program",), modules=("no_such_package.part", "json")
    )
    assert missing(program)[-2:] == ["no-such-program", "no_such_package"]
