"""``llmflow lab``: labelled traffic from real servers and clients over real stacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from llmflow.cli.options import PARTIAL, say
from llmflow.cli.training import talk

if TYPE_CHECKING:
    from llmflow.lab.verify import Check

_MARKS = {True: "ok", False: "NO", None: "-"}


class _Piece(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4 only
    """One of several pieces, like 2/5."""

    name = "k/n"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Refuse what is no piece of a whole."""
        part, _, whole = value.partition("/")
        if not (part.isdecimal() and whole.isdecimal() and 1 <= int(part) <= int(whole) <= 1000):  # noqa: PLR2004
            self.fail(f"{value!r} is no piece; write it like 2/5", param, ctx)
        return int(part), int(whole)


@click.group("lab")
def command() -> None:
    """Make labelled traffic: real servers, clients and stacks between network namespaces."""


@command.command("run")
@click.argument("scenario")
@click.option("-o", "--output", "folder", required=True, metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path),
              help="Folder of the run; it must not hold one.")  # fmt: skip
@click.option("--seed", default=1, show_default=True, help="The same seed plans the same sessions.")
@click.option("--piece", type=_Piece(), default="1/1", show_default=True,
              help="Play only this piece of the scenario, like 2/5.")  # fmt: skip
@click.option("--virtual", is_flag=True,
              help="HTTP/3 sessions only, in virtual time: no root, hours in minutes.")  # fmt: skip
def run(scenario: str, folder: Path, seed: int, piece: tuple[int, int], virtual: bool) -> None:
    """Play SCENARIO (a name of `lab list`, or a TOML file) and label what was captured.

    Writes capture.pcapng, flows.jsonl (connections with labels), requests.jsonl (what was asked,
    and when each piece was due, sent and seen), plan.jsonl, keys.log and report.json.
    """
    from llmflow.lab.run import run_lab, run_virtual_lab
    from llmflow.lab.scenario import read_scenario

    play = run_virtual_lab if virtual else run_lab
    report = play(read_scenario(scenario), folder, seed=seed, piece=piece, talk=talk)
    counts = ", ".join(f"{count} {label}" for label, count in sorted(report["labels"].items()))
    say(f"{folder}: {report['packets']} packets; flows: {counts}")
    if report["lost"] or report["rejected"]:
        click.echo(
            f"llmflow: {len(report['lost'])} connections not captured, "
            f"{len(report['rejected'])} sessions rejected for late writes",
            err=True,
        )


@command.command("verify")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def verify_run(folder: Path) -> None:
    """Prove the labels of a run: joined, agreed on, confirmed by decryption (needs tshark).

    Exit code 3 says that something does not agree.
    """
    from llmflow.lab.verify import verify

    _finish(verify(folder))


@command.command("doctor")
def doctor() -> None:
    """Say what this machine lacks for the lab, and how to install it.

    Exit code 3 says that something is missing.
    """
    from llmflow.lab.net.doctor import checks

    found = checks()
    width = max(len(check.name) for check in found)
    for check in found:
        missing = f"needed for {check.needed_for}; {check.fix}".rstrip("; ")
        say(f"{_MARKS[check.ok]:<3} {check.name:<{width}}  {check.detail if check.ok else missing}")
    if any(check.required and not check.ok for check in found):
        click.get_current_context().exit(PARTIAL)


@command.command("list")
@click.option("--kinds", "show_kinds", is_flag=True, help="List the kinds of traffic instead.")
def list_scenarios(show_kinds: bool) -> None:
    """List the scenarios, or the kinds of traffic that scenarios are made of."""
    from llmflow.lab.kinds import kinds
    from llmflow.lab.programs import programs
    from llmflow.lab.scenario import read_scenario, shipped

    if not show_kinds:
        for name in shipped():
            say(f"{name:<10}  {read_scenario(name).summary}")
        return
    rows = [
        (kind.name, kind.label, kind.category, " ".join((*kind.transports, *kind.clients)))
        for kind in kinds().values()
    ]
    rows += [(one.name, one.label, one.category, "program") for one in programs().values()]
    for row in sorted(rows):
        say("{:<24} {:<22} {:<16} {}".format(*row))


def _finish(checks: list[Check]) -> None:
    for check in checks:
        say(f"{_MARKS[check.ok]:<3} {check.name}: {check.detail}")
    if any(check.ok is False for check in checks):
        click.get_current_context().exit(PARTIAL)
