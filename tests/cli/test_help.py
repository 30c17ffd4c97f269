"""Help, start-up and the generated pages."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from llmflow.cli import COMMANDS, main
from llmflow.cli.options import FILE_FORMATS
from llmflow.report.writers import FORMATS

ROOT = Path(__file__).parents[2]
HEAVY = {"sklearn", "scipy", "skops", "matplotlib", "scapy", "rich", "pyarrow", "numpy", "dpkt"}


def _modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split())


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_help_imports_nothing_heavy() -> None:
    """`llmflow --help` stays fast because it imports no command."""
    code = "from llmflow.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert not _modules_after(code) & HEAVY


def test_classify_never_imports_scikit_learn_or_scapy() -> None:
    """Labelling needs the trees as arrays only; scapy (GPL) is not on the line."""
    capture = ROOT / "pcaps" / "voip.pcap"
    code = (
        "from llmflow.cli import main\n"
        f"try: main(['classify', {str(capture)!r}, '-f', 'jsonl'])\nexcept SystemExit: pass"
    )
    assert not _modules_after(code) & {"sklearn", "scipy", "skops", "scapy", "matplotlib"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    """-h works everywhere and the one-line help of the group is true to the command."""
    result = CliRunner().invoke(main, [name, "-h"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


@pytest.mark.parametrize("page", ["features.md", "cli.md", "lab-training.md"])
def test_generated_pages_are_current(page: str) -> None:
    """`make docs` was run after the last change of a feature or an option."""
    module = _generator()
    assert (ROOT / "docs" / page).read_text() == module.PAGES[page]()


def test_only_synth_imports_scapy() -> None:
    """scapy is GPL-2.0-only: only the room that makes captures may import it."""
    importers = {
        path.relative_to(ROOT / "llmflow").parts[0]
        for path in (ROOT / "llmflow").rglob("*.py")
        if "import scapy" in path.read_text() or "from scapy" in path.read_text()
    }
    assert importers == {"synth"}


def test_the_commands_offer_the_formats_that_are_written() -> None:
    """The list that keeps start-up fast is the writers' own."""
    assert FILE_FORMATS == FORMATS
