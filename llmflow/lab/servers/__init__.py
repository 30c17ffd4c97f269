"""Servers that play scripts: ``python -m llmflow.lab.servers CONFIG.json``, one per software."""
