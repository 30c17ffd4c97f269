"""Result folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from llmflow.errors import OutputError


def check_folder(folder: Path, marker: str, what: str) -> None:
    """Say early that a result folder cannot be put somewhere.

    Parameters
    ----------
    folder : Path
    marker : str
        File by which a folder of this sort is known: such a one is replaced.
    what : str
        What the folder holds, for the message.

    Raises
    ------
    OutputError
        Something else stands there.
    """
    taken = folder.exists() and not (folder / marker).is_file()
    if taken and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            f"stands there already and is no {what}", where=str(folder), hint="choose another -o"
        )


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A fresh folder to fill, which takes the place of ``folder`` when all went well.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    fresh = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        fresh.chmod(0o755)
        yield fresh
        if folder.exists():
            former = fresh.with_name(fresh.name + "-former")
            folder.replace(former)
            fresh.replace(folder)
            shutil.rmtree(former)
        else:
            fresh.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror})", where=str(folder)) from None
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)
