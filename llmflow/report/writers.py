"""Result tables to files: JSON lines, CSV, Parquet, Arrow. A file appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa

from llmflow.errors import EndingError, OutputError
from llmflow.report.output import standard_output

FORMATS = ("jsonl", "csv", "parquet", "arrow")
# Parquet rows are gathered into groups of this size, so that batches leave no trace in the file.
_ROW_GROUP = 1 << 16


class TableWriter(Protocol):
    """Takes record batches; ``close`` finishes the file."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self, metadata: dict[str, str]) -> None: ...


class _JsonLines:
    """One JSON object per row; times as RFC 3339 text with nanoseconds."""

    def __init__(self, sink: IO[bytes], schema: pa.Schema) -> None:
        self._sink, self._schema = sink, schema

    def write(self, batch: pa.RecordBatch) -> None:
        import json  # noqa: PLC0415 - only this format needs it

        columns = [_plain(column).to_pylist() for column in batch.columns]
        names = self._schema.names
        lines = (
            json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False)
            for row in zip(*columns, strict=True)
        )
        self._sink.write("".join(f"{line}\n" for line in lines).encode())

    def close(self, metadata: dict[str, str]) -> None:
        """Nothing to add: JSON lines carry no metadata."""


class _Csv:
    """RFC 4180 with a header line; times as RFC 3339 text with nanoseconds."""

    def __init__(self, sink: IO[bytes], schema: pa.Schema) -> None:
        import pyarrow.csv as arrow_csv  # noqa: PLC0415 - only this format needs it

        text = pa.schema([(f.name, pa.string() if _is_time(f.type) else f.type) for f in schema])
        self._writer = arrow_csv.CSVWriter(sink, text)
        self._schema = text

    def write(self, batch: pa.RecordBatch) -> None:
        columns = [_plain(column) for column in batch.columns]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def close(self, metadata: dict[str, str]) -> None:
        self._writer.close()


class _Parquet:
    """Zstandard; metadata of the run in the file's key-value metadata."""

    def __init__(self, sink: IO[bytes], schema: pa.Schema) -> None:
        import pyarrow.parquet as arrow_parquet  # noqa: PLC0415 - only this format needs it

        self._writer = arrow_parquet.ParquetWriter(sink, schema, compression="zstd")
        self._schema, self._waiting, self._rows = schema, list[pa.RecordBatch](), 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self._rows += batch.num_rows
        if self._rows >= _ROW_GROUP:
            table = pa.Table.from_batches(self._waiting, self._schema)
            whole = self._rows - self._rows % _ROW_GROUP
            self._writer.write_table(table.slice(0, whole).combine_chunks(), _ROW_GROUP)
            self._waiting = table.slice(whole).combine_chunks().to_batches()
            self._rows -= whole

    def __del__(self) -> None:
        # Left behind by an error its file is closed already, which pyarrow would complain about.
        if hasattr(self, "_writer"):
            self._writer.is_open = False

    def close(self, metadata: dict[str, str]) -> None:
        rest = pa.Table.from_batches(self._waiting, self._schema).combine_chunks()
        if rest.num_rows:
            self._writer.write_table(rest, _ROW_GROUP)
        self._writer.add_key_value_metadata(metadata)
        self._writer.close()


class _Arrow:
    """Arrow IPC file (Feather 2), metadata in its schema; the one format that gathers all rows."""

    def __init__(self, sink: IO[bytes], schema: pa.Schema) -> None:
        self._sink, self._schema = sink, schema
        self._batches: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)

    def close(self, metadata: dict[str, str]) -> None:
        # The format puts the metadata in front, and it is complete only now.
        table = pa.Table.from_batches(self._batches, self._schema).combine_chunks()
        table = table.replace_schema_metadata(metadata)
        with pa.ipc.new_file(self._sink, table.schema) as writer:
            writer.write_table(table, _ROW_GROUP)


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind))


def _plain(column: pa.Array) -> pa.Array:
    """Times become text: ``2026-01-01T00:00:00.000000000Z``."""
    if not _is_time(column.type):
        return column
    import pyarrow.compute as pc  # noqa: PLC0415 - only text formats need it

    return pc.strftime(column, format="%Y-%m-%dT%H:%M:%SZ")


_WRITERS: dict[str, Any] = {
    "jsonl": _JsonLines,
    "csv": _Csv,
    "parquet": _Parquet,
    "arrow": _Arrow,
}


def format_of(output: str | None, wanted: str | None) -> str | None:
    """The format for an output: what was asked for, else by the file's ending.

    Raises
    ------
    EndingError
        Neither says it.
    """
    if wanted or output in (None, "-"):
        return wanted
    ending = Path(str(output)).suffix.lstrip(".").lower()
    if ending not in FORMATS:
        raise EndingError(
            f"no format goes by the ending {ending!r}" if ending else "has no ending",
            where=str(output),
            hint=f"end it in .{', .'.join(FORMATS)}, or give -f",
        )
    return ending


@contextlib.contextmanager
def open_output(path: str | None, inputs: Sequence[str] = ()) -> Iterator[IO[bytes]]:
    """A place to write: standard output, or a file that appears only when all went well.

    Parameters
    ----------
    path : str, optional
        None and ``-`` are standard output; what is no regular file (a FIFO, a device) is written
        to as it is.
    inputs : sequence of str
        Files that must not be overwritten.

    Raises
    ------
    OutputError
        It cannot be written, or is one of the inputs.
    """
    if path in (None, "-"):
        with standard_output():
            yield sys.stdout.buffer
        return
    name = str(path)
    try:
        target = Path(name).resolve()
        if target.exists() and any(_same(target, i) for i in inputs):
            raise OutputError("is one of the inputs", where=name, hint="choose another -o")
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield file
            return
        with _whole_or_not(target) as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror})", where=name) from None


def _same(target: Path, name: str) -> bool:
    """Whether an input is the target; one that cannot be looked at is not, and reading says why."""
    try:
        return target.samefile(name)
    except OSError:
        return False


@contextlib.contextmanager
def _whole_or_not(target: Path) -> Iterator[IO[bytes]]:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        fresh.chmod(0o666 & ~mask)
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def open_table(sink: IO[bytes], kind: str, schema: pa.Schema) -> TableWriter:
    """A writer of one of ``FORMATS`` on an open output."""
    writer: TableWriter = _WRITERS[kind](sink, schema)
    return writer
