"""The messages of an open device stream, by kind."""

from google.protobuf.message import DecodeError

from fedcore.core.errors import ProtocolError
from fedcore.protos.convert import app, device, evaluation, round, tier
from fedcore.protos.tier_values import (
    AnyDownward,
    AnyUpward,
    Holding,
    LeafDismissed,
    LeafJoin,
    LeafJoined,
    LeafLeft,
    LeafRefused,
    PartialSubmission,
    PartialVerdict,
    Revocations,
    RoundShare,
)
from fedcore.protos.v1 import device_pb2, fleet_pb2, round_pb2, tier_pb2
from fedcore.protos.values import (
    AppReply,
    AppTask,
    AssignmentFailure,
    EvaluatorResult,
    EvaluatorTask,
    Goodbye,
    Heartbeat,
    Join,
    Progress,
    RoundClosed,
    UpdateSubmission,
    UpdateVerdict,
    Welcome,
    WireAssignment,
)


def request(value: AnyUpward) -> fleet_pb2.ConnectRequest:
    """Value from a device -> stream message."""
    match value:
        case Join():
            return fleet_pb2.ConnectRequest(join=device.join_to_pb(value))
        case Heartbeat():
            return fleet_pb2.ConnectRequest(heartbeat=device_pb2.Heartbeat())
        case Progress():
            return fleet_pb2.ConnectRequest(progress=device.progress_to_pb(value))
        case UpdateSubmission():
            return fleet_pb2.ConnectRequest(update=round.submission_to_pb(value))
        case AssignmentFailure():
            failure = round_pb2.AssignmentFailure(
                round=value.round, message=value.message, out_of_memory=value.out_of_memory
            )
            return fleet_pb2.ConnectRequest(failure=failure)
        case EvaluatorResult():
            return fleet_pb2.ConnectRequest(result=evaluation.result_to_pb(value))
        case LeafJoin() | LeafLeft():
            return fleet_pb2.ConnectRequest(leaf=tier.leaf_request_to_pb(value))
        case PartialSubmission():
            return fleet_pb2.ConnectRequest(partial=tier.partial_to_pb(value))
        case Holding():
            return fleet_pb2.ConnectRequest(holding=tier_pb2.Holding(blobs=value.blobs))
        case AppReply():
            return fleet_pb2.ConnectRequest(app_reply=app.reply_to_pb(value))


def request_value(message: fleet_pb2.ConnectRequest) -> AnyUpward:
    """Stream message -> value from a device; raises ProtocolError on an unknown kind."""
    match message.WhichOneof("kind"):
        case "join":
            return device.join_from_pb(message.join)
        case "heartbeat":
            return Heartbeat()
        case "progress":
            return device.progress_from_pb(message.progress)
        case "update":
            return round.submission_from_pb(message.update)
        case "failure":
            failure = message.failure
            return AssignmentFailure(round=failure.round, message=failure.message, out_of_memory=failure.out_of_memory)
        case "result":
            return evaluation.result_from_pb(message.result)
        case "leaf":
            return tier.leaf_request_from_pb(message.leaf)
        case "partial":
            return tier.partial_from_pb(message.partial)
        case "holding":
            return Holding(blobs=tuple(message.holding.blobs))
        case "app_reply":
            return app.reply_from_pb(message.app_reply)
    raise ProtocolError("a device sent a message of an unknown kind; update the coordinator")


def request_to_bytes(value: AnyUpward) -> bytes:
    """Value from a device -> bytes, for a carrier other than our stream."""
    return request(value).SerializeToString()


def request_from_bytes(data: bytes) -> AnyUpward:
    """Inverse of `request_to_bytes`; raises ProtocolError on anything else."""
    try:
        return request_value(fleet_pb2.ConnectRequest.FromString(data))
    except DecodeError as cause:
        raise ProtocolError(f"a device sent what is no message: {cause}") from None


def response(value: AnyDownward) -> fleet_pb2.ConnectResponse:
    """Value for a device -> stream message."""
    match value:
        case Welcome():
            return fleet_pb2.ConnectResponse(joined=device.welcome_to_pb(value))
        case WireAssignment():
            return fleet_pb2.ConnectResponse(assignment=round.assignment_to_pb(value))
        case UpdateVerdict():
            return fleet_pb2.ConnectResponse(verdict=round.verdict_to_pb(value))
        case RoundClosed():
            return fleet_pb2.ConnectResponse(round_closed=round_pb2.RoundClosed(round=value.round))
        case EvaluatorTask():
            return fleet_pb2.ConnectResponse(task=evaluation.task_to_pb(value))
        case AppTask():
            return fleet_pb2.ConnectResponse(app_task=app.task_to_pb(value))
        case Goodbye():
            return fleet_pb2.ConnectResponse(goodbye=fleet_pb2.Goodbye(reason=value.reason))
        case Heartbeat():
            return fleet_pb2.ConnectResponse(heartbeat=device_pb2.Heartbeat())
        case LeafJoined() | LeafRefused() | LeafDismissed():
            return fleet_pb2.ConnectResponse(leaf=tier.leaf_response_to_pb(value))
        case RoundShare():
            return fleet_pb2.ConnectResponse(share=tier.share_to_pb(value))
        case PartialVerdict():
            return fleet_pb2.ConnectResponse(partial_verdict=tier.partial_verdict_to_pb(value))
        case Revocations():
            return fleet_pb2.ConnectResponse(revocations=tier_pb2.Revocations(crl=value.crl))


def response_value(message: fleet_pb2.ConnectResponse) -> AnyDownward:
    """Stream message -> value for a device; raises ProtocolError on an unknown kind."""
    match message.WhichOneof("kind"):
        case "joined":
            return device.welcome_from_pb(message.joined)
        case "assignment":
            return round.assignment_from_pb(message.assignment)
        case "verdict":
            return round.verdict_from_pb(message.verdict)
        case "round_closed":
            return RoundClosed(round=message.round_closed.round)
        case "task":
            return evaluation.task_from_pb(message.task)
        case "app_task":
            return app.task_from_pb(message.app_task)
        case "goodbye":
            return Goodbye(reason=message.goodbye.reason)
        case "leaf":
            return tier.leaf_response_from_pb(message.leaf)
        case "share":
            return tier.share_from_pb(message.share)
        case "heartbeat":
            return Heartbeat()
        case "partial_verdict":
            return tier.partial_verdict_from_pb(message.partial_verdict)
        case "revocations":
            return Revocations(crl=message.revocations.crl)
    raise ProtocolError("the coordinator sent a message of an unknown kind; update the client")


def response_to_bytes(value: AnyDownward) -> bytes:
    """Value for a device -> bytes, for a carrier other than our stream."""
    return response(value).SerializeToString()


def response_from_bytes(data: bytes) -> AnyDownward:
    """Inverse of `response_to_bytes`; raises ProtocolError on anything else."""
    try:
        return response_value(fleet_pb2.ConnectResponse.FromString(data))
    except DecodeError as cause:
        raise ProtocolError(f"the coordinator sent what is no message: {cause}") from None
