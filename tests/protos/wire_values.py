"""Hypothesis strategies for every value that travels, over the whole range of its fields."""

from dataclasses import is_dataclass
from typing import Any

from hypothesis import strategies as st

from fedcore.core.contract.assignment import Arm, TrainingSpec
from fedcore.core.contract.distillation import Distillation
from fedcore.core.contract.outcome import PHASES, DeviceReport, TrainingMetrics
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.rate_trial import RateTrial
from fedcore.core.data.figures import Metrics
from fedcore.core.data.floors import Floor, Floors
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.trained_part import Factors, TrainedPart
from fedcore.protos import tier_values, values
from fedcore.protos.tier_values import (
    Holding,
    LeafDismissed,
    LeafJoin,
    LeafJoined,
    LeafLeft,
    LeafOutcome,
    LeafRefused,
    PartialSubmission,
    PartialVerdict,
    Revocations,
    RoundShare,
    TierSpec,
)
from fedcore.protos.values import (
    AppReply,
    AppTask,
    AssignmentFailure,
    BaseShift,
    BlobRef,
    EnrolmentRequest,
    EvaluateTask,
    EvaluatorResult,
    EvaluatorTask,
    ExportOutcome,
    ExportTask,
    GlobalAdapter,
    Goodbye,
    Heartbeat,
    Join,
    Newcomer,
    Progress,
    ReferenceTask,
    Role,
    RoundClosed,
    RunDescription,
    Shard,
    UpdateSubmission,
    UpdateVerdict,
    UploadHeader,
    Verdict,
    Welcome,
    WireAssignment,
)

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
FLOATS = st.floats(allow_nan=False)
LIMITS = st.floats(min_value=0, max_value=1e300)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
NAMES = st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True)

REFS = st.builds(
    BlobRef,
    id=TEXT,
    size=U64,
    name=TEXT,
    inline=st.binary(max_size=8),
    delta_id=TEXT,
    delta_base=TEXT,
    delta_size=U64,
)
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
    network=st.just("") | NAMES,
    codecs=TEXTS,
)
REPORTS = st.builds(
    DeviceReport,
    metrics=st.builds(
        TrainingMetrics,
        loss_before=FLOATS,
        loss_after=FLOATS,
        train_loss=FLOATS,
        peak_memory_mb=FLOATS,
        adapter_importance=FLOATS,
        trial_losses=st.lists(FLOATS, max_size=4).map(tuple),
    ),
    phase_s=st.fixed_dictionaries(dict.fromkeys(PHASES, FLOATS)),
    num_examples=U64,
    steps=U32,
    bytes_down=U64,
    bytes_up=U64,
    repushed=st.booleans(),
    energy_j=st.none() | FLOATS,
    temperature_c=st.none() | FLOATS,
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
    quantize=st.sampled_from(["none", "int8", "nf4"]),
    replay=st.floats(0, 0.9),
    trains=st.builds(TrainedPart, factors=st.sampled_from(Factors), first_layer=U32),
    distillation=st.none()
    | st.builds(
        Distillation,
        weight=st.floats(0, 1, exclude_min=True),
        temperature=st.floats(0, 100, exclude_min=True),
        mix=st.floats(0, 1),
    ),
    trial=st.none()
    | st.builds(
        RateTrial,
        rates=st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=3).map(tuple),
        steps=st.integers(1, 2**32 - 1),
    ),
)
METRICS = st.builds(
    Metrics,
    figures=st.dictionaries(st.sampled_from(("accuracy", "auc", "macro_f1", "loss", "rmse")), FLOATS, min_size=1),
    rows=U64,
    answers=st.lists(U64, max_size=3).map(tuple),
)
FLOOR = st.builds(
    Floor,
    figures=st.fixed_dictionaries({"accuracy": FLOATS, "macro_f1": FLOATS})
    | st.dictionaries(st.sampled_from(("spearman", "rmse")), FLOATS, min_size=1),
    rows=U64,
)
FLOORS = st.builds(
    Floors,
    majority_label=TEXT,
    majority=FLOOR,
    tfidf=st.none() | FLOOR,
    tfidf_rows=U64,
    cross_validated=st.booleans(),
)
STEPS = st.tuples(U64, U64).map(lambda rounds: BlobRef(id="step", size=1, name=f"{rounds[0]}-{rounds[1]}"))
SHIFTS = st.builds(
    BaseShift,
    whole=U64.map(lambda number: BlobRef(id="whole", size=2, name=str(number))),
    steps=st.lists(STEPS, max_size=3).map(tuple),
)
ADAPTERS = st.builds(GlobalAdapter, round=U64, rank_blocks=REF_LISTS, head=REFS, base_shift=st.none() | SHIFTS)

EVALUATE_TASKS = st.builds(
    EvaluateTask,
    adapter=ADAPTERS,
    rows=U64,
    lora_scale=FLOATS,
    keep_set=st.none() | REFS,
    device_class=TEXT,
    sparsity=FLOATS,
    floors=st.booleans(),
    majority=TEXT,
)
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
RESULTS = (
    st.builds(
        EvaluatorResult,
        id=U64,
        outcome=METRICS,
        error=st.just(""),
        keep_set=TEXT,
        floors=st.none() | FLOORS,
    )
    | st.builds(EvaluatorResult, id=U64, outcome=EXPORT_OUTCOMES, error=st.just(""))
    | st.builds(EvaluatorResult, id=U64, outcome=st.none(), error=TEXT.filter(bool))
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
            "address": TEXT,
            "takes_revocations": st.booleans(),
        }
    ),
)
SHARDS = st.builds(Shard, index=U32, count=U32, partition=TEXT, alpha=FLOATS, seed=U64)
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
    parents=TEXTS,
    shard=st.none() | SHARDS,
    task=TEXT,
    quantize=st.dictionaries(TEXT, TEXT, max_size=2).map(lambda forms: tuple(sorted(forms.items()))),
)
SUBMISSIONS = st.builds(
    UpdateSubmission, round=U64, update=REFS, scores=st.none() | REFS, keep_set=TEXT, report=REPORTS
)
ASSIGNMENTS = st.builds(
    WireAssignment,
    round=U64,
    arm=ARMS,
    keep_set=REFS,
    rank_blocks=REF_LISTS,
    rings=REF_LISTS,
    inside=st.none() | REFS,
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
    counted_round=U64,
    base_shift=st.none() | SHIFTS,
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

NEWCOMERS = st.builds(
    Newcomer,
    name=TEXT,
    device_class=TEXT,
    needs_model=st.booleans(),
    wants_shard=st.booleans(),
    device_uuid=TEXT,
)
DEVICE_JOINS = JOINS.filter(lambda join: join.role is Role.DEVICE)
WELCOMES = st.builds(
    Welcome, session=TEXT, labels=TEXTS, lease_s=FLOATS, keep_set=TEXT, targets=TEXTS, answers_beats=st.booleans()
)
MODULES = ("q", "k", "v", "o", "up", "down")
SPECS = st.builds(
    AdapterSpec,
    geometry=st.builds(
        Geometry,
        family=st.sampled_from(("bert", "llama")),
        model_type=TEXT,
        **{name: st.integers(1, 2**31) for name in ("layers", "hidden", "query_heads", "head_dim", "ffn", "vocab")},
        **{name: st.integers(0, 2**31) for name in ("positions", "token_types")},
        **{name: st.booleans() for name in ("qkv_bias", "o_bias", "ffn_bias")},
        kv_heads=st.just(1),
    ),
    rank=st.integers(1, 2**31),
    targets=st.lists(st.sampled_from(MODULES), min_size=1, max_size=3).map(tuple),
    head=st.lists(st.tuples(TEXT, st.lists(st.integers(1, 2**40), max_size=2).map(tuple)), max_size=2).map(tuple),
)
LEAVES = st.builds(
    LeafOutcome,
    device=NAMES,
    counted=st.booleans(),
    time_s=FLOATS,
    report=st.none() | REPORTS,
    scores_bytes=U64,
    message=TEXT,
    fold_s=FLOATS,
)
UPWARD: dict[type, st.SearchStrategy[Any]] = {
    Join: JOINS,
    Heartbeat: st.just(Heartbeat()),
    AppReply: st.builds(AppReply, number=U64, head=st.binary(max_size=8), content=st.none() | REFS),
    Progress: st.builds(Progress, round=U64, step=U32, steps=U32),
    UpdateSubmission: SUBMISSIONS,
    AssignmentFailure: st.builds(AssignmentFailure, round=U64, message=TEXT),
    EvaluatorResult: RESULTS,
    LeafJoin: st.builds(LeafJoin, join=DEVICE_JOINS),
    LeafLeft: st.builds(LeafLeft, device=NAMES, lost=st.booleans(), revoked=st.booleans()),
    PartialSubmission: st.builds(
        PartialSubmission,
        round=U64,
        number=U64,
        partial=st.none() | REFS,
        scores=st.none() | REFS,
        leaves=st.lists(LEAVES, max_size=2).map(tuple),
    ),
    Holding: st.builds(Holding, blobs=TEXTS),
}
DOWNWARD: dict[type, st.SearchStrategy[Any]] = {
    Welcome: WELCOMES,
    WireAssignment: ASSIGNMENTS,
    UpdateVerdict: VERDICTS,
    RoundClosed: st.builds(
        RoundClosed,
        round=U64,
    ),
    EvaluatorTask: TASKS,
    Goodbye: st.builds(Goodbye, reason=TEXT),
    Heartbeat: st.just(Heartbeat()),
    AppTask: st.builds(
        AppTask,
        number=U64,
        head=st.binary(max_size=8),
        content=REFS,
        deadline_s=FLOATS,
        max_reply_bytes=U64,
        run_config=TEXT,
    ),
    LeafJoined: st.builds(LeafJoined, device=NAMES, welcome=WELCOMES),
    LeafRefused: st.builds(LeafRefused, device=NAMES, error=TEXT, message=TEXT),
    LeafDismissed: st.builds(LeafDismissed, device=NAMES, epoch=U64, goodbye=TEXT),
    RoundShare: st.builds(
        RoundShare,
        round=U64,
        deadline_s=FLOATS,
        spec=st.builds(TierSpec, aggregator=TEXT, adapter=SPECS),
        assignments=st.lists(st.tuples(NAMES, ASSIGNMENTS), max_size=2).map(tuple),
        blobs=REF_LISTS,
    ),
    PartialVerdict: st.builds(
        PartialVerdict, round=U64, number=U64, verdict=st.sampled_from(Verdict), devices=TEXTS, message=TEXT
    ),
    Revocations: st.builds(Revocations, crl=st.binary(max_size=99)),
}
PARTS = (
    BlobRef,
    BaseShift,
    EnrolmentRequest,
    UploadHeader,
    RunDescription,
    Shard,
    Newcomer,
    LeafOutcome,
    TierSpec,
    GlobalAdapter,
    EvaluateTask,
    ExportTask,
    ReferenceTask,
    ExportOutcome,
)


def value_classes() -> set[type]:
    """Every value class that protos defines."""
    return {
        kind
        for module in (values, tier_values)
        for kind in vars(module).values()
        if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__
    }
