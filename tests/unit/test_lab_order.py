from __future__ import annotations

import asyncio

import pytest

from llmflow.lab.clients.order import in_order
from llmflow.lab.script import Exchange

MAIN, BESIDE = Exchange(()), Exchange((), beside=True)


def starts(exchanges: list[Exchange], fails: int | None = None) -> list[str]:
    """What happened in which order; replies of mains take long enough for what is beside them."""
    said: list[str] = []

    async def run(index: int, exchange: Exchange, due: float) -> None:
        assert due > 0
        said.append(f"+{index}")
        if index == fails:
            raise ConnectionError
        for _ in range(1 if exchange.beside else 5):
            await asyncio.sleep(0)
        said.append(f"-{index}")

    try:
        asyncio.run(in_order(exchanges, run))
    except ConnectionError:
        said.append("failed")
    return said


def test_one_exchange_after_the_other() -> None:
    assert starts([MAIN, MAIN]) == ["+0", "-0", "+1", "-1"]


def test_what_is_beside_goes_on_during_the_exchange_before() -> None:
    said = starts([MAIN, BESIDE, BESIDE, MAIN])
    assert said.index("+1") < said.index("-0")
    assert said.index("+2") < said.index("-0")
    assert said.index("-0") < said.index("+3")


@pytest.mark.parametrize("exchanges", [[BESIDE, MAIN], [BESIDE, BESIDE]])
def test_what_is_beside_nothing_is_played_too(exchanges: list[Exchange]) -> None:
    assert {"-0", "-1"} <= set(starts(exchanges))


def test_a_failure_beside_harms_nothing_else() -> None:
    said = starts([MAIN, BESIDE, MAIN], fails=1)
    assert said[-1] == "-2"


def test_a_failure_ends_the_session() -> None:
    assert starts([MAIN, MAIN], fails=0) == ["+0", "failed"]
