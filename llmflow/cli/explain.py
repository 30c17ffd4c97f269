"""``llmflow explain``: one flow as a picture, a page, or a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmflow.cli.options import (
    captures_argument,
    finish,
    flow_options,
    reading_progress,
    take_flow_options,
    tunnel_option,
    workers_option,
)

if TYPE_CHECKING:
    from llmflow.capture.dpkt_lane import Tunnels
    from llmflow.flows.batch import FlowOptions
    from llmflow.learn.model import Model


@click.command()
@captures_argument
@click.option("--flow", "prefix", metavar="ID",
              help="Id of the flow, or how it begins, as `llmflow classify` tells it; by default "
              "the flow with the highest score.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.svg|.png|.html",
              help="Draw a picture, or write a page, instead of a text.")  # fmt: skip
@click.option("--model", "model_path", type=click.Path(path_type=Path),
              help="Folder of a trained model instead of the shipped one.")  # fmt: skip
@tunnel_option
@flow_options
@workers_option
def command(
    captures: tuple[str, ...],
    prefix: str | None,
    output: Path | None,
    model_path: Path | None,
    tunnels: Tunnels,
    workers: int,
    **given: Any,  # noqa: ANN401
) -> None:
    """Show one flow of CAPTURE...: packets, turns, chunks, stalls, and what moved its score.

    Without --flow the captures are read twice: to find the flow, and to show it.
    """
    from llmflow.engine.pick import explain_flow, pick_flow
    from llmflow.flows.stream import FlowStream
    from llmflow.learn.model import load_model
    from llmflow.metadata.providers import load
    from llmflow.report.explain_page import PAGE, write_page
    from llmflow.report.explain_plot import draw_flow
    from llmflow.report.explain_text import print_explained
    from llmflow.report.plots import ENDINGS, check_plot
    from llmflow.report.writers import open_output

    if output:
        check_plot(output, (*ENDINGS, PAGE))
    options, note = take_flow_options(given), ""
    model = load_model(model_path)
    if prefix is None:
        prefix, note = _best(captures, options, tunnels, model, workers)
    with reading_progress(captures) as progress:
        stream = FlowStream(captures, options, tunnels, progress=progress, providers=load())
        told = explain_flow(pick_flow(stream, prefix), model)
    if output is None:
        print_explained(told, note)
    else:
        if note:
            click.echo(f"llmflow: {note}", err=True)
        with open_output(str(output), captures) as sink:
            if output.suffix == PAGE:
                write_page(told, captures, sink)
            else:
                draw_flow(told, sink, output.suffix[1:])
    finish(stream.account, stream.closed_early)


def _best(
    captures: tuple[str, ...], options: FlowOptions, tunnels: Tunnels, model: Model, workers: int
) -> tuple[str, str]:
    """The flow to show where none was asked for, and a sentence that says why."""
    from llmflow.capture.sources import is_pipe
    from llmflow.engine.pick import best_flow
    from llmflow.errors import FlowError
    from llmflow.flows.stream import FlowStream

    for name in captures:
        if is_pipe(name):
            raise FlowError("can be read only once", where=name, hint="name a flow with --flow")
    with reading_progress(captures) as progress:
        return best_flow(FlowStream(captures, options, tunnels, progress=progress), model, workers)
