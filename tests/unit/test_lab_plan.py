from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from llmflow.errors import LabError
from llmflow.lab.clients.config import ClientConfig, Endpoint
from llmflow.lab.plan import read_plan, write_plan
from llmflow.lab.script import Session
from llmflow.lab.servers.book import Book
from llmflow.lab.servers.config import ServerConfig

ONE = Session(7, "probe-drip", "h1", "uvicorn", "httpx", "fibre", 0.5, 4.0, 11)
OTHER = Session(8, "probe-echo", "tls", "asyncio", "asyncio", "lte", 0.1, 4.0, 12)


def test_a_plan_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan", [ONE, OTHER])
    assert read_plan(tmp_path / "plan") == (ONE, OTHER)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        json.dumps({**asdict(ONE), "number": "7"}),
        json.dumps({**asdict(ONE), "number": -1}),
        json.dumps({**asdict(ONE), "colour": "red"}),
        json.dumps({key: value for key, value in asdict(ONE).items() if key != "seed"}),
        json.dumps(asdict(ONE)) + "\n" + json.dumps(asdict(ONE)),
    ],
)
def test_what_is_no_plan_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan").write_text(text)
    with pytest.raises(LabError, match=r"plan, line [12]: "):
        read_plan(tmp_path / "plan")


def test_a_plan_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be read"):
        read_plan(tmp_path / "plan")


def test_configurations_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "config"
    client = {"plan": "p", "path": "fibre", "t0": 1.5, "ca": "c", "log": "l", "keys": "k"}
    client |= {"folder": "f", "servers": {"uvicorn": {"address": "10.0.0.1", "name": "a.example"}}}
    path.write_text(json.dumps(client))
    assert ClientConfig.from_json(path).servers == {"uvicorn": Endpoint("10.0.0.1", "a.example")}
    for wrong in ({**client, "servers": []}, {**client, "servers": {"a": 1}}, {**client, "t": 1}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(LabError):
            ClientConfig.from_json(path)
    path.write_text("{}")
    with pytest.raises(LabError, match="missing"):
        ServerConfig.from_json(path)


def test_a_book_knows_the_sessions_of_its_front_only(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan", [ONE, OTHER])
    book = Book(tmp_path / "plan", "uvicorn")
    book.prepare()
    assert len(book.exchanges(7)) == 2
    with pytest.raises(KeyError):
        book.play(8, 0, ("10.0.0.2", 5))
    for index in (-1, 2):
        with pytest.raises(IndexError):
            book.play(7, index, ("10.0.0.2", 5))


def test_a_book_notes_what_was_written_of_a_reply(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan", [ONE])
    book = Book(tmp_path / "plan", "uvicorn")
    played = book.play(7, 1, ("10.0.0.2", 5))
    played.start, played.sent = 100.0, [100.5, 100.6]
    book.write(tmp_path / "log")
    record = json.loads((tmp_path / "log").read_text())
    down = book.exchanges(7)[1].down
    assert (record["number"], record["exchange"], record["client_port"]) == (7, 1, 5)
    assert record["sent"] == [100.5, 100.6]
    assert record["due"] == [pytest.approx(100 + write.due) for write in down[:2]]
    assert record["size"] == [len(write.data) for write in down[:2]]
