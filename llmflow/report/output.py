"""Standard output, wherever something is written to it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from llmflow.errors import OutputError

STANDARD_OUTPUT = "standard output"


@contextlib.contextmanager
def standard_output() -> Iterator[None]:
    """What writes to standard output, and is flushed; a closed pipe is left to the caller.

    Raises
    ------
    OutputError
        It is closed, or cannot be written.
    """
    if sys.stdout is None:
        raise OutputError("is closed", where=STANDARD_OUTPUT, hint="give -o, or open it")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise OutputError(what, where=STANDARD_OUTPUT) from None
