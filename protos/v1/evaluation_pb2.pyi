from fedcore.protos.v1 import blob_pb2 as _blob_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GlobalAdapter(_message.Message):
    __slots__ = ("round", "rank_blocks", "head", "base_shift")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    RANK_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    BASE_SHIFT_FIELD_NUMBER: _ClassVar[int]
    round: int
    rank_blocks: _containers.RepeatedCompositeFieldContainer[_blob_pb2.BlobRef]
    head: _blob_pb2.BlobRef
    base_shift: _blob_pb2.BaseShift
    def __init__(self, round: _Optional[int] = ..., rank_blocks: _Optional[_Iterable[_Union[_blob_pb2.BlobRef, _Mapping]]] = ..., head: _Optional[_Union[_blob_pb2.BlobRef, _Mapping]] = ..., base_shift: _Optional[_Union[_blob_pb2.BaseShift, _Mapping]] = ...) -> None: ...

class EvaluatorTask(_message.Message):
    __slots__ = ("id", "evaluate", "export", "reference")
    ID_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_FIELD_NUMBER: _ClassVar[int]
    EXPORT_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    id: int
    evaluate: EvaluateTask
    export: ExportTask
    reference: ReferenceTask
    def __init__(self, id: _Optional[int] = ..., evaluate: _Optional[_Union[EvaluateTask, _Mapping]] = ..., export: _Optional[_Union[ExportTask, _Mapping]] = ..., reference: _Optional[_Union[ReferenceTask, _Mapping]] = ...) -> None: ...

class EvaluateTask(_message.Message):
    __slots__ = ("adapter", "rows", "lora_scale", "keep_set", "device_class", "floors", "majority", "sparsity", "offsets")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    LORA_SCALE_FIELD_NUMBER: _ClassVar[int]
    KEEP_SET_FIELD_NUMBER: _ClassVar[int]
    DEVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    FLOORS_FIELD_NUMBER: _ClassVar[int]
    MAJORITY_FIELD_NUMBER: _ClassVar[int]
    SPARSITY_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    adapter: GlobalAdapter
    rows: int
    lora_scale: float
    keep_set: _blob_pb2.BlobRef
    device_class: str
    floors: bool
    majority: str
    sparsity: float
    offsets: bool
    def __init__(self, adapter: _Optional[_Union[GlobalAdapter, _Mapping]] = ..., rows: _Optional[int] = ..., lora_scale: _Optional[float] = ..., keep_set: _Optional[_Union[_blob_pb2.BlobRef, _Mapping]] = ..., device_class: _Optional[str] = ..., floors: _Optional[bool] = ..., majority: _Optional[str] = ..., sparsity: _Optional[float] = ..., offsets: _Optional[bool] = ...) -> None: ...

class ExportTask(_message.Message):
    __slots__ = ("device_class", "adapter", "keep_set", "lora_scale", "offsets")
    DEVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    KEEP_SET_FIELD_NUMBER: _ClassVar[int]
    LORA_SCALE_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    device_class: str
    adapter: GlobalAdapter
    keep_set: _blob_pb2.BlobRef
    lora_scale: float
    offsets: bool
    def __init__(self, device_class: _Optional[str] = ..., adapter: _Optional[_Union[GlobalAdapter, _Mapping]] = ..., keep_set: _Optional[_Union[_blob_pb2.BlobRef, _Mapping]] = ..., lora_scale: _Optional[float] = ..., offsets: _Optional[bool] = ...) -> None: ...

class ReferenceTask(_message.Message):
    __slots__ = ("steps", "rank", "batch_size", "learning_rate", "weight_decay", "lora_scale", "seed", "start")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    LORA_SCALE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    steps: int
    rank: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    lora_scale: float
    seed: int
    start: GlobalAdapter
    def __init__(self, steps: _Optional[int] = ..., rank: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., weight_decay: _Optional[float] = ..., lora_scale: _Optional[float] = ..., seed: _Optional[int] = ..., start: _Optional[_Union[GlobalAdapter, _Mapping]] = ...) -> None: ...

class Metrics(_message.Message):
    __slots__ = ("accuracy", "auc", "macro_f1", "loss", "rows", "answers", "figures", "samples")
    class FiguresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    AUC_FIELD_NUMBER: _ClassVar[int]
    MACRO_F1_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    accuracy: float
    auc: float
    macro_f1: float
    loss: float
    rows: int
    answers: _containers.RepeatedScalarFieldContainer[int]
    figures: _containers.ScalarMap[str, float]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    def __init__(self, accuracy: _Optional[float] = ..., auc: _Optional[float] = ..., macro_f1: _Optional[float] = ..., loss: _Optional[float] = ..., rows: _Optional[int] = ..., answers: _Optional[_Iterable[int]] = ..., figures: _Optional[_Mapping[str, float]] = ..., samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("prompt", "reference", "answer")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    reference: str
    answer: str
    def __init__(self, prompt: _Optional[str] = ..., reference: _Optional[str] = ..., answer: _Optional[str] = ...) -> None: ...

class Floor(_message.Message):
    __slots__ = ("accuracy", "macro_f1", "rows", "figures")
    class FiguresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    MACRO_F1_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    accuracy: float
    macro_f1: float
    rows: int
    figures: _containers.ScalarMap[str, float]
    def __init__(self, accuracy: _Optional[float] = ..., macro_f1: _Optional[float] = ..., rows: _Optional[int] = ..., figures: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Floors(_message.Message):
    __slots__ = ("majority_label", "majority", "tfidf", "tfidf_rows", "cross_validated")
    MAJORITY_LABEL_FIELD_NUMBER: _ClassVar[int]
    MAJORITY_FIELD_NUMBER: _ClassVar[int]
    TFIDF_FIELD_NUMBER: _ClassVar[int]
    TFIDF_ROWS_FIELD_NUMBER: _ClassVar[int]
    CROSS_VALIDATED_FIELD_NUMBER: _ClassVar[int]
    majority_label: str
    majority: Floor
    tfidf: Floor
    tfidf_rows: int
    cross_validated: bool
    def __init__(self, majority_label: _Optional[str] = ..., majority: _Optional[_Union[Floor, _Mapping]] = ..., tfidf: _Optional[_Union[Floor, _Mapping]] = ..., tfidf_rows: _Optional[int] = ..., cross_validated: _Optional[bool] = ...) -> None: ...

class ExportReport(_message.Message):
    __slots__ = ("metrics", "files", "parameters", "dense_parameters", "latency_s", "dense_latency_s", "dense_size_bytes", "label_offsets")
    METRICS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    DENSE_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_S_FIELD_NUMBER: _ClassVar[int]
    DENSE_LATENCY_S_FIELD_NUMBER: _ClassVar[int]
    DENSE_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LABEL_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    metrics: Metrics
    files: _containers.RepeatedCompositeFieldContainer[_blob_pb2.BlobRef]
    parameters: int
    dense_parameters: int
    latency_s: float
    dense_latency_s: float
    dense_size_bytes: int
    label_offsets: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, metrics: _Optional[_Union[Metrics, _Mapping]] = ..., files: _Optional[_Iterable[_Union[_blob_pb2.BlobRef, _Mapping]]] = ..., parameters: _Optional[int] = ..., dense_parameters: _Optional[int] = ..., latency_s: _Optional[float] = ..., dense_latency_s: _Optional[float] = ..., dense_size_bytes: _Optional[int] = ..., label_offsets: _Optional[_Iterable[float]] = ...) -> None: ...

class EvaluatorResult(_message.Message):
    __slots__ = ("id", "error", "metrics", "export", "keep_set", "floors")
    ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    EXPORT_FIELD_NUMBER: _ClassVar[int]
    KEEP_SET_FIELD_NUMBER: _ClassVar[int]
    FLOORS_FIELD_NUMBER: _ClassVar[int]
    id: int
    error: str
    metrics: Metrics
    export: ExportReport
    keep_set: str
    floors: Floors
    def __init__(self, id: _Optional[int] = ..., error: _Optional[str] = ..., metrics: _Optional[_Union[Metrics, _Mapping]] = ..., export: _Optional[_Union[ExportReport, _Mapping]] = ..., keep_set: _Optional[str] = ..., floors: _Optional[_Union[Floors, _Mapping]] = ...) -> None: ...
