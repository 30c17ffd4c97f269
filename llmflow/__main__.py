"""``python -m llmflow``."""

from llmflow.cli import main

main()
