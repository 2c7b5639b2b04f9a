"""How each device of a plan trains: learning rate, codec, trained part, and distillation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fedcore.core.codec.negotiation import agreed_codec
from fedcore.core.config.auto import warmup_rounds
from fedcore.core.config.tables import Config
from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.contract.distillation import Distillation, mix_of
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import Json
from fedcore.core.contract.rate_trial import RateTrial
from fedcore.core.learning_rate.schedule import round_share
from fedcore.core.model.trained_part import TrainedPart
from fedcore.core.pruning.kinds import LAYERS
from fedcore.strategies.policy.arm_choice import Choice
from fedcore.strategies.policy.feasible import Memory


def training_specs(
    config: Config,
    *,
    choices: Sequence[Choice],
    parts: Sequence[TrainedPart],
    rate: float,
    trials: Mapping[str, RateTrial],
    trial_rounds: int,
    memory: Memory,
    keeps_coordinates: bool,
) -> list[TrainingSpec]:
    """Return how each device trains, in the order of `choices`; dense devices that train alike share one value.

    `parts` are the trained parts, `rate` is the first round's learning rate, `trials` are by device. The rate begins to
    fall after `trial_rounds`, the closed rounds of the search. Optimiser moments may be kept over rounds only where
    factors keep their coordinates.
    """
    by_key: dict[tuple[str, str, TrainedPart, bool], TrainingSpec] = {}
    specs = []
    for choice, part in zip(choices, parts, strict=True):
        profile = choice.profile
        mode = memory.mode(profile, choice.counts, choice.arm.rank, part)
        key = codec_of(config, profile), config.quantize(profile.device_class), part, mode.checkpointed
        spec = by_key.get(key)
        if spec is None:
            share = round_share(
                max(1, choice.round - trial_rounds), config.run.rounds - trial_rounds, config.training.final_lr_share
            )
            spec = by_key[key] = _dense_spec(config, key, rate=rate * share, keeps_coordinates=keeps_coordinates)
        distillation = distillation_of(config, memory, choice)
        trial = trials.get(profile.name)
        alike = distillation is None and trial is None
        specs.append(spec if alike else replace(spec, distillation=distillation, trial=trial))
    return specs


def _dense_spec(
    config: Config, key: tuple[str, str, TrainedPart, bool], *, rate: float, keeps_coordinates: bool
) -> TrainingSpec:
    codec, form, part, checkpointing = key
    training = config.training
    return TrainingSpec(
        batch_size=training.batch_size,
        learning_rate=rate,
        weight_decay=training.weight_decay,
        lora_scale=training.lora_scale,
        importance=training.importance,
        keep_optimizer=training.keep_optimizer and keeps_coordinates,
        codec=codec,
        trains=part,
        quantize=form,
        balanced=training.label_skew == "balance",
        checkpointing=checkpointing,
        replay=config.data.replayed,
        score_layers=LAYERS in config.strategy.remove,
    )


def distillation_of(config: Config, memory: Memory, choice: Choice) -> Distillation | None:
    """Return a device's distillation; None where it is off, the model is not cut, or memory is too small.

    A device with the dense model needs no teacher. A teacher takes the memory of the dense model's weights, beside the
    cut model's, and of a forward pass. A device trains without a teacher where it has not this memory.
    """
    training, cost = config.training, memory.cost
    if training.distill == 0 or choice.counts == cost.spec.geometry.dense:
        return None
    mix = mix_of(choice.round, warmup_rounds=warmup_rounds(config), rounds=config.run.rounds)
    if mix == 0:
        return None
    if not memory.allows(choice.profile, cost.teacher_mb(choice.profile, choice.counts, choice.arm)):
        return None
    return Distillation(weight=training.distill, temperature=training.distill_temperature, mix=mix)


def codec_of(config: Config, profile: DeviceProfile) -> str:
    """Return the codec of the device's class, or the best one that it can encode."""
    return agreed_codec(config.codec(profile.device_class), profile.codecs)


def codec_event(config: Config, profile: DeviceProfile, round_index: int) -> Json | None:
    """Return the log's record of a device with another codec than its class's; None for the class's codec."""
    class_codec, codec = config.codec(profile.device_class), codec_of(config, profile)
    if codec == class_codec:
        return None
    return {"event": "codec", "round": round_index, "device": profile.name, "wanted": class_codec, "codec": codec}
