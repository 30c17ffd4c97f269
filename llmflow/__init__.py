"""llmflow: find LLM token streams in captures by their rhythm, never by their content."""

__version__ = "0.1.0"
