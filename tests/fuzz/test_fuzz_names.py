"""The fuzz target, for a fixed number of runs from good seeds."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hellos import client_hello, crypto, initial, records, server_hello

ROOT = Path(__file__).parents[2]
RUNS = 20_000


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_a_fixed_number_of_runs_finds_nothing(tmp_path: Path) -> None:
    """No exception but the documented one, no bound broken, no input slower than 5 s."""
    hello = client_hello()
    seeds = [
        b"\0" + hello[4:],
        b"\0" + server_hello()[4:],
        b"\0" + records(hello, 40),
        b"\1" + initial(crypto(0, hello)),
        b"\1\2\1\1\1\1\1\1" + crypto(0, hello),
        b"\2\0\0\x7f" + records(hello),
    ]
    for number, seed in enumerate(seeds):
        (tmp_path / str(number)).write_bytes(seed)
    command = [sys.executable, str(Path(__file__).with_name("fuzz_names.py"))]
    options = [f"-runs={RUNS}", "-seed=1", "-timeout=5", "-max_len=4096", "-verbosity=0"]
    run = subprocess.run(
        [*command, *options, f"-artifact_prefix={tmp_path}/", str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
