"""The memory of a training step of a cut model, estimated from a measured step of the dense model.

Measuring every shape would take a real step of every shape, and a round under a bandit has dozens. The cost model
(`fedcore.core.cost.training_step`) is off by a few per cent, by nearly the same factor for every shape of a model. So
the measured figure of the dense model is scaled by the cost model's ratio of cut to dense.
"""

from dataclasses import dataclass

from fedcore.core.cost.training_step import PLAIN, StepMode, StepShape
from fedcore.core.model.geometry import Counts, Geometry
from fedcore.core.model.quantization import NONE
from fedcore.core.model.trained_part import EVERYTHING, TrainedPart
from fedcore.nn.training.step_memory import StepMemory

_TOKENS = 64  # of the second point of the line: the cost model is linear in the tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """The properties of a model that the cost model needs beside the kept counts and the rank."""

    geometry: Geometry
    targets: tuple[str, ...]
    dtype_bytes: int
    num_labels: int
    mode: StepMode = PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What is left of a model in every layer, and in which form."""

    counts: Counts
    quantize: str = NONE


def estimated(
    measured: StepMemory, kind: ModelKind, *, cut: Cut, rank: int, trains: TrainedPart = EVERYTHING
) -> StepMemory:
    """Return the memory of a step of a model cut so, at `rank`.

    `measured` is that of the dense model at the same rank, with the same trained part of the adapter.
    """
    dense = _modelled(kind, Cut(counts=kind.geometry.dense), rank, trains)
    left = _modelled(kind, cut, rank, trains)
    return StepMemory(
        standing_mb=measured.standing_mb * left.standing_mb / dense.standing_mb,
        token_mb=measured.token_mb * left.token_mb / dense.token_mb,
    )


def _modelled(kind: ModelKind, cut: Cut, rank: int, trains: TrainedPart) -> StepMemory:
    def at(tokens: int) -> float:
        step = StepShape(
            geometry=kind.geometry,
            kept=cut.counts,
            quantize=cut.quantize,
            rank=rank,
            targets=kind.targets,
            batch_size=tokens,
            max_length=1,
            dtype_bytes=kind.dtype_bytes,
            part=trains,
            mode=kind.mode,
        )
        return step.memory_mb(kind.num_labels)

    token_mb = (at(_TOKENS) - at(1)) / (_TOKENS - 1)
    return StepMemory(standing_mb=at(1) - token_mb, token_mb=token_mb)
