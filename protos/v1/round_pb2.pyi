from fedcore.protos.v1 import blob_pb2 as _blob_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrainedFactors(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRAINED_FACTORS_UNSPECIFIED: _ClassVar[TrainedFactors]
    TRAINED_FACTORS_A: _ClassVar[TrainedFactors]
    TRAINED_FACTORS_B: _ClassVar[TrainedFactors]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_ACCEPTED: _ClassVar[Verdict]
    VERDICT_LATE: _ClassVar[Verdict]
    VERDICT_REJECTED: _ClassVar[Verdict]
    VERDICT_UNKNOWN: _ClassVar[Verdict]
    VERDICT_OVERLAP: _ClassVar[Verdict]
TRAINED_FACTORS_UNSPECIFIED: TrainedFactors
TRAINED_FACTORS_A: TrainedFactors
TRAINED_FACTORS_B: TrainedFactors
VERDICT_UNSPECIFIED: Verdict
VERDICT_ACCEPTED: Verdict
VERDICT_LATE: Verdict
VERDICT_REJECTED: Verdict
VERDICT_UNKNOWN: Verdict
VERDICT_OVERLAP: Verdict

class TrainingSpec(_message.Message):
    __slots__ = ("batch_size", "learning_rate", "weight_decay", "lora_scale", "importance", "keep_optimizer", "codec", "trained_factors", "first_trained_layer", "distillation", "balanced", "trial", "score_layers", "checkpointing", "quantize", "replay")
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    LORA_SCALE_FIELD_NUMBER: _ClassVar[int]
    IMPORTANCE_FIELD_NUMBER: _ClassVar[int]
    KEEP_OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    TRAINED_FACTORS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TRAINED_LAYER_FIELD_NUMBER: _ClassVar[int]
    DISTILLATION_FIELD_NUMBER: _ClassVar[int]
    BALANCED_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    SCORE_LAYERS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTING_FIELD_NUMBER: _ClassVar[int]
    QUANTIZE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    batch_size: int
    learning_rate: float
    weight_decay: float
    lora_scale: float
    importance: str
    keep_optimizer: bool
    codec: str
    trained_factors: TrainedFactors
    first_trained_layer: int
    distillation: Distillation
    balanced: bool
    trial: RateTrial
    score_layers: bool
    checkpointing: bool
    quantize: str
    replay: float
    def __init__(self, batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., weight_decay: _Optional[float] = ..., lora_scale: _Optional[float] = ..., importance: _Optional[str] = ..., keep_optimizer: _Optional[bool] = ..., codec: _Optional[str] = ..., trained_factors: _Optional[_Union[TrainedFactors, str]] = ..., first_trained_layer: _Optional[int] = ..., distillation: _Optional[_Union[Distillation, _Mapping]] = ..., balanced: _Optional[bool] = ..., trial: _Optional[_Union[RateTrial, _Mapping]] = ..., score_layers: _Optional[bool] = ..., checkpointing: _Optional[bool] = ..., quantize: _Optional[str] = ..., replay: _Optional[float] = ...) -> None: ...

class RateTrial(_message.Message):
    __slots__ = ("rates", "steps")
    RATES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    rates: _containers.RepeatedScalarFieldContainer[float]
    steps: int
    def __init__(self, rates: _Optional[_Iterable[float]] = ..., steps: _Optional[int] = ...) -> None: ...

class Distillation(_message.Message):
    __slots__ = ("weight", "temperature", "mix")
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MIX_FIELD_NUMBER: _ClassVar[int]
    weight: float
    temperature: float
    mix: float
    def __init__(self, weight: _Optional[float] = ..., temperature: _Optional[float] = ..., mix: _Optional[float] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("round", "sparsity", "rank", "keep_set", "rank_blocks", "head", "local_steps", "weight", "seed", "deadline_s", "score", "training", "max_upload_bytes", "label_counts", "basis", "counted_round", "base_shift", "rings", "inside")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SPARSITY_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    KEEP_SET_FIELD_NUMBER: _ClassVar[int]
    RANK_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LOCAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    MAX_UPLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    LABEL_COUNTS_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    COUNTED_ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_SHIFT_FIELD_NUMBER: _ClassVar[int]
    RINGS_FIELD_NUMBER: _ClassVar[int]
    INSIDE_FIELD_NUMBER: _ClassVar[int]
    round: int
    sparsity: float
    rank: int
    keep_set: _blob_pb2.BlobRef
    rank_blocks: _containers.RepeatedCompositeFieldContainer[_blob_pb2.BlobRef]
    head: _blob_pb2.BlobRef
    local_steps: int
    weight: int
    seed: int
    deadline_s: float
    score: bool
    training: TrainingSpec
    max_upload_bytes: int
    label_counts: _containers.RepeatedScalarFieldContainer[int]
    basis: str
    counted_round: int
    base_shift: _blob_pb2.BaseShift
    rings: _containers.RepeatedCompositeFieldContainer[_blob_pb2.BlobRef]
    inside: _blob_pb2.BlobRef
    def __init__(self, round: _Optional[int] = ..., sparsity: _Optional[float] = ..., rank: _Optional[int] = ..., keep_set: _Optional[_Union[_blob_pb2.BlobRef, _Mapping]] = ..., rank_blocks: _Optional[_Iterable[_Union[_blob_pb2.BlobRef, _Mapping]]] = ..., head: _Optional[_Union[_blob_pb2.BlobRef, _Mapping]] = ..., local_steps: _Optional[int] = ..., weight: _Optional[int] = ..., seed: _Optional[int] = ..., deadline_s: _Optional[float] = ..., score: _Optional[bool] = ..., training: _Optional[_Union[TrainingSpec, _Mapping]] = ..., max_upload_bytes: _Optional[int] = ..., label_counts: _Optional[_Iterable[int]] = ..., basis: _Optional[str] = ..., counted_round: _Optional[int] = ..., base_shift: _Optional[_Union[_blob_pb2.BaseShift, _Mapping]] = ..., rings: _Optional[_Iterable[_Union[_blob_pb2.BlobRef, _Mapping]]] = ..., inside: _Optional[_Union[_blob_pb2.BlobRef, _Mapping]] = ...) -> None: ...

class PhaseTimes(_message.Message):
    __slots__ = ("download_s", "prune_s", "train_s", "encode_s", "upload_s")
    DOWNLOAD_S_FIELD_NUMBER: _ClassVar[int]
    PRUNE_S_FIELD_NUMBER: _ClassVar[int]
    TRAIN_S_FIELD_NUMBER: _ClassVar[int]
    ENCODE_S_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_S_FIELD_NUMBER: _ClassVar[int]
    download_s: float
    prune_s: float
    train_s: float
    encode_s: float
    upload_s: float
    def __init__(self, download_s: _Optional[float] = ..., prune_s: _Optional[float] = ..., train_s: _Optional[float] = ..., encode_s: _Optional[float] = ..., upload_s: _Optional[float] = ...) -> None: ...

class DeviceReport(_message.Message):
    __slots__ = ("loss_before", "loss_after", "train_loss", "phases", "peak_memory_mb", "adapter_importance", "num_examples", "steps", "bytes_down", "bytes_up", "repushed", "trial_losses", "energy_j", "temperature_c")
    LOSS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    LOSS_AFTER_FIELD_NUMBER: _ClassVar[int]
    TRAIN_LOSS_FIELD_NUMBER: _ClassVar[int]
    PHASES_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_IMPORTANCE_FIELD_NUMBER: _ClassVar[int]
    NUM_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    BYTES_DOWN_FIELD_NUMBER: _ClassVar[int]
    BYTES_UP_FIELD_NUMBER: _ClassVar[int]
    REPUSHED_FIELD_NUMBER: _ClassVar[int]
    TRIAL_LOSSES_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_C_FIELD_NUMBER: _ClassVar[int]
    loss_before: float
    loss_after: float
    train_loss: float
    phases: PhaseTimes
    peak_memory_mb: float
    adapter_importance: float
    num_examples: int
    steps: int
    bytes_down: int
    bytes_up: int
    repushed: bool
    trial_losses: _containers.RepeatedScalarFieldContainer[float]
    energy_j: float
    temperature_c: float
    def __init__(self, loss_before: _Optional[float] = ..., loss_after: _Optional[float] = ..., train_loss: _Optional[float] = ..., phases: _Optional[_Union[PhaseTimes, _Mapping]] = ..., peak_memory_mb: _Optional[float] = ..., adapter_importance: _Optional[float] = ..., num_examples: _Optional[int] = ..., steps: _Optional[int] = ..., bytes_down: _Optional[int] = ..., bytes_up: _Optional[int] = ..., repushed: _Optional[bool] = ..., trial_losses: _Optional[_Iterable[float]] = ..., energy_j: _Optional[float] = ..., temperature_c: _Optional[float] = ...) -> None: ...

class UpdateSubmission(_message.Message):
    __slots__ = ("round", "update", "scores", "keep_set", "report")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    KEEP_SET_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    round: int
    update: _blob_pb2.BlobRef
    scores: _blob_pb2.BlobRef
    keep_set: str
    report: DeviceReport
    def __init__(self, round: _Optional[int] = ..., update: _Optional[_Union[_blob_pb2.BlobRef, _Mapping]] = ..., scores: _Optional[_Union[_blob_pb2.BlobRef, _Mapping]] = ..., keep_set: _Optional[str] = ..., report: _Optional[_Union[DeviceReport, _Mapping]] = ...) -> None: ...

class AssignmentFailure(_message.Message):
    __slots__ = ("round", "message", "out_of_memory")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_MEMORY_FIELD_NUMBER: _ClassVar[int]
    round: int
    message: str
    out_of_memory: bool
    def __init__(self, round: _Optional[int] = ..., message: _Optional[str] = ..., out_of_memory: _Optional[bool] = ...) -> None: ...

class UpdateVerdict(_message.Message):
    __slots__ = ("round", "verdict", "message")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    round: int
    verdict: Verdict
    message: str
    def __init__(self, round: _Optional[int] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., message: _Optional[str] = ...) -> None: ...

class RoundClosed(_message.Message):
    __slots__ = ("round",)
    ROUND_FIELD_NUMBER: _ClassVar[int]
    round: int
    def __init__(self, round: _Optional[int] = ...) -> None: ...
