"""``llmflow features``: the feature columns of captures, or their definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from llmflow.cli.options import (
    FILE_FORMATS,
    finish,
    flow_options,
    output_options,
    reading_progress,
    run_metadata,
    take_flow_options,
    tunnel_option,
)

if TYPE_CHECKING:
    from llmflow.capture.dpkt_lane import Tunnels


@click.command()
@click.argument("captures", metavar="[CAPTURE...]", nargs=-1)
@output_options(FILE_FORMATS)
@click.option(
    "--level",
    type=click.Choice(["turn", "flow"]),
    default="turn",
    show_default=True,
    help="One row per turn, or per flow from its first downlink data to its last.",
)
@click.option("--list", "listing", is_flag=True, help="List the features' definitions and stop.")
@tunnel_option
@flow_options
def command(
    captures: tuple[str, ...],
    output: str | None,
    form: str | None,
    level: str,
    listing: bool,
    tunnels: Tunnels,
    **given: Any,  # noqa: ANN401
) -> None:
    """Write the features of all turns or flows of CAPTURE..., one row each.

    Turns and flows without downlink data have no features and no row. Nulls are nulls.
    """
    if listing:
        _list()
        return
    if not captures:
        raise click.UsageError("name captures, or ask for --list")

    from llmflow.flows.stream import FlowStream
    from llmflow.report.features import feature_schema, feature_table
    from llmflow.report.writers import format_of, open_output, open_table

    options = take_flow_options(given)
    form = format_of(output, form) or "jsonl"
    with reading_progress(captures) as progress, open_output(output, captures) as sink:
        stream = FlowStream(captures, options, tunnels, progress=progress)
        writer = open_table(sink, form, feature_schema())
        for step in stream.assemble():
            writer.write(feature_table(step.batch, step.data, step.turns, level))
        writer.close(run_metadata(stream))
    finish(stream.account, stream.closed_early)


def _list() -> None:
    from llmflow.features.extract import FEATURES, schema_hash

    for entry in FEATURES.values():
        click.echo(f"{entry.name}  [{entry.unit}, {entry.group}, version {entry.version}]")
        click.echo(f"    {entry.formula}")
        click.echo(f"    counts {entry.counts}; null: {entry.null}")
    click.echo(f"schema {schema_hash(FEATURES)}")
