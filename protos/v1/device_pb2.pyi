from fedcore.protos.v1 import blob_pb2 as _blob_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_DEVICE: _ClassVar[Role]
    ROLE_EVALUATOR: _ClassVar[Role]
    ROLE_EDGE: _ClassVar[Role]
ROLE_UNSPECIFIED: Role
ROLE_DEVICE: Role
ROLE_EVALUATOR: Role
ROLE_EDGE: Role

class DeviceProfile(_message.Message):
    __slots__ = ("name", "device_class", "num_examples", "memory_mb", "slowdown", "uplink_mbps", "label_counts", "downlink_mbps", "network", "codecs", "trial", "precision")
    class LabelCountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    NUM_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    SLOWDOWN_FIELD_NUMBER: _ClassVar[int]
    UPLINK_MBPS_FIELD_NUMBER: _ClassVar[int]
    LABEL_COUNTS_FIELD_NUMBER: _ClassVar[int]
    DOWNLINK_MBPS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    CODECS_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    device_class: str
    num_examples: int
    memory_mb: float
    slowdown: float
    uplink_mbps: float
    label_counts: _containers.ScalarMap[str, int]
    downlink_mbps: float
    network: str
    codecs: _containers.RepeatedScalarFieldContainer[str]
    trial: Trial
    precision: str
    def __init__(self, name: _Optional[str] = ..., device_class: _Optional[str] = ..., num_examples: _Optional[int] = ..., memory_mb: _Optional[float] = ..., slowdown: _Optional[float] = ..., uplink_mbps: _Optional[float] = ..., label_counts: _Optional[_Mapping[str, int]] = ..., downlink_mbps: _Optional[float] = ..., network: _Optional[str] = ..., codecs: _Optional[_Iterable[str]] = ..., trial: _Optional[_Union[Trial, _Mapping]] = ..., precision: _Optional[str] = ...) -> None: ...

class Trial(_message.Message):
    __slots__ = ("gflops", "downlink_mbps", "uplink_mbps", "memory_scale")
    GFLOPS_FIELD_NUMBER: _ClassVar[int]
    DOWNLINK_MBPS_FIELD_NUMBER: _ClassVar[int]
    UPLINK_MBPS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_SCALE_FIELD_NUMBER: _ClassVar[int]
    gflops: float
    downlink_mbps: float
    uplink_mbps: float
    memory_scale: float
    def __init__(self, gflops: _Optional[float] = ..., downlink_mbps: _Optional[float] = ..., uplink_mbps: _Optional[float] = ..., memory_scale: _Optional[float] = ...) -> None: ...

class Fingerprint(_message.Message):
    __slots__ = ("tensors", "config", "tokenizer")
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FIELD_NUMBER: _ClassVar[int]
    tensors: str
    config: str
    tokenizer: str
    def __init__(self, tensors: _Optional[str] = ..., config: _Optional[str] = ..., tokenizer: _Optional[str] = ...) -> None: ...

class DescribeRunRequest(_message.Message):
    __slots__ = ("name", "device_class", "needs_model", "wants_shard", "device_uuid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    NEEDS_MODEL_FIELD_NUMBER: _ClassVar[int]
    WANTS_SHARD_FIELD_NUMBER: _ClassVar[int]
    DEVICE_UUID_FIELD_NUMBER: _ClassVar[int]
    name: str
    device_class: str
    needs_model: bool
    wants_shard: bool
    device_uuid: str
    def __init__(self, name: _Optional[str] = ..., device_class: _Optional[str] = ..., needs_model: _Optional[bool] = ..., wants_shard: _Optional[bool] = ..., device_uuid: _Optional[str] = ...) -> None: ...

class DescribeRunResponse(_message.Message):
    __slots__ = ("protocol_min", "protocol_max", "run_id", "labels", "fingerprint", "model_files", "max_length", "head", "dtype", "parents", "shard", "task", "precision", "quantize", "task_options")
    class QuantizeEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class TaskOptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FILES_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    QUANTIZE_FIELD_NUMBER: _ClassVar[int]
    TASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    protocol_min: int
    protocol_max: int
    run_id: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    fingerprint: Fingerprint
    model_files: _containers.RepeatedCompositeFieldContainer[_blob_pb2.BlobRef]
    max_length: int
    head: str
    dtype: str
    parents: _containers.RepeatedScalarFieldContainer[str]
    shard: Shard
    task: str
    precision: str
    quantize: _containers.ScalarMap[str, str]
    task_options: _containers.ScalarMap[str, str]
    def __init__(self, protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., run_id: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., fingerprint: _Optional[_Union[Fingerprint, _Mapping]] = ..., model_files: _Optional[_Iterable[_Union[_blob_pb2.BlobRef, _Mapping]]] = ..., max_length: _Optional[int] = ..., head: _Optional[str] = ..., dtype: _Optional[str] = ..., parents: _Optional[_Iterable[str]] = ..., shard: _Optional[_Union[Shard, _Mapping]] = ..., task: _Optional[str] = ..., precision: _Optional[str] = ..., quantize: _Optional[_Mapping[str, str]] = ..., task_options: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Shard(_message.Message):
    __slots__ = ("index", "count", "partition", "alpha", "seed")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    index: int
    count: int
    partition: str
    alpha: float
    seed: int
    def __init__(self, index: _Optional[int] = ..., count: _Optional[int] = ..., partition: _Optional[str] = ..., alpha: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("protocol_min", "protocol_max", "role", "device_uuid", "epoch", "profile", "fingerprint", "max_length", "labels", "keep_set", "address", "takes_revocations")
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_UUID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    KEEP_SET_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TAKES_REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    protocol_min: int
    protocol_max: int
    role: Role
    device_uuid: str
    epoch: int
    profile: DeviceProfile
    fingerprint: Fingerprint
    max_length: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    keep_set: str
    address: str
    takes_revocations: bool
    def __init__(self, protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., role: _Optional[_Union[Role, str]] = ..., device_uuid: _Optional[str] = ..., epoch: _Optional[int] = ..., profile: _Optional[_Union[DeviceProfile, _Mapping]] = ..., fingerprint: _Optional[_Union[Fingerprint, _Mapping]] = ..., max_length: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., keep_set: _Optional[str] = ..., address: _Optional[str] = ..., takes_revocations: _Optional[bool] = ...) -> None: ...

class JoinResponse(_message.Message):
    __slots__ = ("session", "labels", "lease_s", "keep_set", "targets", "answers_beats")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    KEEP_SET_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_BEATS_FIELD_NUMBER: _ClassVar[int]
    session: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    lease_s: float
    keep_set: str
    targets: _containers.RepeatedScalarFieldContainer[str]
    answers_beats: bool
    def __init__(self, session: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., lease_s: _Optional[float] = ..., keep_set: _Optional[str] = ..., targets: _Optional[_Iterable[str]] = ..., answers_beats: _Optional[bool] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Progress(_message.Message):
    __slots__ = ("round", "step", "steps")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    round: int
    step: int
    steps: int
    def __init__(self, round: _Optional[int] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ...) -> None: ...
