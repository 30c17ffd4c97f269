"""The same traffic under other conditions: variants of a batch of flows, packet by packet."""

from __future__ import annotations

from llmflow.flows.batch import FlowBatch

AS_IT_IS = ""


def perturb(batch: FlowBatch, variant: str, seed: tuple[int, int]) -> FlowBatch:  # noqa: ARG001
    """A variant of a batch."""
    if variant == AS_IT_IS:
        return batch
    raise ValueError(variant)
