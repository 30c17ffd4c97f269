"""The fuzz targets for a fixed number of inputs, from a fixed seed.

``LLMFLOW_FUZZ_RUNS=10000000 pytest tests/fuzz`` looks for longer.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmflow.capture.dpkt_lane import LINKS
from tests.hostile import captures
from tests.unit.frames import LINK_FRAMES, TUNNELS, V4, V6

ROOT = Path(__file__).parents[2]
RUNS = {"framing": 8_000, "decoding": 12_000}
SEEDS = {
    "framing": [data[:4096] + b"\x10\x80\xf0" for data in captures().values()],
    "decoding": [
        bytes([sorted(LINKS).index(link), 40]) + frame(packet)
        for link, frame in [*LINK_FRAMES.values(), *((1, wrap) for wrap, *_ in TUNNELS.values())]
        for packet in (V4, V6)
    ],
}


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed (no wheel here)"
)
@pytest.mark.parametrize("target", RUNS)
def test_no_input_breaks_the_target(target: str, tmp_path: Path) -> None:
    """No error, no hang and little memory, whatever the bytes; the targets say what else holds."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[target]):
        (corpus / f"seed-{number}").write_bytes(seed)
    runs = int(os.environ.get("LLMFLOW_FUZZ_RUNS", RUNS[target]))
    # Atheris itself keeps some 25 kB for each run.
    limits = ["-max_len=4096", "-timeout=20", f"-rss_limit_mb={500 + runs // 25}"]
    where = f"-artifact_prefix={tmp_path}/"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            f"tests.fuzz.{target}",
            "-seed=1",
            f"-runs={runs}",
            *limits,
            where,
            corpus,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"Done {runs} runs" in done.stderr
