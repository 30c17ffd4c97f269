"""Programs of the lab: what each must say about itself, and what the player reads."""

import json
from pathlib import Path

import pytest

from llmflow.errors import LlmflowError
from llmflow.lab.kinds import kinds
from llmflow.lab.programs import programs
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
    assert program.needs
    assert program.ports
    assert all(protocol in {"tcp", "udp"} for protocol, _ in program.ports)


def test_a_configuration_survives_its_way_to_the_player() -> None:
    assert Config.from_json(CONFIG.to_json()) == CONFIG


@pytest.mark.parametrize(
    "change", [{"t0": "soon"}, {"gids": ["ssh"]}, {"gids": {"ssh": None}}, {"unheard": 1}]
)
def test_a_wrong_configuration_is_refused(change: dict[str, object]) -> None:
    values = json.loads(CONFIG.to_json()) | change
    with pytest.raises(LlmflowError, match="not a configuration"):
        Config.from_json(json.dumps(values))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"t0": 1}'])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(LlmflowError, match="not a configuration"):
        Config.from_json(text)
