"""Clients that play scripts: ``python -m llmflow.lab.clients CONFIG.json``, one per access path."""
