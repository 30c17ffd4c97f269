"""The command line: a thin skin, one file per command, imported only when it is called."""

from __future__ import annotations

import errno
import importlib
import signal
import sys

import click

import llmflow
from llmflow.errors import LlmflowError

# name -> one-line help; written here so that `llmflow --help` imports no command.
COMMANDS = {
    "classify": "Label the flows of captures: LLM token stream or not.",
    "dataset": "Keep the features of labelled captures for training and evaluation.",
    "drift": "Compare new captures with a model's training set: when to retrain.",
    "evaluate": "Score the method on labelled captures, grouped by capture.",
    "explain": "Show one flow: its packets, turns, stalls, and what moved its score.",
    "features": "Write the features of captures, or list their definitions.",
    "inspect": "Show what is in captures, and what was not decoded.",
    "lab": "Make labelled traffic with real servers, clients and stacks.",
    "label": "Label captures, with where each label comes from.",
    "model": "Show, check and compare model folders.",
    "synth": "Make small labelled captures for demo and tests (needs scapy).",
    "train": "Train a model on labelled captures.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"llmflow.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        # Ended from outside like with Ctrl-C: files half written are taken away.
        for name in ("SIGTERM", "SIGHUP"):  # the latter not everywhere, and not with nohup
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, lambda number, _: sys.exit(128 + number))
        try:
            return super().invoke(ctx)
        except LlmflowError as error:
            click.echo(f"llmflow: {error}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:  # of a file that nobody below expected to fail
            if error.errno in (None, errno.EPIPE):
                raise
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"llmflow: {where}cannot be used ({error.strerror})", err=True)
            ctx.exit(LlmflowError.exit_code)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(llmflow.__version__, prog_name="llmflow")
def main() -> None:
    """Find LLM token streams in packet captures from their rhythm, never from their content.

    Exit codes: 0 done, 1 unusable input, 2 wrong usage, 3 finished but some input was damaged.
    """
