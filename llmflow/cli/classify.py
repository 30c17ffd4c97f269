"""``llmflow classify``: label the flows of captures."""

from __future__ import annotations

from collections.abc import Iterator
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
    workers_option,
)

if TYPE_CHECKING:
    from llmflow.capture.dpkt_lane import Tunnels
    from llmflow.flows.stream import FlowStream
    from llmflow.learn.model import Model
    from llmflow.report.tables import Results


@click.command()
@captures_argument
@output_options(("table", *FILE_FORMATS))
@click.option("--turns", is_flag=True, help="One row per turn instead of one per flow.")
@click.option("--limit", type=click.IntRange(min=0), default=25, show_default=True,
              help="Flows in the table for people.")  # fmt: skip
@click.option("--model", "model_path", type=click.Path(path_type=Path),
              help="Folder of a trained model instead of the shipped one.")  # fmt: skip
@click.option("--providers", "provider_files", multiple=True, metavar="FILE",
              type=click.Path(path_type=Path),
              help="Your own list of services, which goes before the shipped one.")  # fmt: skip
@click.option("--no-names", is_flag=True,
              help="Do not look for names on the wire: no payload is opened.")  # fmt: skip
@tunnel_option
@flow_options
@workers_option
def command(
    captures: tuple[str, ...],
    output: str | None,
    form: str | None,
    turns: bool,
    limit: int,
    model_path: Path | None,
    provider_files: tuple[Path, ...],
    no_names: bool,
    tunnels: Tunnels,
    workers: int,
    **given: Any,  # noqa: ANN401
) -> None:
    """Label the flows of CAPTURE... (pcap or pcapng; - is standard input).

    Several captures are read as one stream, in the order of their times. Without -o or -f a table
    is shown; the other formats write every flow (or, with --turns, every turn).

    Exit code 3 says that some input was damaged or of an unknown kind; the rest is written.
    """
    from llmflow.engine.line import classify
    from llmflow.engine.memory import collect_rarely, return_large_arrays
    from llmflow.flows.stream import FlowStream
    from llmflow.learn.model import load_model
    from llmflow.metadata.providers import load
    from llmflow.report.writers import format_of

    options = take_flow_options(given)
    form = format_of(output, form) or ("jsonl" if output or turns else "table")
    if form == "table" and output not in (None, "-"):
        raise click.UsageError("a table goes to the terminal only; choose another -f for -o")
    if form == "table" and turns:
        raise click.UsageError("--turns has no table; choose another -f")
    if no_names and provider_files:
        raise click.UsageError("--no-names and --providers exclude each other")
    model = load_model(model_path)
    providers = None if no_names else load(provider_files)
    return_large_arrays()
    collect_rarely()
    with reading_progress(captures) as progress:
        stream = FlowStream(captures, options, tunnels, progress=progress, providers=providers)
        labelled = classify(stream, model, workers)
        if form == "table":
            _show(labelled, limit, names=not no_names)
        else:
            _write(labelled, stream, model, output, form, turns=turns)
    finish(stream.account, stream.closed_early, stream.names_dropped)


def _show(labelled: Iterator[Results], limit: int, *, names: bool) -> None:
    from llmflow.report.terminal import Summary

    summary = Summary(limit, names=names)
    for results in labelled:
        summary.add(results.flows)
    summary.print()


def _write(
    labelled: Iterator[Results],
    stream: FlowStream,
    model: Model,
    output: str | None,
    form: str,
    *,
    turns: bool,
) -> None:
    from llmflow.report.tables import FLOW_SCHEMA, TURN_SCHEMA
    from llmflow.report.writers import open_output, open_table

    with open_output(output, stream.captures) as sink:
        writer = open_table(sink, form, TURN_SCHEMA if turns else FLOW_SCHEMA)
        for results in labelled:
            writer.write(results.turns if turns else results.flows)
        writer.close(run_metadata(stream, model=model.model_id))
