"""Options that mean the same in every command, and what commands share at their ends."""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from llmflow.capture.account import PacketAccount
    from llmflow.flows.batch import FlowOptions
    from llmflow.flows.stream import FlowStream

F = TypeVar("F", bound=Callable[..., Any])

FILE_FORMATS = ("jsonl", "csv", "parquet", "arrow")  # those of report/writers, not imported here
PARTIAL = 3  # exit code: finished, with some input damaged or skipped
LEAST_MEMORY = 300 << 20  # what FlowOptions can keep to
_PROGRESS_BYTES = 8 << 20  # smaller inputs are done before a bar could help
_NOTES = 10

_TIMEOUTS = {
    "idle_timeout": ("Seconds of silence that end a flow.", 120.0),
    "active_timeout": ("Seconds after which a long flow is cut into slices.", 1800.0),
    "closed_timeout": ("Seconds of silence that end a flow after FIN or RST.", 10.0),
    "reorder": ("Seconds by which packets may be late.", 10.0),
}


class Finite(click.FloatRange):
    """A number in a range; NaN is none."""

    def convert(
        self,
        value: Any,  # noqa: ANN401 - as click has it
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Refuse NaN, which passes every comparison of a range."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("nan is not a number", param, ctx)
        return number


class Size(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4 only
    """Bytes, with K, M or G behind the number: powers of 1,024."""

    name = "size"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - as click has it
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int:
        """Refuse what is no size, or none that any machine has."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,15})([KMG]?)", str(value).strip(), re.ASCII | re.IGNORECASE)
        if not found:
            self.fail(f"{value!r} is no size; write it like 600M or 4G", param, ctx)
        size = int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2].upper()]
        if size < LEAST_MEMORY:
            self.fail(f"{value} is too little; give at least {LEAST_MEMORY >> 20}M", param, ctx)
        return size


def captures_argument(command: F) -> F:
    """CAPTURE…: files, or - for standard input."""
    return click.argument("captures", metavar="CAPTURE...", nargs=-1, required=True)(command)


def labels_argument(*, required: bool = True) -> Callable[[F], F]:
    """LABELS…: manifests or folders."""
    text, path = "LABELS..." if required else "[LABELS]...", click.Path(path_type=Path)
    return click.argument("labels", metavar=text, nargs=-1, required=required, type=path)


def flow_options(command: F) -> F:
    """When flows end."""
    for name, (text, default) in reversed(_TIMEOUTS.items()):
        command = click.option(
            f"--{name.replace('_', '-')}",
            type=Finite(min=0.001, max=1e6),
            default=default,
            show_default=True,
            help=text,
        )(command)
    return click.option(
        "--memory",
        type=Size(),
        default="4G",
        show_default=True,
        help="Memory to stay below; the flows that began first are closed early for it.",
    )(command)


def tunnel_option(command: F) -> F:
    """--tunnels."""
    return click.option(
        "--tunnels",
        type=click.Choice(["inner", "outer"]),
        default="inner",
        show_default=True,
        help="Flows of the innermost IP packets that can be decoded, or of the outermost.",
    )(command)


def workers_option(command: F) -> F:
    """--workers."""
    return click.option(
        "--workers",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Threads at work; does not change results.",
    )(command)


def output_options(formats: Sequence[str]) -> Callable[[F], F]:
    """-o and -f."""

    def add(command: F) -> F:
        command = click.option(
            "-f",
            "--format",
            "form",
            type=click.Choice(formats),
            help="Format; by default the ending of -o says it.",
        )(command)
        return click.option(
            "-o", "--output", metavar="FILE", help="Write here; - is standard output."
        )(command)

    return add


def take_flow_options(given: dict[str, Any]) -> FlowOptions:
    """Move the flow options out of a command's arguments."""
    from llmflow.flows.batch import FlowOptions

    return FlowOptions(**{field.name: given.pop(field.name) for field in fields(FlowOptions)})


def run_metadata(stream: FlowStream, **more: str) -> dict[str, str]:
    """What result files say about the run that made them."""
    import json

    import llmflow
    from llmflow.features.extract import FEATURES, schema_hash

    return {
        "llmflow.version": llmflow.__version__,
        "llmflow.feature_schema": schema_hash(FEATURES),
        "llmflow.options": json.dumps(
            {**asdict(stream.options), "tunnels": stream.tunnels}, sort_keys=True
        ),
        "llmflow.input": stream.input_digest,
        **{f"llmflow.{key}": value for key, value in more.items()},
    }


def _size(name: str) -> int:
    """Bytes of a regular file; 0 for what is none, or cannot be looked at: reading it says why."""
    try:
        return Path(name).stat().st_size if Path(name).is_file() else 0
    except OSError:
        return 0


@contextlib.contextmanager
def reading_progress(captures: Sequence[str]) -> Iterator[Callable[[int], None]]:
    """A bar on standard error for long work, where somebody looks."""
    sizes = [_size(name) for name in captures]
    if not sys.stderr.isatty() or sum(sizes) < _PROGRESS_BYTES:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    bar = Progress(
        BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True),
        transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("reading", total=sum(sizes))
        yield lambda done: bar.advance(task, done)


@contextlib.contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error that counts things, where somebody looks."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def say(text: str) -> None:
    """Write a text to standard output.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    from llmflow.report.output import standard_output

    with standard_output():
        click.echo(text)


def finish(account: PacketAccount, closed_early: int = 0, names_dropped: int = 0) -> None:
    """Say what was not decoded; end with exit code 3 if anything was damaged."""
    if closed_early:
        click.echo(
            f"llmflow: {closed_early} flows were closed early to stay below --memory", err=True
        )
    if names_dropped:
        click.echo(f"llmflow: {names_dropped} names were given up for want of memory", err=True)
    for note in account.notes[:_NOTES]:
        click.echo(f"llmflow: {note}", err=True)
    if account.places > _NOTES:
        click.echo(f"llmflow: and {account.places - _NOTES} more damaged places", err=True)
    if account.skipped:
        click.echo(f"llmflow: {account.summary()}", err=True)
    if account.damaged:
        click.get_current_context().exit(PARTIAL)
