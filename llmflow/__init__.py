"""llmflow: find LLM token streams in packet captures from their rhythm, never from their content."""

__version__ = "0.1.0"
