"""Hypothesis settings for all tests: the same examples on every run, on fast and slow machines."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "llmflow",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("llmflow")
