"""What a training step of a cut model takes in memory, from one that was measured on the dense model.

A step of every shape would have to be taken to be measured, and a round under a bandit has dozens of shapes. The cost
model's account (`fedcore.core.cost.training_step`) is off by a few per cent, and much the same per cent for every shape
of a model: so it says how a cut changes the dense model's measured figures.
"""

from dataclasses import dataclass

from fedcore.core.cost.training_step import StepShape
from fedcore.core.model.geometry import Counts, Geometry
from fedcore.core.model.trained_part import EVERYTHING, TrainedPart
from fedcore.nn.training.step_memory import StepMemory

_TOKENS = 64  # of the second point of the cost model's straight line


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """What the cost model needs to know beside a shape."""

    geometry: Geometry
    targets: tuple[str, ...]
    dtype_bytes: int
    num_labels: int


def estimated(
    measured: StepMemory, kind: ModelKind, *, counts: Counts, rank: int, trains: TrainedPart = EVERYTHING
) -> StepMemory:
    """Return the memory of a step with so many head units and channels kept, at `rank`.

    `measured` is the dense model's at the same rank, with the same part of the adapter training.
    """
    dense = _modelled(kind, kind.geometry.dense, rank, trains)
    cut = _modelled(kind, counts, rank, trains)
    return StepMemory(
        standing_mb=measured.standing_mb * cut.standing_mb / dense.standing_mb,
        token_mb=measured.token_mb * cut.token_mb / dense.token_mb,
    )


def _modelled(kind: ModelKind, counts: Counts, rank: int, trains: TrainedPart) -> StepMemory:
    def at(tokens: int) -> float:
        step = StepShape(
            geometry=kind.geometry,
            kept=counts,
            rank=rank,
            targets=kind.targets,
            batch_size=tokens,
            max_length=1,
            dtype_bytes=kind.dtype_bytes,
            part=trains,
        )
        return step.memory_mb(kind.num_labels)

    token_mb = (at(_TOKENS) - at(1)) / (_TOKENS - 1)
    return StepMemory(standing_mb=at(1) - token_mb, token_mb=token_mb)
