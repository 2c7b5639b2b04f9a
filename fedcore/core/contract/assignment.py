"""The work of one device in one round."""

from dataclasses import dataclass

from fedcore.core.contract.distillation import Distillation
from fedcore.core.contract.rate_trial import RateTrial
from fedcore.core.errors import ConfigError
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.quantization import NONE
from fedcore.core.model.trained_part import EVERYTHING, TrainedPart


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One choice of the bandit: target sparsity in [0, 1), LoRA rank >= 1, local steps; ConfigError outside of them."""

    sparsity: float
    rank: int
    steps: int = 0  # local steps; 0 where there is no choice of them: every device takes `training.local_steps`

    def __post_init__(self) -> None:
        if not 0.0 <= self.sparsity < 1.0:
            raise ConfigError(f"sparsity must be in [0, 1), got {self.sparsity}")
        if self.rank < 1:
            raise ConfigError(f"rank must be at least 1, got {self.rank}")
        if self.steps < 0:
            raise ConfigError(f"local steps must be at least 0, got {self.steps}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """How a device trains. The trained part and the codec may differ between devices and rounds of a run."""

    batch_size: int
    learning_rate: float
    weight_decay: float
    lora_scale: float  # s = alpha / r, one constant for every rank
    importance: str  # a name of fedcore.core.pruning.criteria.CRITERIA
    keep_optimizer: bool  # carry Adam moments over rounds where coordinates persist
    codec: str  # e.g. "identity", "bf16+zstd"
    trains: TrainedPart = EVERYTHING  # the part that is not frozen, and is sent
    distillation: Distillation | None = None  # from the dense model, on a device with a cut model
    balanced: bool = False  # draw labels in the fleet's shares, if the device knows them: fedcore.core.data.label_prior
    quantize: str = NONE  # the form of the frozen base, of fedcore.core.model.quantization
    trial: RateTrial | None = None  # of learning rates, before the local steps
    checkpointing: bool = False  # compute activations anew in the backward pass, see fedcore.nn.model.checkpointing
    replay: float = 0.0  # share of a batch's rows that are general texts, and of the loss that they make, in [0, 1)
    score_layers: bool = False  # where importances are asked for: send each block's influence on the state too

    def __post_init__(self) -> None:
        if not 0.0 <= self.replay < 1.0:
            raise ConfigError(f"the share of general texts must be in [0, 1), got {self.replay}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One device's work in one round. A device stops `deadline_s` after the last push: no update can count by then."""

    round: int
    device: str
    arm: Arm  # as selected; keep_set gives the realised sparsity
    keep_set: KeepSet
    local_steps: int
    weight: int  # integer aggregation weight, >= 1; a cohort's sum stays <= 2**24
    seed: int
    deadline_s: float
    score: bool  # whether to upload group importances (a prune event lies ahead)
    training: TrainingSpec

    @property
    def cost_steps(self) -> float:
        """The time of the local steps and of the trial before them, in training steps."""
        trial = self.training.trial
        return self.local_steps if trial is None else self.local_steps + trial.cost_steps

    @property
    def key(self) -> tuple[str, int]:
        """(device, round): the idempotency key of this assignment's update."""
        return self.device, self.round
