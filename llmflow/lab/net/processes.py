"""Processes of the lab: run to the end, or say when they are ready."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from llmflow.errors import LabError

READY = "ready"


def run(argv: Sequence[str], *, stdin: str = "", timeout: float = 30) -> str:
    """Run a program to its end and give its standard output.

    Raises
    ------
    LabError
        If it fails, is missing or takes longer than ``timeout`` seconds.
    """
    try:
        return subprocess.run(
            argv, input=stdin, timeout=timeout, check=True, capture_output=True, text=True
        ).stdout
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or error.stdout or f"exit code {error.returncode}").strip()
    except subprocess.TimeoutExpired:
        reason = f"not done after {timeout:g} s"
    except OSError as error:
        reason = error.strerror or str(error)
    raise LabError(
        f"{' '.join(argv)[:200]} failed: {reason}", hint="`llmflow lab doctor` says what is missing"
    )


def python(module: str, *args: str) -> list[str]:
    """Command that runs a module with this interpreter."""
    return [sys.executable, "-m", module, *args]


def say(line: str) -> None:
    """Tell the lab something from one of its processes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def wait_ready(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Wait until a process with piped output and errors has said that it is ready.

    Raises
    ------
    LabError
        With the end of what it said on standard error, if it ended instead.
    """
    if process.stdout is None or process.stdout.readline() != f"{READY}\n".encode():
        raise failed(process, "did not start")
    return process


def failed(process: subprocess.Popen[bytes], what: str) -> LabError:
    """Give the error of a process that ended when it should not have."""
    _, said = process.communicate(timeout=10)
    reason = (said or b"").decode(errors="replace").strip()[-500:]
    return LabError(f"{' '.join(map(str, process.args))[:200]} {what}: {reason}")  # type: ignore[arg-type]
