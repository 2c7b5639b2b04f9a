"""The outcome of one device's assignment, known once the round has closed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.assignment import Arm
from fedcore.core.text_enum import TextEnum

INFLUENCES = "influences"  # name of the vector of layers' influences among group importances
PHASES = ("download", "prune", "train", "encode", "upload")


class Status(TextEnum):
    """How an assignment ended."""

    ACCEPTED = "accepted"
    MISSED_DEADLINE = "missed_deadline"  # reward 0, observed
    LOST = "lost"  # lease expired or the device left: not observed
    REJECTED = "rejected"  # the update did not fit: reward 0, observed
    OUT_OF_MEMORY = "out_of_memory"  # more than the device has: not observed, and not offered again


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMetrics:
    """The figures that a device measures in local training. Losses are mean cross-entropies in nats."""

    loss_before: float  # on one fixed local probe batch
    loss_after: float  # on the same
    train_loss: float  # mean over the local steps
    peak_memory_mb: float  # peak live tensor MiB, measured on the step with the most tokens
    adapter_importance: float  # mean |factor x gradient| of the adapter over the local steps, >= 0
    trial_losses: tuple[float, ...] = ()  # of the assignment's trial: before any step, then after those at each rate


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReport:
    """The device's own measurements. They explain a round; the round's time is measured at the parent."""

    metrics: TrainingMetrics
    phase_s: Mapping[str, float]  # seconds by PHASES
    num_examples: int
    steps: int
    bytes_down: int
    bytes_up: int
    repushed: bool = False  # the assignment was pushed again after work on it had begun
    energy_j: float | None = None  # joules of the device's machine or card meanwhile; None where nothing tells
    temperature_c: float | None = None  # degrees Celsius of its hottest part at the end; None where nothing tells


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupScores:
    """Importance of every *kept* group, per layer, each layer's vector normalised to L2 norm 1.

    `heads[i]` has one float32 per kept head unit of layer i, `channels[i]` one per kept channel; both are empty for a
    layer that is removed. `layers` has the influence of every kept layer, 1 - cos(input, output) of its block, as it
    was measured; None where it was not asked for.
    """

    heads: tuple[NDArray[np.float32], ...]
    channels: tuple[NDArray[np.float32], ...]
    layers: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One assignment's end. `time_s` runs from assignment pushed to update accepted, at the parent.

    `fold_s` is the time of verifying and folding its update there; None where no update was counted.
    """

    device: str
    device_class: str
    round: int
    arm: Arm  # realised: sparsity of the keep-set, rank
    status: Status
    time_s: float
    report: DeviceReport | None = None
    fold_s: float | None = None
    network: str = ""  # network class; empty is unknown
    scores: GroupScores | None = field(default=None, compare=False)
