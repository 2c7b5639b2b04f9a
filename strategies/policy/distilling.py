"""Which devices learn from their dense model in a round, and how strongly."""

from fedcore.core.config.tables import Config
from fedcore.core.contract.distillation import Distillation, mix_of
from fedcore.core.cost.teacher import teacher_memory_mb
from fedcore.strategies.policy.arm_choice import Choice
from fedcore.strategies.policy.cost import RoundCost


def distillation_of(config: Config, cost: RoundCost, choice: Choice, memory_scale: float) -> Distillation | None:
    """Return a device's distillation; None where it is off, or the device has nothing to learn or no room to.

    A dense device is its own teacher. A teacher needs the dense model's weights beside the cut one's, and one of its
    forward passes: where that, times what memory was found to be over its estimate, is more than the device's
    `memory_mb`, it goes without.
    """
    training, geometry = config.training, cost.spec.geometry
    mix = mix_of(choice.round, warmup_rounds=config.strategy.warmup_rounds, rounds=config.run.rounds)
    if training.distill == 0 or mix == 0 or choice.counts == geometry.dense:
        return None
    limit = choice.profile.memory_mb
    if limit:
        needed = teacher_memory_mb(cost.step(choice.counts, choice.arm.rank))
        if needed * memory_scale > limit:
            return None
    return Distillation(weight=training.distill, temperature=training.distill_temperature, mix=mix)
