"""Hypothesis strategies for every value that travels, over the whole range of its fields."""

from dataclasses import is_dataclass
from typing import Any

from hypothesis import strategies as st

from fedcore.assignment import Arm, TrainingSpec
from fedcore.fingerprint import Fingerprint
from fedcore.metrics import Metrics
from fedcore.outcome import PHASES, DeviceReport
from fedcore.profile import DeviceProfile
from protos import values
from protos.values import (
    AssignmentFailure,
    BlobRef,
    EvaluateTask,
    EvaluatorResult,
    EvaluatorTask,
    ExportOutcome,
    ExportTask,
    GlobalAdapter,
    Goodbye,
    Heartbeat,
    Join,
    Progress,
    ReferenceTask,
    Role,
    RoundClosed,
    RunDescription,
    UpdateSubmission,
    UpdateVerdict,
    UploadHeader,
    Verdict,
    Welcome,
    Work,
)

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
FLOATS = st.floats(allow_nan=False)
LIMITS = st.floats(min_value=0, max_value=1e300)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
NAMES = st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True)

REFS = st.builds(BlobRef, id=TEXT, size=U64, name=TEXT, inline=st.binary(max_size=8))
REF_LISTS = st.lists(REFS, max_size=3).map(tuple)
FINGERPRINTS = st.builds(Fingerprint, tensors=TEXT, config=TEXT, tokenizer=TEXT)
PROFILES = st.builds(
    DeviceProfile,
    name=NAMES,
    device_class=NAMES,
    num_examples=st.integers(1, 2**64 - 1),
    memory_mb=LIMITS,
    slowdown=st.floats(min_value=1, max_value=1e300),
    uplink_mbps=LIMITS,
    downlink_mbps=LIMITS,
    label_counts=st.dictionaries(TEXT, U64, max_size=3).map(lambda counts: tuple(sorted(counts.items()))),
)
REPORTS = st.builds(
    DeviceReport,
    loss_before=FLOATS,
    loss_after=FLOATS,
    train_loss=FLOATS,
    phase_s=st.fixed_dictionaries(dict.fromkeys(PHASES, FLOATS)),
    peak_memory_mb=FLOATS,
    adapter_importance=FLOATS,
    num_examples=U64,
    steps=U32,
    bytes_down=U64,
    bytes_up=U64,
)
ARMS = st.builds(Arm, sparsity=st.floats(min_value=0, max_value=1, exclude_max=True), rank=st.integers(1, 2**32 - 1))
TRAININGS = st.builds(
    TrainingSpec,
    batch_size=U32,
    learning_rate=FLOATS,
    weight_decay=FLOATS,
    lora_scale=FLOATS,
    importance=TEXT,
    keep_optimizer=st.booleans(),
    codec=TEXT,
)
METRICS = st.builds(Metrics, accuracy=FLOATS, auc=st.none() | FLOATS, macro_f1=FLOATS, loss=FLOATS, rows=U64)
ADAPTERS = st.builds(GlobalAdapter, round=U64, rank_blocks=REF_LISTS, head=REFS)

EVALUATE_TASKS = st.builds(EvaluateTask, adapter=ADAPTERS, rows=U64, lora_scale=FLOATS)
EXPORT_TASKS = st.builds(ExportTask, device_class=TEXT, adapter=ADAPTERS, keep_set=REFS, lora_scale=FLOATS)
REFERENCE_TASKS = st.builds(
    ReferenceTask,
    start=ADAPTERS,
    steps=U64,
    rank=U32,
    batch_size=U32,
    learning_rate=FLOATS,
    weight_decay=FLOATS,
    lora_scale=FLOATS,
    seed=U64,
)
EXPORT_OUTCOMES = st.builds(
    ExportOutcome,
    metrics=METRICS,
    files=REF_LISTS,
    parameters=U64,
    dense_parameters=U64,
    latency_s=FLOATS,
    dense_latency_s=FLOATS,
    dense_size_bytes=U64,
)
TASKS = st.builds(EvaluatorTask, id=U64, kind=EVALUATE_TASKS | EXPORT_TASKS | REFERENCE_TASKS)
RESULTS = st.builds(EvaluatorResult, id=U64, outcome=METRICS | EXPORT_OUTCOMES, error=st.just("")) | st.builds(
    EvaluatorResult, id=U64, outcome=st.none(), error=TEXT.filter(bool)
)


def _join(role: Role, name: str, profile: DeviceProfile, rest: dict[str, Any]) -> Join:
    device = role is Role.DEVICE
    return Join(role=role, name=profile.name if device else name, profile=profile if device else None, **rest)


JOINS = st.builds(
    _join,
    role=st.sampled_from(Role),
    name=NAMES,
    profile=PROFILES,
    rest=st.fixed_dictionaries(
        {
            "protocol_min": U32,
            "protocol_max": U32,
            "device_uuid": TEXT,
            "epoch": U64,
            "fingerprint": FINGERPRINTS,
            "max_length": U32,
            "labels": TEXTS,
            "keep_set": TEXT,
        }
    ),
)
DESCRIPTIONS = st.builds(
    RunDescription,
    protocol_min=U32,
    protocol_max=U32,
    run_id=TEXT,
    labels=TEXTS,
    fingerprint=FINGERPRINTS,
    model_files=REF_LISTS,
    max_length=U32,
    head=TEXT,
    dtype=TEXT,
)
SUBMISSIONS = st.builds(
    UpdateSubmission, round=U64, update=REFS, scores=st.none() | REFS, keep_set=TEXT, report=REPORTS
)
WORK = st.builds(
    Work,
    round=U64,
    arm=ARMS,
    keep_set=REFS,
    rank_blocks=REF_LISTS,
    head=REFS,
    local_steps=U32,
    weight=U64,
    seed=U64,
    deadline_s=FLOATS,
    score=st.booleans(),
    training=TRAININGS,
    max_upload_bytes=U64,
    basis=TEXT,
    label_counts=st.lists(U64, max_size=3).map(tuple),
)
VERDICTS = st.builds(UpdateVerdict, round=U64, verdict=st.sampled_from(Verdict), message=TEXT)
# The name and the bytes of the blob stay behind: an upload sends those itself.
HEADERS = st.builds(
    UploadHeader,
    blob=st.builds(BlobRef, id=TEXT, size=U64),
    offset=U64,
    sender=TEXT,
    session=TEXT,
    round=U64,
)

UPWARD: dict[type, st.SearchStrategy[Any]] = {
    Join: JOINS,
    Heartbeat: st.just(Heartbeat()),
    Progress: st.builds(Progress, round=U64, step=U32, steps=U32),
    UpdateSubmission: SUBMISSIONS,
    AssignmentFailure: st.builds(AssignmentFailure, round=U64, message=TEXT),
    EvaluatorResult: RESULTS,
}
DOWNWARD: dict[type, st.SearchStrategy[Any]] = {
    Welcome: st.builds(Welcome, session=TEXT, labels=TEXTS, lease_s=FLOATS, keep_set=TEXT, targets=TEXTS),
    Work: WORK,
    UpdateVerdict: VERDICTS,
    RoundClosed: st.builds(RoundClosed, round=U64),
    EvaluatorTask: TASKS,
    Goodbye: st.builds(Goodbye, reason=TEXT),
}
PARTS = (BlobRef, UploadHeader, RunDescription, GlobalAdapter, EvaluateTask, ExportTask, ReferenceTask, ExportOutcome)


def value_classes() -> set[type]:
    """Every value class that protos/values.py defines."""
    return {
        kind
        for kind in vars(values).values()
        if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == values.__name__
    }
