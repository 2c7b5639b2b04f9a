"""Joining: profiles, fingerprints, the run's description."""

from google.protobuf.message import DecodeError

from fedcore.core.contract.profile import DeviceProfile, SelfMeasurement
from fedcore.core.errors import ProtocolError
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.convert.blob import ref_from_pb, ref_to_pb
from fedcore.protos.v1 import device_pb2 as pb
from fedcore.protos.values import Join, Newcomer, Progress, Role, RunDescription, Shard, Welcome

_ROLES = {Role.DEVICE: pb.ROLE_DEVICE, Role.EVALUATOR: pb.ROLE_EVALUATOR, Role.EDGE: pb.ROLE_EDGE}
_ROLE_VALUES = {number: role for role, number in _ROLES.items()}


def describe_request(value: Newcomer) -> pb.DescribeRunRequest:
    """Newcomer value -> the request for a run's description."""
    return pb.DescribeRunRequest(
        name=value.name,
        device_class=value.device_class,
        needs_model=value.needs_model,
        wants_shard=value.wants_shard,
        device_uuid=value.device_uuid,
    )


def newcomer_from_pb(message: pb.DescribeRunRequest) -> Newcomer:
    """The request for a run's description -> Newcomer value."""
    return Newcomer(
        name=message.name,
        device_class=message.device_class,
        needs_model=message.needs_model,
        wants_shard=message.wants_shard,
        device_uuid=message.device_uuid,
    )


def description_to_pb(value: RunDescription) -> pb.DescribeRunResponse:
    """RunDescription value -> message."""
    return pb.DescribeRunResponse(
        protocol_min=value.protocol_min,
        protocol_max=value.protocol_max,
        run_id=value.run_id,
        labels=value.labels,
        fingerprint=_fingerprint_to_pb(value.fingerprint),
        model_files=[ref_to_pb(ref) for ref in value.model_files],
        max_length=value.max_length,
        head=value.head,
        dtype=value.dtype,
        parents=value.parents,
        shard=None if value.shard is None else _shard_to_pb(value.shard),
        task=value.task,
        quantize=dict(value.quantize),
        precision=value.precision,
        task_options=value.task_options,
    )


def description_from_pb(message: pb.DescribeRunResponse) -> RunDescription:
    """RunDescription message -> value."""
    return RunDescription(
        protocol_min=message.protocol_min,
        protocol_max=message.protocol_max,
        run_id=message.run_id,
        labels=tuple(message.labels),
        fingerprint=_fingerprint_from_pb(message.fingerprint),
        model_files=tuple(ref_from_pb(ref) for ref in message.model_files),
        max_length=message.max_length,
        head=message.head,
        dtype=message.dtype,
        parents=tuple(message.parents),
        shard=_shard_from_pb(message.shard) if message.HasField("shard") else None,
        task=message.task,
        quantize=tuple(sorted(message.quantize.items())),
        precision=message.precision,
        task_options=dict(message.task_options),
    )


def description_to_bytes(value: RunDescription) -> bytes:
    """RunDescription value -> bytes, for a carrier other than our service."""
    return description_to_pb(value).SerializeToString()


def description_from_bytes(data: bytes) -> RunDescription:
    """Inverse of `description_to_bytes`; raises ProtocolError on anything else."""
    try:
        return description_from_pb(pb.DescribeRunResponse.FromString(data))
    except DecodeError as cause:
        raise ProtocolError(f"not a run's description: {cause}") from None


def join_to_pb(value: Join) -> pb.JoinRequest:
    """Join value -> message."""
    profile = value.profile
    return pb.JoinRequest(
        protocol_min=value.protocol_min,
        protocol_max=value.protocol_max,
        role=_ROLES[value.role],
        device_uuid=value.device_uuid,
        epoch=value.epoch,
        profile=pb.DeviceProfile(name=value.name) if profile is None else _profile_to_pb(profile),
        fingerprint=_fingerprint_to_pb(value.fingerprint),
        max_length=value.max_length,
        labels=value.labels,
        keep_set=value.keep_set,
        address=value.address,
        takes_revocations=value.takes_revocations,
    )


def join_from_pb(message: pb.JoinRequest) -> Join:
    """Join message -> value; raises ProtocolError on an unknown role, ConfigError on a bad profile."""
    role = _ROLE_VALUES.get(message.role)
    if role is None:
        raise ProtocolError(f"join of {message.profile.name!r}: unknown role {message.role}; update the client")
    return Join(
        protocol_min=message.protocol_min,
        protocol_max=message.protocol_max,
        role=role,
        name=message.profile.name,
        device_uuid=message.device_uuid,
        epoch=message.epoch,
        profile=_profile_from_pb(message.profile) if role is Role.DEVICE else None,
        fingerprint=_fingerprint_from_pb(message.fingerprint),
        max_length=message.max_length,
        labels=tuple(message.labels),
        keep_set=message.keep_set,
        address=message.address,
        takes_revocations=message.takes_revocations,
    )


def welcome_to_pb(value: Welcome) -> pb.JoinResponse:
    """Welcome value -> message."""
    return pb.JoinResponse(
        session=value.session,
        labels=value.labels,
        lease_s=value.lease_s,
        keep_set=value.keep_set,
        targets=value.targets,
        answers_beats=value.answers_beats,
    )


def welcome_from_pb(message: pb.JoinResponse) -> Welcome:
    """Welcome message -> value."""
    return Welcome(
        session=message.session,
        labels=tuple(message.labels),
        lease_s=message.lease_s,
        keep_set=message.keep_set,
        targets=tuple(message.targets),
        answers_beats=message.answers_beats,
    )


def progress_to_pb(value: Progress) -> pb.Progress:
    """Progress value -> message."""
    return pb.Progress(round=value.round, step=value.step, steps=value.steps)


def progress_from_pb(message: pb.Progress) -> Progress:
    """Progress message -> value."""
    return Progress(round=message.round, step=message.step, steps=message.steps)


def _fingerprint_to_pb(value: Fingerprint) -> pb.Fingerprint:
    return pb.Fingerprint(tensors=value.tensors, config=value.config, tokenizer=value.tokenizer)


def _fingerprint_from_pb(message: pb.Fingerprint) -> Fingerprint:
    return Fingerprint(tensors=message.tensors, config=message.config, tokenizer=message.tokenizer)


def _shard_to_pb(value: Shard) -> pb.Shard:
    return pb.Shard(index=value.index, count=value.count, partition=value.partition, alpha=value.alpha, seed=value.seed)


def _shard_from_pb(message: pb.Shard) -> Shard:
    return Shard(
        index=message.index,
        count=message.count,
        partition=message.partition,
        alpha=message.alpha,
        seed=message.seed,
    )


def _profile_to_pb(value: DeviceProfile) -> pb.DeviceProfile:
    return pb.DeviceProfile(
        name=value.name,
        device_class=value.device_class,
        num_examples=value.num_examples,
        memory_mb=value.memory_mb,
        slowdown=value.slowdown,
        uplink_mbps=value.uplink_mbps,
        downlink_mbps=value.downlink_mbps,
        label_counts=dict(value.label_counts),
        network=value.network,
        codecs=value.codecs,
        trial=pb.Trial(
            gflops=value.trial.gflops,
            downlink_mbps=value.trial.downlink_mbps,
            uplink_mbps=value.trial.uplink_mbps,
            memory_scale=value.trial.memory_scale,
        ),
        precision=value.precision,
    )


def _profile_from_pb(message: pb.DeviceProfile) -> DeviceProfile:
    return DeviceProfile(
        name=message.name,
        device_class=message.device_class,
        num_examples=message.num_examples,
        memory_mb=message.memory_mb,
        slowdown=message.slowdown,
        uplink_mbps=message.uplink_mbps,
        downlink_mbps=message.downlink_mbps,
        label_counts=tuple(sorted(message.label_counts.items())),
        network=message.network,
        codecs=tuple(message.codecs),
        trial=SelfMeasurement(
            gflops=message.trial.gflops,
            downlink_mbps=message.trial.downlink_mbps,
            uplink_mbps=message.trial.uplink_mbps,
            memory_scale=message.trial.memory_scale,
        ),
        precision=message.precision,
    )
