"""``llmflow synth``: small labelled captures for demo and tests."""

from __future__ import annotations

from pathlib import Path

import click

from llmflow.synth import SCENARIOS, write_scenario


@click.command("synth")
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for <name>.pcap and <name>.labels.csv.",
)
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same bytes.")
@click.option("--list", "listing", is_flag=True, help="List the scenarios and stop.")
def command(names: tuple[str, ...], output: Path | None, seed: int, listing: bool) -> None:
    """Make small labelled captures: LLM streams and look-alikes (needs scapy).

    Without NAME all scenarios are made.
    """
    if listing:
        width = max(map(len, SCENARIOS))
        for name, scenario in SCENARIOS.items():
            click.echo(f"{name:<{width}}  {scenario.summary}")
        return
    if output is None:
        raise click.UsageError("Say where to write the captures: -o DIR.")
    for name in dict.fromkeys(names or SCENARIOS):
        capture = write_scenario(name, output, seed)
        click.echo(f"{capture}  {capture.stat().st_size} bytes")
