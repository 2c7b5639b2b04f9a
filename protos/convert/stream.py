"""The messages of an open device stream, by kind."""

from fedcore.errors import ProtocolError
from protos.convert import device, evaluation, round
from protos.v1 import device_pb2, fleet_pb2, round_pb2
from protos.values import (
    AssignmentFailure,
    Downward,
    EvaluatorResult,
    EvaluatorTask,
    Goodbye,
    Heartbeat,
    Join,
    Progress,
    RoundClosed,
    UpdateSubmission,
    UpdateVerdict,
    Upward,
    Welcome,
    Work,
)


def request(value: Upward) -> fleet_pb2.ConnectRequest:
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
            failure = round_pb2.AssignmentFailure(round=value.round, message=value.message)
            return fleet_pb2.ConnectRequest(failure=failure)
        case EvaluatorResult():
            return fleet_pb2.ConnectRequest(result=evaluation.result_to_pb(value))


def request_value(message: fleet_pb2.ConnectRequest) -> Upward:
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
            return AssignmentFailure(round=message.failure.round, message=message.failure.message)
        case "result":
            return evaluation.result_from_pb(message.result)
    raise ProtocolError("a device sent a message of an unknown kind; update the coordinator")


def response(value: Downward) -> fleet_pb2.ConnectResponse:
    """Value for a device -> stream message."""
    match value:
        case Welcome():
            return fleet_pb2.ConnectResponse(joined=device.welcome_to_pb(value))
        case Work():
            return fleet_pb2.ConnectResponse(assignment=round.work_to_pb(value))
        case UpdateVerdict():
            return fleet_pb2.ConnectResponse(verdict=round.verdict_to_pb(value))
        case RoundClosed():
            return fleet_pb2.ConnectResponse(round_closed=round_pb2.RoundClosed(round=value.round))
        case EvaluatorTask():
            return fleet_pb2.ConnectResponse(task=evaluation.task_to_pb(value))
        case Goodbye():
            return fleet_pb2.ConnectResponse(goodbye=fleet_pb2.Goodbye(reason=value.reason))


def response_value(message: fleet_pb2.ConnectResponse) -> Downward:
    """Stream message -> value for a device; raises ProtocolError on an unknown kind."""
    match message.WhichOneof("kind"):
        case "joined":
            return device.welcome_from_pb(message.joined)
        case "assignment":
            return round.work_from_pb(message.assignment)
        case "verdict":
            return round.verdict_from_pb(message.verdict)
        case "round_closed":
            return RoundClosed(round=message.round_closed.round)
        case "task":
            return evaluation.task_from_pb(message.task)
        case "goodbye":
            return Goodbye(reason=message.goodbye.reason)
    raise ProtocolError("the coordinator sent a message of an unknown kind; update the client")
