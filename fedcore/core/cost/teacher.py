"""The cost of a teacher's forward passes in memory and arithmetic: the dense model, beside the cut one."""

from fedcore.core.cost.training_step import FLOAT_BYTES, MIB, StepShape, base_parameters

MOMENTS = 2  # of AdamW, which may be in memory already
STREAMS = 3  # a layer's input, its residual stream and its output, alive at once


def teacher_memory_mb(step: StepShape, *, kept_rows: int = 0) -> float:
    """Return the live tensor memory while the teacher answers a batch of the student's `step`, MiB.

    Both models' frozen weights, the student's factors with their moments, the teacher's factors, and the working memory
    of one layer of the dense model for a batch. Nothing is kept for a backward pass. A teacher that writes leaves its
    states of `kept_rows` rows, counted as if every token were answered.
    """
    geometry = step.geometry
    frozen = step.frozen_bytes() + base_parameters(geometry, geometry.dense) * step.dtype_bytes  # no packed teacher
    factors = [model.adapter_values() for model in (step, step.dense)]
    query, wide = geometry.shape("q")[0], (2 if geometry.gated else 1) * geometry.ffn
    working = step.tokens * (STREAMS * geometry.hidden + max(4 * query, 2 * wide)) * FLOAT_BYTES
    kept = kept_rows * step.max_length * geometry.hidden * step.dtype_bytes
    return (frozen + ((1 + MOMENTS) * factors[0] + factors[1]) * FLOAT_BYTES + working + kept) / MIB


def teacher_flops(step: StepShape) -> float:
    """Return the operations of the teacher's forward pass over one batch of the student's `step`."""
    return step.dense.forward_flops()
