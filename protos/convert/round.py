"""Assignments down, updates up."""

import hashlib
from dataclasses import replace

from google.protobuf.message import DecodeError

from fedcore.core.contract.assignment import Arm, TrainingSpec
from fedcore.core.contract.distillation import Distillation
from fedcore.core.contract.outcome import PHASES, DeviceReport, TrainingMetrics
from fedcore.core.contract.rate_trial import RateTrial
from fedcore.core.errors import ProtocolError
from fedcore.core.model.quantization import NONE
from fedcore.core.model.trained_part import Factors, TrainedPart
from fedcore.protos.convert.blob import ref_from_pb, ref_to_pb, shift_from_pb, shift_to_pb
from fedcore.protos.v1 import round_pb2 as pb
from fedcore.protos.values import UpdateSubmission, UpdateVerdict, Verdict, WireAssignment

VERDICTS = {
    Verdict.ACCEPTED: pb.VERDICT_ACCEPTED,
    Verdict.LATE: pb.VERDICT_LATE,
    Verdict.REJECTED: pb.VERDICT_REJECTED,
    Verdict.UNKNOWN: pb.VERDICT_UNKNOWN,
    Verdict.OVERLAP: pb.VERDICT_OVERLAP,
}
FACTORS = {
    Factors.BOTH: pb.TRAINED_FACTORS_UNSPECIFIED,
    Factors.A: pb.TRAINED_FACTORS_A,
    Factors.B: pb.TRAINED_FACTORS_B,
}
_FACTORS_VALUES: dict[int, Factors] = {int(number): factors for factors, number in FACTORS.items()}
_VERDICT_VALUES: dict[int, Verdict] = {int(number): verdict for verdict, number in VERDICTS.items()}


def assignment_to_pb(value: WireAssignment) -> pb.Assignment:
    """WireAssignment value -> Assignment message; an arm's steps travel as the assignment's alone."""
    training = value.training
    return pb.Assignment(
        round=value.round,
        sparsity=value.arm.sparsity,
        rank=value.arm.rank,
        keep_set=ref_to_pb(value.keep_set),
        rank_blocks=[ref_to_pb(ref) for ref in value.rank_blocks],
        head=ref_to_pb(value.head),
        local_steps=value.local_steps,
        weight=value.weight,
        seed=value.seed,
        deadline_s=value.deadline_s,
        score=value.score,
        training=pb.TrainingSpec(
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            lora_scale=training.lora_scale,
            importance=training.importance,
            keep_optimizer=training.keep_optimizer,
            codec=training.codec,
            trained_factors=FACTORS[training.trains.factors],
            first_trained_layer=training.trains.first_layer,
            distillation=_distillation_to_pb(training.distillation),
            balanced=training.balanced,
            trial=_trial_to_pb(training.trial),
            quantize="" if training.quantize == NONE else training.quantize,
            checkpointing=training.checkpointing,
            score_layers=training.score_layers,
            replay=training.replay,
        ),
        max_upload_bytes=value.max_upload_bytes,
        basis=value.basis,
        label_counts=value.label_counts,
        counted_round=value.counted_round,
        base_shift=shift_to_pb(value.base_shift),
        rings=[ref_to_pb(ref) for ref in value.rings],
        inside=None if value.inside is None else ref_to_pb(value.inside),
    )


def assignment_from_pb(message: pb.Assignment) -> WireAssignment:
    """Assignment message -> WireAssignment value.

    Raises ConfigError on an arm, a distillation or a trial out of range, ProtocolError on unknown factors.
    """
    training = message.training
    return WireAssignment(
        round=message.round,
        arm=Arm(sparsity=message.sparsity, rank=message.rank),
        keep_set=ref_from_pb(message.keep_set),
        rank_blocks=tuple(ref_from_pb(ref) for ref in message.rank_blocks),
        head=ref_from_pb(message.head),
        local_steps=message.local_steps,
        weight=message.weight,
        seed=message.seed,
        deadline_s=message.deadline_s,
        score=message.score,
        training=TrainingSpec(
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            lora_scale=training.lora_scale,
            importance=training.importance,
            keep_optimizer=training.keep_optimizer,
            codec=training.codec,
            trains=_trains(training, message.round),
            distillation=_distillation(training),
            balanced=training.balanced,
            trial=_trial(training),
            quantize=training.quantize or NONE,
            checkpointing=training.checkpointing,
            score_layers=training.score_layers,
            replay=training.replay,
        ),
        max_upload_bytes=message.max_upload_bytes,
        basis=message.basis,
        label_counts=tuple(message.label_counts),
        counted_round=message.counted_round,
        base_shift=shift_from_pb(message.base_shift) if message.HasField("base_shift") else None,
        rings=tuple(ref_from_pb(ref) for ref in message.rings),
        inside=ref_from_pb(message.inside) if message.HasField("inside") else None,
    )


def _trains(message: pb.TrainingSpec, round_index: int) -> TrainedPart:
    factors = _FACTORS_VALUES.get(message.trained_factors)
    if factors is None:
        raise ProtocolError(
            f"round {round_index}: unknown trained factors {message.trained_factors}; update the client"
        )
    return TrainedPart(factors=factors, first_layer=message.first_trained_layer)


def _distillation_to_pb(value: Distillation | None) -> pb.Distillation | None:
    if value is None:
        return None
    return pb.Distillation(weight=value.weight, temperature=value.temperature, mix=value.mix)


def _distillation(message: pb.TrainingSpec) -> Distillation | None:
    if not message.HasField("distillation"):
        return None
    settings = message.distillation
    return Distillation(weight=settings.weight, temperature=settings.temperature, mix=settings.mix)


def _trial_to_pb(value: RateTrial | None) -> pb.RateTrial | None:
    return None if value is None else pb.RateTrial(rates=value.rates, steps=value.steps)


def _trial(message: pb.TrainingSpec) -> RateTrial | None:
    if not message.HasField("trial"):
        return None
    return RateTrial(rates=tuple(message.trial.rates), steps=message.trial.steps)


def submission_to_pb(value: UpdateSubmission) -> pb.UpdateSubmission:
    """UpdateSubmission value -> message."""
    return pb.UpdateSubmission(
        round=value.round,
        update=ref_to_pb(value.update),
        scores=None if value.scores is None else ref_to_pb(value.scores),
        keep_set=value.keep_set,
        report=report_to_pb(value.report),
    )


def submission_from_pb(message: pb.UpdateSubmission) -> UpdateSubmission:
    """UpdateSubmission message -> value."""
    return UpdateSubmission(
        round=message.round,
        update=ref_from_pb(message.update),
        scores=ref_from_pb(message.scores) if message.HasField("scores") else None,
        keep_set=message.keep_set,
        report=report_from_pb(message.report),
    )


def submission_to_bytes(value: UpdateSubmission) -> bytes:
    """UpdateSubmission value -> bytes, for a device's spool."""
    return submission_to_pb(value).SerializeToString()


def submission_from_bytes(data: bytes) -> UpdateSubmission:
    """Inverse of `submission_to_bytes`; raises ProtocolError on anything else."""
    try:
        return submission_from_pb(pb.UpdateSubmission.FromString(data))
    except DecodeError as cause:
        raise ProtocolError(f"not a spooled update: {cause}") from None


def assignment_key(value: WireAssignment) -> str:
    """A hash of everything an assignment asks for: equal ones have equal keys, whichever parent hands them on.

    Neither how its blobs are brought (inside the message, as deltas, step by step) nor the time left nor word of
    earlier rounds count.
    """
    bare = assignment_to_pb(replace(value, deadline_s=0.0, counted_round=0))
    inside = (bare.inside,) if bare.HasField("inside") else ()
    for ref in (bare.keep_set, bare.head, *bare.rank_blocks, *bare.rings, *inside):
        for how in ("inline", "delta_id", "delta_base", "delta_size"):
            ref.ClearField(how)
    if bare.HasField("base_shift"):
        bare.base_shift.ClearField("steps")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def verdict_to_pb(value: UpdateVerdict) -> pb.UpdateVerdict:
    """UpdateVerdict value -> message."""
    return pb.UpdateVerdict(round=value.round, verdict=VERDICTS[value.verdict], message=value.message)


def verdict_from_pb(message: pb.UpdateVerdict) -> UpdateVerdict:
    """UpdateVerdict message -> value; raises ProtocolError on an unknown verdict."""
    verdict = verdict_value(message.verdict, message.round)
    return UpdateVerdict(round=message.round, verdict=verdict, message=message.message)


def verdict_value(number: int, round_index: int) -> Verdict:
    """Enum number -> verdict; raises ProtocolError, naming the round, on an unknown one."""
    verdict = _VERDICT_VALUES.get(number)
    if verdict is None:
        raise ProtocolError(f"round {round_index}: unknown verdict {number}; update the client")
    return verdict


def report_to_pb(value: DeviceReport) -> pb.DeviceReport:
    """DeviceReport value -> message."""
    return pb.DeviceReport(
        loss_before=value.metrics.loss_before,
        loss_after=value.metrics.loss_after,
        train_loss=value.metrics.train_loss,
        phases=pb.PhaseTimes(**{f"{phase}_s": value.phase_s.get(phase, 0.0) for phase in PHASES}),
        peak_memory_mb=value.metrics.peak_memory_mb,
        adapter_importance=value.metrics.adapter_importance,
        num_examples=value.num_examples,
        steps=value.steps,
        bytes_down=value.bytes_down,
        bytes_up=value.bytes_up,
        repushed=value.repushed,
        energy_j=value.energy_j,
        temperature_c=value.temperature_c,
        trial_losses=value.metrics.trial_losses,
    )


def report_from_pb(message: pb.DeviceReport) -> DeviceReport:
    """DeviceReport message -> value."""
    return DeviceReport(
        metrics=TrainingMetrics(
            loss_before=message.loss_before,
            loss_after=message.loss_after,
            train_loss=message.train_loss,
            peak_memory_mb=message.peak_memory_mb,
            adapter_importance=message.adapter_importance,
            trial_losses=tuple(message.trial_losses),
        ),
        phase_s={phase: getattr(message.phases, f"{phase}_s") for phase in PHASES},
        num_examples=message.num_examples,
        steps=message.steps,
        bytes_down=message.bytes_down,
        bytes_up=message.bytes_up,
        repushed=message.repushed,
        energy_j=message.energy_j if message.HasField("energy_j") else None,
        temperature_c=message.temperature_c if message.HasField("temperature_c") else None,
    )
