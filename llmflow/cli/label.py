"""``llmflow label``: labels with provenance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from llmflow.cli.options import (
    PARTIAL,
    counting,
    flow_options,
    labels_argument,
    say,
    take_flow_options,
)

if TYPE_CHECKING:
    from llmflow.learn.labels import LabelledCapture

F = TypeVar("F", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path)


def _ends(command: F) -> F:
    """-o."""
    return click.option("-o", "--output", required=True, type=_PATH, metavar="FILE.csv",
                        help="Its captures are named relative to it.")(command)  # fmt: skip


captures_argument = click.argument(
    "captures", metavar="CAPTURE...", nargs=-1, required=True, type=_PATH
)


@click.group()
def command() -> None:
    """Label captures, with where each label comes from and how sure it is.

    All write one kind of manifest, which `llmflow train`, `evaluate` and `dataset build` read.
    """


@command.command()
@captures_argument
@_ends
@click.option("--providers", "provider_files", multiple=True, metavar="FILE", type=_PATH,
              help="Your own list of services, which goes before the shipped one.")  # fmt: skip
@flow_options
def names(
    captures: tuple[Path, ...],
    output: Path,
    provider_files: tuple[Path, ...],
    **given: Any,  # noqa: ANN401
) -> None:
    """Label connections by the names they say in clear: TLS and QUIC hellos, DNS answers.

    Services that stream text are `llm-stream` of low confidence (a page of the service has the
    same name), what may belong to a service is `unknown`. Connections without a name get no label.
    """
    from llmflow.learn.names import label_by_names
    from llmflow.metadata.providers import load

    with counting("names", len(captures)) as advance:
        found = label_by_names(
            captures, load(provider_files), take_flow_options(given), advance, doubtful=True
        )
    _write(found, output)


@command.command()
@captures_argument
@_ends
@click.option("--keys", metavar="FILE", type=_PATH,
              help="TLS secrets (SSLKEYLOGFILE), if not in the captures.")  # fmt: skip
def keys(captures: tuple[Path, ...], output: Path, keys: Path | None) -> None:
    """Label connections by the HTTP inside, which tshark decrypts; no text is kept.

    LLM endpoints that answer with a stream are `llm-stream`, those that do not
    `llm-service-no-stream`, other HTTP is `other`. What cannot be decrypted gets no label.
    """
    from llmflow.learn.keys import label_by_keys

    found = []
    with counting("captures", len(captures)) as advance:
        for capture in captures:
            found.append(label_by_keys(capture, keys))
            advance()
    _write(found, output)


@command.command()
@labels_argument()
@_ends
def merge(labels: tuple[Path, ...], output: Path) -> None:
    """Bring LABELS... (manifests, folders named after labels, lab runs) into one manifest.

    Where they differ on a connection, all claims are told on standard error, the connection
    becomes `unknown`, and the exit code is 3.
    """
    from llmflow.learn.labels import read_labels
    from llmflow.learn.provenance import merge_labels

    found, conflicts = merge_labels([(str(path), read_labels([path])) for path in labels])
    for conflict in conflicts:
        click.echo(f"llmflow: conflict: {conflict}", err=True)
    _write(found, output)
    if conflicts:
        click.get_current_context().exit(PARTIAL)


@command.command()
@labels_argument()
@click.option("--capture", metavar="TEXT", help="Only captures whose path has this in it.")
@click.option("--flow", metavar="TEXT",
              help="Only connections with this in them, such as 192.0.2.10:50397.")  # fmt: skip
def explain(labels: tuple[Path, ...], capture: str | None, flow: str | None) -> None:
    """Say why each connection of LABELS... has its label."""
    from llmflow.errors import LabelError
    from llmflow.learn.labels import read_labels
    from llmflow.learn.provenance import describe, flow_text, labels_of

    lines = [
        f"{found.path}\t{flow_text(key) or 'all other connections'}\t{describe(label)}"
        for source in labels
        for found in read_labels([source])
        for key, label in labels_of(found)
        if (capture or "") in str(found.path) and (key is None or (flow or "") in flow_text(key))
    ]
    if not lines:
        raise LabelError("no label is of such a capture or flow", hint="see `llmflow label merge`")
    say("\n".join(lines))


def _write(found: Sequence[LabelledCapture], output: Path) -> None:
    """Write the manifest, and count its labels."""
    from collections import Counter

    from llmflow.errors import LabelError
    from llmflow.learn.provenance import labels_of, manifest_text
    from llmflow.report.writers import open_output

    counts = Counter(label.name for capture in found for _, label in labels_of(capture))
    if not counts:
        raise LabelError("no connection got a label", hint="check the captures, and the keys")
    with open_output(str(output)) as sink:
        sink.write(manifest_text(found, output.parent).encode())
    if str(output) != "-":
        say("\n".join(f"{name}\t{number}" for name, number in sorted(counts.items())))
