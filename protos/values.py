"""What travels on the wire, as plain frozen values. The meaning of each field is in protos/v1/*.proto."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from fedcore.core.contract.assignment import Arm, TrainingSpec
from fedcore.core.contract.outcome import DeviceReport
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.data.metrics import Metrics
from fedcore.core.model.fingerprint import Fingerprint


class Role(StrEnum):
    """Who joins."""

    DEVICE = "device"
    EVALUATOR = "evaluator"
    EDGE = "edge"


class Verdict(StrEnum):
    """What became of an update."""

    ACCEPTED = "accepted"
    LATE = "late"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    OVERLAP = "overlap"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRef:
    """A blob's name, size in bytes, what it is for, and its bytes where they are few (`INLINE_BYTES`).

    Where a delta is offered, the blob `delta_id` of `delta_size` bytes makes it out of the blob `delta_base`.
    """

    id: str
    size: int
    name: str = ""
    inline: bytes = field(default=b"", repr=False)
    delta_id: str = ""
    delta_base: str = ""
    delta_size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadHeader:
    """Opens an upload: which blob, by whom, answering which round (0: an evaluator's task)."""

    blob: BlobRef
    offset: int
    sender: str
    session: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Part `index` (from 1) of `count` of a run's rows, and how the parts are cut."""

    index: int
    count: int
    partition: str
    alpha: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """What a newcomer must know before it joins."""

    protocol_min: int
    protocol_max: int
    run_id: str
    labels: tuple[str, ...]
    fingerprint: Fingerprint
    model_files: tuple[BlobRef, ...]
    max_length: int
    head: str
    dtype: str
    parents: tuple[str, ...] = ()
    shard: Shard | None = None  # answers `Newcomer.wants_shard`


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """Who asks for a run's description."""

    name: str = ""
    device_class: str = ""
    needs_model: bool = False
    wants_shard: bool = False
    device_uuid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """The first message of a stream."""

    protocol_min: int
    protocol_max: int
    role: Role
    name: str
    device_uuid: str
    epoch: int
    profile: DeviceProfile | None  # of a device
    fingerprint: Fingerprint
    max_length: int
    labels: tuple[str, ...]
    keep_set: str = ""
    address: str = ""
    takes_revocations: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """A machine redeems a join token for a certificate."""

    token: str
    secret: bytes = field(repr=False)
    csr: bytes = field(repr=False)
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A sign of life, and the answer to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Optimiser steps done in a round."""

    round: int
    step: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSubmission:
    """An update is wholly uploaded."""

    round: int
    update: BlobRef
    scores: BlobRef | None
    keep_set: str
    report: DeviceReport


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentFailure:
    """A device could not carry out its assignment."""

    round: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseShift:
    """What is to be added to the frozen base weights after a round: the whole of it, or the last rounds' steps.

    Never inside a message. A step called "3-5" makes what stood after round 5 of what stood after round 3.
    """

    whole: BlobRef
    steps: tuple[BlobRef, ...] = ()

    @property
    def round(self) -> int:
        """The closed round it came out of."""
        return int(self.whole.name)

    def since(self, held_round: int) -> tuple[BlobRef, ...]:
        """Return the blobs, fewest bytes, that who holds it as of `held_round` (0: nothing) lacks."""
        if held_round == self.round:
            return ()
        for index, step in enumerate(self.steps):
            lacking = self.steps[index:]
            if int(step.name.partition("-")[0]) == held_round and sum(ref.size for ref in lacking) < self.whole.size:
                return lacking
        return (self.whole,)

    @property
    def refs(self) -> tuple[BlobRef, ...]:
        """All of its blobs."""
        return (self.whole, *self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAdapter:
    """The global adapter after a round, as blobs; round 0 is the untrained one."""

    round: int
    rank_blocks: tuple[BlobRef, ...]
    head: BlobRef
    base_shift: BaseShift | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateTask:
    """Measure the global adapter on the dense model; rows 0 is all test rows."""

    adapter: GlobalAdapter
    rows: int
    lora_scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportTask:
    """Make and measure the pruned and merged model of a device class."""

    device_class: str
    adapter: GlobalAdapter
    keep_set: BlobRef
    lora_scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceTask:
    """Train centralised LoRA on the pooled rows from the untrained adapter."""

    start: GlobalAdapter
    steps: int
    rank: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    lora_scale: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOutcome:
    """What an export is and does; `files` are empty until they are described or sent."""

    metrics: Metrics
    parameters: int
    dense_parameters: int
    latency_s: float
    dense_latency_s: float
    dense_size_bytes: int
    files: tuple[BlobRef, ...] = ()


TaskKind = EvaluateTask | ExportTask | ReferenceTask


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorTask:
    """Work for the evaluator."""

    id: int
    kind: TaskKind


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorResult:
    """What came of a task: metrics or an export outcome, or an error text."""

    id: int
    outcome: Metrics | ExportOutcome | None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The join was accepted."""

    session: str
    labels: tuple[str, ...]
    lease_s: float
    keep_set: str
    targets: tuple[str, ...]
    answers_beats: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WireAssignment:
    """An assignment as it travels: decisions, and blobs by name."""

    round: int
    arm: Arm
    keep_set: BlobRef
    rank_blocks: tuple[BlobRef, ...]
    head: BlobRef
    local_steps: int
    weight: int
    seed: int
    deadline_s: float
    score: bool
    training: TrainingSpec
    max_upload_bytes: int
    basis: str
    label_counts: tuple[int, ...] = ()
    counted_round: int = 0
    base_shift: BaseShift | None = None
    rings: tuple[BlobRef, ...] = ()  # packed keep-sets that part the rank blocks, each inside the next; empty: none do
    inside: BlobRef | None = None  # packed `keep_set`, where that is less than the last ring

    @property
    def kept(self) -> BlobRef:
        """The blob that says what to keep; with rings `keep_set` is only a name."""
        if self.inside is not None:
            return self.inside
        return self.rings[-1] if self.rings else self.keep_set

    @property
    def refs(self) -> tuple[BlobRef, ...]:
        """Every blob that the device needs, but the base shift's."""
        return (*self.keep_sets, self.head, *self.rank_blocks)

    @property
    def keep_sets(self) -> tuple[BlobRef, ...]:
        """The blobs of what is kept, and of the rings around it."""
        return (*(self.rings or (self.keep_set,)), *(() if self.inside is None else (self.inside,)))

    def with_refs(self, change: Callable[[BlobRef], BlobRef]) -> "WireAssignment":
        """Return this assignment with `change` done to every reference but the base shift's."""
        return replace(
            self,
            keep_set=change(self.keep_set),
            head=change(self.head),
            rank_blocks=tuple(map(change, self.rank_blocks)),
            rings=tuple(map(change, self.rings)),
            inside=None if self.inside is None else change(self.inside),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateVerdict:
    """The coordinator's word on an update."""

    round: int
    verdict: Verdict
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundClosed:
    """The round is closed durably."""

    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppTask:
    """A foreign app's message for a device; `content` is opaque."""

    number: int
    head: bytes
    content: BlobRef
    deadline_s: float
    max_reply_bytes: int
    run_config: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppReply:
    """What a device's app answered; `content` None where it is an error."""

    number: int
    head: bytes
    content: BlobRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye:
    """The run is over."""

    reason: str


Upward = Join | Heartbeat | Progress | UpdateSubmission | AssignmentFailure | EvaluatorResult | AppReply
Downward = Welcome | WireAssignment | UpdateVerdict | RoundClosed | EvaluatorTask | AppTask | Goodbye | Heartbeat
