"""How each device of a plan trains: learning rate, codec, trained part, and what it learns from its dense model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fedcore.core.codec.negotiation import agreed_codec
from fedcore.core.config.tables import Config
from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.contract.distillation import Distillation, mix_of
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import Json
from fedcore.core.cost.teacher import teacher_memory_mb
from fedcore.core.learning_rate import round_share
from fedcore.core.model.trained_part import TrainedPart
from fedcore.strategies.policy.arm_choice import Choice
from fedcore.strategies.policy.cost import RoundCost


def training_specs(
    config: Config,
    cost: RoundCost,
    *,
    choices: Sequence[Choice],
    parts: Sequence[TrainedPart],
    memory_scale: Mapping[str, float],
    keeps_coordinates: bool,
) -> list[TrainingSpec]:
    """Return how each device trains, in the order of `choices`; dense devices that train alike share one value.

    `parts` are what each trains, `memory_scale` measured / estimated peak memory by class. Moments of the optimiser may
    be kept over rounds only where factors keep their coordinates.
    """
    shared: dict[tuple[str, TrainedPart], TrainingSpec] = {}
    specs = []
    for choice, part in zip(choices, parts, strict=True):
        key = codec_of(config, choice.profile), part
        if key not in shared:
            shared[key] = _dense_spec(config, choice.round, *key, keeps_coordinates=keeps_coordinates)
        scale = memory_scale.get(choice.profile.device_class, 1.0)
        distillation = distillation_of(config, cost, choice, scale)
        specs.append(shared[key] if distillation is None else replace(shared[key], distillation=distillation))
    return specs


def _dense_spec(
    config: Config, round_index: int, codec: str, part: TrainedPart, *, keeps_coordinates: bool
) -> TrainingSpec:
    training, rounds = config.training, config.run.rounds
    return TrainingSpec(
        batch_size=training.batch_size,
        learning_rate=training.learning_rate * round_share(round_index, rounds, training.final_lr_share),
        weight_decay=training.weight_decay,
        lora_scale=training.lora_scale,
        importance=training.importance,
        keep_optimizer=training.keep_optimizer and keeps_coordinates,
        codec=codec,
        trains=part,
        balanced=training.label_skew == "balance",
    )


def distillation_of(config: Config, cost: RoundCost, choice: Choice, memory_scale: float) -> Distillation | None:
    """Return a device's distillation; None where it is off, or the device has nothing to learn or no room to.

    A dense device is its own teacher. A teacher needs the dense model's weights beside the cut one's, and one of its
    forward passes: where that, times what memory was found to be over its estimate, is more than the device's
    `memory_mb`, it goes without.
    """
    training = config.training
    mix = mix_of(choice.round, warmup_rounds=config.strategy.warmup_rounds, rounds=config.run.rounds)
    if training.distill == 0 or mix == 0 or choice.counts == cost.spec.geometry.dense:
        return None
    limit = choice.profile.memory_mb
    if limit and teacher_memory_mb(cost.step(choice.counts, choice.arm.rank)) * memory_scale > limit:
        return None
    return Distillation(weight=training.distill, temperature=training.distill_temperature, mix=mix)


def codec_of(config: Config, profile: DeviceProfile) -> str:
    """Return the codec of the device's class, or the best known one where it cannot encode that."""
    return agreed_codec(config.codec(profile.device_class), profile.codecs)


def codec_event(config: Config, profile: DeviceProfile, round_index: int) -> Json | None:
    """Return the log's record of a device that is given another codec than its class, None where it is not."""
    wanted, codec = config.codec(profile.device_class), codec_of(config, profile)
    if codec == wanted:
        return None
    return {"event": "codec", "round": round_index, "device": profile.name, "wanted": wanted, "codec": codec}
