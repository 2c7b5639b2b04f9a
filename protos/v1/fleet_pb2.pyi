from fedcore.protos.v1 import app_pb2 as _app_pb2
from fedcore.protos.v1 import blob_pb2 as _blob_pb2
from fedcore.protos.v1 import device_pb2 as _device_pb2
from fedcore.protos.v1 import evaluation_pb2 as _evaluation_pb2
from fedcore.protos.v1 import round_pb2 as _round_pb2
from fedcore.protos.v1 import tier_pb2 as _tier_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConnectRequest(_message.Message):
    __slots__ = ("join", "heartbeat", "progress", "update", "failure", "result", "leaf", "partial", "holding", "app_reply")
    JOIN_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    HOLDING_FIELD_NUMBER: _ClassVar[int]
    APP_REPLY_FIELD_NUMBER: _ClassVar[int]
    join: _device_pb2.JoinRequest
    heartbeat: _device_pb2.Heartbeat
    progress: _device_pb2.Progress
    update: _round_pb2.UpdateSubmission
    failure: _round_pb2.AssignmentFailure
    result: _evaluation_pb2.EvaluatorResult
    leaf: _tier_pb2.LeafRequest
    partial: _tier_pb2.PartialSubmission
    holding: _tier_pb2.Holding
    app_reply: _app_pb2.AppReply
    def __init__(self, join: _Optional[_Union[_device_pb2.JoinRequest, _Mapping]] = ..., heartbeat: _Optional[_Union[_device_pb2.Heartbeat, _Mapping]] = ..., progress: _Optional[_Union[_device_pb2.Progress, _Mapping]] = ..., update: _Optional[_Union[_round_pb2.UpdateSubmission, _Mapping]] = ..., failure: _Optional[_Union[_round_pb2.AssignmentFailure, _Mapping]] = ..., result: _Optional[_Union[_evaluation_pb2.EvaluatorResult, _Mapping]] = ..., leaf: _Optional[_Union[_tier_pb2.LeafRequest, _Mapping]] = ..., partial: _Optional[_Union[_tier_pb2.PartialSubmission, _Mapping]] = ..., holding: _Optional[_Union[_tier_pb2.Holding, _Mapping]] = ..., app_reply: _Optional[_Union[_app_pb2.AppReply, _Mapping]] = ...) -> None: ...

class ConnectResponse(_message.Message):
    __slots__ = ("joined", "assignment", "verdict", "round_closed", "task", "goodbye", "leaf", "share", "partial_verdict", "heartbeat", "app_task", "revocations")
    JOINED_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    ROUND_CLOSED_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_VERDICT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    APP_TASK_FIELD_NUMBER: _ClassVar[int]
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    joined: _device_pb2.JoinResponse
    assignment: _round_pb2.Assignment
    verdict: _round_pb2.UpdateVerdict
    round_closed: _round_pb2.RoundClosed
    task: _evaluation_pb2.EvaluatorTask
    goodbye: Goodbye
    leaf: _tier_pb2.LeafResponse
    share: _tier_pb2.RoundShare
    partial_verdict: _tier_pb2.PartialVerdict
    heartbeat: _device_pb2.Heartbeat
    app_task: _app_pb2.AppTask
    revocations: _tier_pb2.Revocations
    def __init__(self, joined: _Optional[_Union[_device_pb2.JoinResponse, _Mapping]] = ..., assignment: _Optional[_Union[_round_pb2.Assignment, _Mapping]] = ..., verdict: _Optional[_Union[_round_pb2.UpdateVerdict, _Mapping]] = ..., round_closed: _Optional[_Union[_round_pb2.RoundClosed, _Mapping]] = ..., task: _Optional[_Union[_evaluation_pb2.EvaluatorTask, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., leaf: _Optional[_Union[_tier_pb2.LeafResponse, _Mapping]] = ..., share: _Optional[_Union[_tier_pb2.RoundShare, _Mapping]] = ..., partial_verdict: _Optional[_Union[_tier_pb2.PartialVerdict, _Mapping]] = ..., heartbeat: _Optional[_Union[_device_pb2.Heartbeat, _Mapping]] = ..., app_task: _Optional[_Union[_app_pb2.AppTask, _Mapping]] = ..., revocations: _Optional[_Union[_tier_pb2.Revocations, _Mapping]] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...
