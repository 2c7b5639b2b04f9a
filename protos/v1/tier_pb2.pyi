from fedcore.protos.v1 import blob_pb2 as _blob_pb2
from fedcore.protos.v1 import device_pb2 as _device_pb2
from fedcore.protos.v1 import round_pb2 as _round_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LeafRequest(_message.Message):
    __slots__ = ("device", "join", "left")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    JOIN_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    device: str
    join: _device_pb2.JoinRequest
    left: LeafLeft
    def __init__(self, device: _Optional[str] = ..., join: _Optional[_Union[_device_pb2.JoinRequest, _Mapping]] = ..., left: _Optional[_Union[LeafLeft, _Mapping]] = ...) -> None: ...

class LeafLeft(_message.Message):
    __slots__ = ("lost", "revoked")
    LOST_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    lost: bool
    revoked: bool
    def __init__(self, lost: _Optional[bool] = ..., revoked: _Optional[bool] = ...) -> None: ...

class LeafResponse(_message.Message):
    __slots__ = ("device", "joined", "refused", "dismissed")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    JOINED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    DISMISSED_FIELD_NUMBER: _ClassVar[int]
    device: str
    joined: _device_pb2.JoinResponse
    refused: LeafRefusal
    dismissed: LeafDismissal
    def __init__(self, device: _Optional[str] = ..., joined: _Optional[_Union[_device_pb2.JoinResponse, _Mapping]] = ..., refused: _Optional[_Union[LeafRefusal, _Mapping]] = ..., dismissed: _Optional[_Union[LeafDismissal, _Mapping]] = ...) -> None: ...

class LeafRefusal(_message.Message):
    __slots__ = ("error", "message")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    error: str
    message: str
    def __init__(self, error: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class LeafDismissal(_message.Message):
    __slots__ = ("goodbye", "epoch")
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    goodbye: str
    epoch: int
    def __init__(self, goodbye: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class TierSpec(_message.Message):
    __slots__ = ("aggregator", "rank", "targets", "head", "geometry")
    AGGREGATOR_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    GEOMETRY_FIELD_NUMBER: _ClassVar[int]
    aggregator: str
    rank: int
    targets: _containers.RepeatedScalarFieldContainer[str]
    head: _containers.RepeatedCompositeFieldContainer[TensorShape]
    geometry: ModelGeometry
    def __init__(self, aggregator: _Optional[str] = ..., rank: _Optional[int] = ..., targets: _Optional[_Iterable[str]] = ..., head: _Optional[_Iterable[_Union[TensorShape, _Mapping]]] = ..., geometry: _Optional[_Union[ModelGeometry, _Mapping]] = ...) -> None: ...

class TensorShape(_message.Message):
    __slots__ = ("name", "dims")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    name: str
    dims: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., dims: _Optional[_Iterable[int]] = ...) -> None: ...

class ModelGeometry(_message.Message):
    __slots__ = ("family", "model_type", "layers", "hidden", "query_heads", "kv_heads", "head_dim", "ffn", "vocab", "positions", "token_types", "qkv_bias", "o_bias", "ffn_bias")
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    MODEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    QUERY_HEADS_FIELD_NUMBER: _ClassVar[int]
    KV_HEADS_FIELD_NUMBER: _ClassVar[int]
    HEAD_DIM_FIELD_NUMBER: _ClassVar[int]
    FFN_FIELD_NUMBER: _ClassVar[int]
    VOCAB_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TYPES_FIELD_NUMBER: _ClassVar[int]
    QKV_BIAS_FIELD_NUMBER: _ClassVar[int]
    O_BIAS_FIELD_NUMBER: _ClassVar[int]
    FFN_BIAS_FIELD_NUMBER: _ClassVar[int]
    family: str
    model_type: str
    layers: int
    hidden: int
    query_heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    positions: int
    token_types: int
    qkv_bias: bool
    o_bias: bool
    ffn_bias: bool
    def __init__(self, family: _Optional[str] = ..., model_type: _Optional[str] = ..., layers: _Optional[int] = ..., hidden: _Optional[int] = ..., query_heads: _Optional[int] = ..., kv_heads: _Optional[int] = ..., head_dim: _Optional[int] = ..., ffn: _Optional[int] = ..., vocab: _Optional[int] = ..., positions: _Optional[int] = ..., token_types: _Optional[int] = ..., qkv_bias: _Optional[bool] = ..., o_bias: _Optional[bool] = ..., ffn_bias: _Optional[bool] = ...) -> None: ...

class RoundShare(_message.Message):
    __slots__ = ("round", "deadline_s", "spec", "assignments", "blobs")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    round: int
    deadline_s: float
    spec: TierSpec
    assignments: _containers.RepeatedCompositeFieldContainer[LeafAssignment]
    blobs: _containers.RepeatedCompositeFieldContainer[_blob_pb2.BlobRef]
    def __init__(self, round: _Optional[int] = ..., deadline_s: _Optional[float] = ..., spec: _Optional[_Union[TierSpec, _Mapping]] = ..., assignments: _Optional[_Iterable[_Union[LeafAssignment, _Mapping]]] = ..., blobs: _Optional[_Iterable[_Union[_blob_pb2.BlobRef, _Mapping]]] = ...) -> None: ...

class LeafAssignment(_message.Message):
    __slots__ = ("device", "assignment")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    device: str
    assignment: _round_pb2.Assignment
    def __init__(self, device: _Optional[str] = ..., assignment: _Optional[_Union[_round_pb2.Assignment, _Mapping]] = ...) -> None: ...

class PartialSubmission(_message.Message):
    __slots__ = ("round", "number", "partial", "scores", "leaves")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    round: int
    number: int
    partial: _blob_pb2.BlobRef
    scores: _blob_pb2.BlobRef
    leaves: _containers.RepeatedCompositeFieldContainer[LeafOutcome]
    def __init__(self, round: _Optional[int] = ..., number: _Optional[int] = ..., partial: _Optional[_Union[_blob_pb2.BlobRef, _Mapping]] = ..., scores: _Optional[_Union[_blob_pb2.BlobRef, _Mapping]] = ..., leaves: _Optional[_Iterable[_Union[LeafOutcome, _Mapping]]] = ...) -> None: ...

class LeafOutcome(_message.Message):
    __slots__ = ("device", "counted", "time_s", "report", "scores_bytes", "message", "fold_s", "out_of_memory")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    SCORES_BYTES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FOLD_S_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_MEMORY_FIELD_NUMBER: _ClassVar[int]
    device: str
    counted: bool
    time_s: float
    report: _round_pb2.DeviceReport
    scores_bytes: int
    message: str
    fold_s: float
    out_of_memory: bool
    def __init__(self, device: _Optional[str] = ..., counted: _Optional[bool] = ..., time_s: _Optional[float] = ..., report: _Optional[_Union[_round_pb2.DeviceReport, _Mapping]] = ..., scores_bytes: _Optional[int] = ..., message: _Optional[str] = ..., fold_s: _Optional[float] = ..., out_of_memory: _Optional[bool] = ...) -> None: ...

class PartialVerdict(_message.Message):
    __slots__ = ("round", "number", "verdict", "devices", "message")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    round: int
    number: int
    verdict: _round_pb2.Verdict
    devices: _containers.RepeatedScalarFieldContainer[str]
    message: str
    def __init__(self, round: _Optional[int] = ..., number: _Optional[int] = ..., verdict: _Optional[_Union[_round_pb2.Verdict, str]] = ..., devices: _Optional[_Iterable[str]] = ..., message: _Optional[str] = ...) -> None: ...

class Revocations(_message.Message):
    __slots__ = ("crl",)
    CRL_FIELD_NUMBER: _ClassVar[int]
    crl: bytes
    def __init__(self, crl: _Optional[bytes] = ...) -> None: ...

class Holding(_message.Message):
    __slots__ = ("blobs",)
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    blobs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, blobs: _Optional[_Iterable[str]] = ...) -> None: ...
