"""``llmflow classify``: label the flows of captures."""

from __future__ import annotations

from pathlib import Path
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
    take_flow_options,
    tunnel_option,
)

if TYPE_CHECKING:
    from llmflow.capture.dpkt_lane import Tunnels
    from llmflow.flows.stream import FlowStream
    from llmflow.learn.model import Model


@click.command()
@captures_argument
@output_options(("table", *FILE_FORMATS))
@click.option("--turns", is_flag=True, help="One row per turn instead of one per flow.")
@click.option("--limit", type=click.IntRange(min=0), default=25, show_default=True,
              help="Flows in the table for people.")  # fmt: skip
@click.option("--model", "model_path", type=click.Path(path_type=Path),
              help="Folder of a trained model instead of the shipped one.")  # fmt: skip
@tunnel_option
@flow_options
def command(
    captures: tuple[str, ...],
    output: str | None,
    form: str | None,
    turns: bool,
    limit: int,
    model_path: Path | None,
    tunnels: Tunnels,
    **given: Any,  # noqa: ANN401
) -> None:
    """Label the flows of CAPTURE... (pcap or pcapng; - is standard input).

    Several captures are read as one stream, in the order of their times. Without -o or -f a table
    is shown; the other formats write every flow (or, with --turns, every turn).

    Exit code 3 says that some input was damaged or of an unknown kind; the rest is written.
    """
    from llmflow.flows.stream import FlowStream
    from llmflow.learn.model import load_model
    from llmflow.report.writers import format_of

    options = take_flow_options(given)
    form = format_of(output, form) or ("jsonl" if output or turns else "table")
    if form == "table" and output not in (None, "-"):
        raise click.UsageError("a table goes to the terminal only; choose another -f for -o")
    if form == "table" and turns:
        raise click.UsageError("--turns has no table; choose another -f")
    model = load_model(model_path)
    with reading_progress(captures) as progress:
        stream = FlowStream(captures, options, tunnels, progress=progress)
        if form == "table":
            _show(stream, model, limit)
        else:
            _write(stream, model, output, form, turns=turns)
    finish(stream.account)


def _show(stream: FlowStream, model: Model, limit: int) -> None:
    from llmflow.engine.line import classify
    from llmflow.report.terminal import Summary

    summary = Summary(limit)
    for results in classify(stream, model):
        summary.add(results.flows)
    summary.print()


def _write(stream: FlowStream, model: Model, output: str | None, form: str, *, turns: bool) -> None:
    from llmflow.engine.line import classify
    from llmflow.report.tables import FLOW_SCHEMA, TURN_SCHEMA
    from llmflow.report.writers import open_output, open_table

    with open_output(output, stream.captures) as sink:
        writer = open_table(sink, form, TURN_SCHEMA if turns else FLOW_SCHEMA)
        for results in classify(stream, model):
            writer.write(results.turns if turns else results.flows)
        writer.close(run_metadata(stream, model=model.model_id))
