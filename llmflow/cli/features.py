"""``llmflow features``: the feature columns of captures, and their definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from llmflow.cli.options import (
    FILE_FORMATS,
    captures_argument,
    finish,
    flow_options,
    output_options,
    reading_progress,
    run_metadata,
    say,
    take_flow_options,
    tunnel_option,
)

if TYPE_CHECKING:
    from llmflow.capture.dpkt_lane import Tunnels


class _ExportUnlessNamed(click.Group):
    """``features CAPTURE...`` is ``features export CAPTURE...``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["list", *args[1:]] if args[0] == "--list" else ["export", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ExportUnlessNamed)
def command() -> None:
    """Write the features of captures, or list their definitions.

    `llmflow features CAPTURE...` is short for `llmflow features export CAPTURE...`.
    """


@command.command()
@captures_argument
@output_options(FILE_FORMATS)
@click.option(
    "--level",
    type=click.Choice(["turn", "flow"]),
    default="turn",
    show_default=True,
    help="One row per turn, or per flow from its first downlink data to its last.",
)
@tunnel_option
@flow_options
def export(
    captures: tuple[str, ...],
    output: str | None,
    form: str | None,
    level: str,
    tunnels: Tunnels,
    **given: Any,  # noqa: ANN401
) -> None:
    """Write one row per turn (or flow) of CAPTURE....

    Turns and flows without downlink data have no features and no row. Nulls are nulls.
    """
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


@command.command("list")
@click.option("-f", "--format", "form", type=click.Choice(["table", "json", "csv"]),
              default="table", show_default=True, help="For people, or for programs.")  # fmt: skip
def list_features(form: str) -> None:
    """List name, unit, group, formula, null rule."""
    from llmflow.report.features import definitions, print_definitions

    if form == "table":
        print_definitions()
        return
    rows = definitions()
    if form == "json":
        import json

        say(json.dumps(rows, indent=1))
        return
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    say(text.getvalue().removesuffix("\n"))
