"""Messages between an edge and the tier above it: devices below the edge, shares of a round, partials."""

from typing import cast

from fedcore.core.errors import FedcoreError, ProtocolError
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.families import Shape
from fedcore.core.model.geometry import Geometry
from fedcore.protos.convert import device as device_wire
from fedcore.protos.convert import round as round_wire
from fedcore.protos.convert.blob import ref_from_pb, ref_to_pb
from fedcore.protos.tier_values import (
    LeafDismissed,
    LeafJoin,
    LeafJoined,
    LeafLeft,
    LeafOutcome,
    LeafRefused,
    PartialSubmission,
    PartialVerdict,
    RoundShare,
    TierSpec,
)
from fedcore.protos.v1 import tier_pb2 as pb
from fedcore.protos.values import Role

_COUNTS = ("layers", "hidden", "query_heads", "kv_heads", "head_dim", "ffn", "vocab", "positions", "token_types")
_FLAGS = ("qkv_bias", "o_bias", "ffn_bias")
_FAMILIES = ("bert", "llama", "gpt")


def leaf_request_to_pb(value: LeafJoin | LeafLeft) -> pb.LeafRequest:
    """Value that an edge sends for a device below it -> message."""
    if isinstance(value, LeafJoin):
        return pb.LeafRequest(device=value.device, join=device_wire.join_to_pb(value.join))
    return pb.LeafRequest(device=value.device, left=pb.LeafLeft(lost=value.lost, revoked=value.revoked))


def leaf_request_from_pb(message: pb.LeafRequest) -> LeafJoin | LeafLeft:
    """Message -> value that an edge sends for a device; raises ProtocolError on an unknown kind or a wrong name."""
    match message.WhichOneof("kind"):
        case "join":
            join = device_wire.join_from_pb(message.join)
            if join.name != message.device or join.role is not Role.DEVICE:
                raise ProtocolError(f"an edge presented {join.role} {join.name!r} as device {message.device!r}")
            return LeafJoin(join=join)
        case "left":
            return LeafLeft(device=message.device, lost=message.left.lost, revoked=message.left.revoked)
    raise ProtocolError(f"an edge said something unknown for {message.device!r}; update the coordinator")


def leaf_response_to_pb(value: LeafJoined | LeafRefused | LeafDismissed) -> pb.LeafResponse:
    """Value that the tier above sends to a device below an edge -> message."""
    match value:
        case LeafJoined():
            return pb.LeafResponse(device=value.device, joined=device_wire.welcome_to_pb(value.welcome))
        case LeafRefused():
            refusal = pb.LeafRefusal(error=value.error, message=value.message)
            return pb.LeafResponse(device=value.device, refused=refusal)
        case LeafDismissed():
            return pb.LeafResponse(
                device=value.device, dismissed=pb.LeafDismissal(goodbye=value.goodbye, epoch=value.epoch)
            )


def leaf_response_from_pb(message: pb.LeafResponse) -> LeafJoined | LeafRefused | LeafDismissed:
    """Message -> value that the tier above sends to a device; raises ProtocolError on an unknown kind."""
    match message.WhichOneof("kind"):
        case "joined":
            return LeafJoined(device=message.device, welcome=device_wire.welcome_from_pb(message.joined))
        case "refused":
            return LeafRefused(device=message.device, error=message.refused.error, message=message.refused.message)
        case "dismissed":
            dismissed = message.dismissed
            return LeafDismissed(device=message.device, epoch=dismissed.epoch, goodbye=dismissed.goodbye)
    raise ProtocolError(f"the tier above said something unknown to {message.device!r}; update the edge")


def share_to_pb(value: RoundShare) -> pb.RoundShare:
    """RoundShare value -> message."""
    return pb.RoundShare(
        round=value.round,
        deadline_s=value.deadline_s,
        spec=_spec_to_pb(value.spec),
        assignments=[
            pb.LeafAssignment(device=device, assignment=round_wire.assignment_to_pb(assignment))
            for device, assignment in value.assignments
        ],
        blobs=[ref_to_pb(ref) for ref in value.blobs],
    )


def share_from_pb(message: pb.RoundShare) -> RoundShare:
    """RoundShare message -> value; raises ProtocolError on shapes that no adapter can have."""
    return RoundShare(
        round=message.round,
        deadline_s=message.deadline_s,
        spec=_spec_from_pb(message.spec),
        assignments=tuple(
            (relayed.device, round_wire.assignment_from_pb(relayed.assignment)) for relayed in message.assignments
        ),
        blobs=tuple(ref_from_pb(ref) for ref in message.blobs),
    )


def partial_to_pb(value: PartialSubmission) -> pb.PartialSubmission:
    """PartialSubmission value -> message."""
    return pb.PartialSubmission(
        round=value.round,
        number=value.number,
        partial=None if value.partial is None else ref_to_pb(value.partial),
        scores=None if value.scores is None else ref_to_pb(value.scores),
        leaves=[_outcome_to_pb(leaf) for leaf in value.leaves],
    )


def partial_from_pb(message: pb.PartialSubmission) -> PartialSubmission:
    """PartialSubmission message -> value."""
    return PartialSubmission(
        round=message.round,
        number=message.number,
        partial=ref_from_pb(message.partial) if message.HasField("partial") else None,
        scores=ref_from_pb(message.scores) if message.HasField("scores") else None,
        leaves=tuple(_outcome_from_pb(leaf) for leaf in message.leaves),
    )


def partial_verdict_to_pb(value: PartialVerdict) -> pb.PartialVerdict:
    """PartialVerdict value -> message."""
    return pb.PartialVerdict(
        round=value.round,
        number=value.number,
        verdict=round_wire.VERDICTS[value.verdict],
        devices=value.devices,
        message=value.message,
    )


def partial_verdict_from_pb(message: pb.PartialVerdict) -> PartialVerdict:
    """PartialVerdict message -> value; raises ProtocolError on an unknown verdict."""
    return PartialVerdict(
        round=message.round,
        number=message.number,
        verdict=round_wire.verdict_value(message.verdict, message.round),
        devices=tuple(message.devices),
        message=message.message,
    )


def _outcome_to_pb(value: LeafOutcome) -> pb.LeafOutcome:
    return pb.LeafOutcome(
        device=value.device,
        counted=value.counted,
        time_s=value.time_s,
        report=None if value.report is None else round_wire.report_to_pb(value.report),
        scores_bytes=value.scores_bytes,
        message=value.message,
        fold_s=value.fold_s,
        out_of_memory=value.out_of_memory,
    )


def _outcome_from_pb(message: pb.LeafOutcome) -> LeafOutcome:
    return LeafOutcome(
        device=message.device,
        counted=message.counted,
        time_s=message.time_s,
        report=round_wire.report_from_pb(message.report) if message.HasField("report") else None,
        scores_bytes=message.scores_bytes,
        message=message.message,
        fold_s=message.fold_s,
        out_of_memory=message.out_of_memory,
    )


def _spec_to_pb(value: TierSpec) -> pb.TierSpec:
    adapter, geometry = value.adapter, value.adapter.geometry
    fields = {name: getattr(geometry, name) for name in ("family", "model_type", *_COUNTS, *_FLAGS)}
    return pb.TierSpec(
        aggregator=value.aggregator,
        rank=adapter.rank,
        targets=adapter.targets,
        head=[pb.TensorShape(name=name, dims=shape) for name, shape in adapter.head],
        geometry=pb.ModelGeometry(**fields),
    )


def _spec_from_pb(message: pb.TierSpec) -> TierSpec:
    geometry = message.geometry
    if geometry.family not in _FAMILIES:
        raise ProtocolError(f"unknown model family {geometry.family!r}; update the edge")
    counts = {name: getattr(geometry, name) for name in _COUNTS}
    flags = {name: getattr(geometry, name) for name in _FLAGS}
    family = cast(Shape, geometry.family)
    try:
        adapter = AdapterSpec(
            geometry=Geometry(family=family, model_type=geometry.model_type, **counts, **flags),
            rank=message.rank,
            targets=tuple(message.targets),
            head=tuple((tensor.name, tuple(tensor.dims)) for tensor in message.head),
        )
    except FedcoreError as cause:
        raise ProtocolError(f"the tier above sent shapes that are no adapter's: {cause}") from None
    return TierSpec(aggregator=message.aggregator, adapter=adapter)
