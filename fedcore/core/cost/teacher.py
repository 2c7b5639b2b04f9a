"""What a teacher's forward passes cost a device in memory and arithmetic: the dense model, beside the cut one."""

from fedcore.core.cost.training_step import FLOAT_BYTES, MIB, base_parameters, forward_flops
from fedcore.core.model.adapter import AdapterSpec

MOMENTS = 2  # of AdamW, which may lie there already
STREAMS = 3  # a layer's input, its residual stream and its output, alive at once


def teacher_memory_mb(spec: AdapterSpec, counts: tuple[int, int], rank: int, *, tokens: int, dtype_bytes: int) -> float:
    """Return the live tensor memory while the teacher answers, MiB.

    Both models' frozen weights, the student's factors with their moments, the teacher's factors, and what one layer of
    the dense model needs for a batch of `tokens`, of which nothing is kept for a backward pass.
    """
    geometry = spec.geometry
    dense = geometry.head_units, geometry.ffn
    frozen = sum(base_parameters(geometry, heads=heads, channels=channels) for heads, channels in (counts, dense))
    factors = [_factor_values(spec, each, rank) for each in (counts, dense)]
    query, wide = geometry.shape("q")[0], (2 if geometry.gated else 1) * geometry.ffn
    working = tokens * (STREAMS * geometry.hidden + max(4 * query, 2 * wide)) * FLOAT_BYTES
    return (frozen * dtype_bytes + ((1 + MOMENTS) * factors[0] + factors[1]) * FLOAT_BYTES + working) / MIB


def teacher_flops(spec: AdapterSpec, rank: int, *, batch_size: int, max_length: int) -> float:
    """Return the operations of the teacher's forward pass over one batch."""
    return forward_flops(
        spec.geometry,
        heads=spec.geometry.head_units,
        channels=spec.geometry.ffn,
        rank=rank,
        targets=spec.targets,
        batch_size=batch_size,
        max_length=max_length,
    )


def _factor_values(spec: AdapterSpec, counts: tuple[int, int], rank: int) -> int:
    heads, channels = counts
    shapes = (spec.geometry.shape(module, heads=heads, channels=channels) for module in spec.targets)
    return spec.geometry.layers * rank * sum(sum(shape) for shape in shapes)
