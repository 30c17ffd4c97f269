"""The targets are programs of their own: imported, they would instrument llmflow for all tests."""

collect_ignore = ["framing.py", "decoding.py"]
