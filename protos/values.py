"""Messages on the wire as plain frozen values. protos/v1/*.proto explain every field."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from fedcore.core.contract.assignment import Arm, TrainingSpec
from fedcore.core.contract.outcome import DeviceReport
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.data.figures import Metrics
from fedcore.core.data.floors import Floors
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.core.model.quantization import NONE
from fedcore.core.text_enum import TextEnum


class Role(TextEnum):
    """The role of a process that joins."""

    DEVICE = "device"
    EVALUATOR = "evaluator"
    EDGE = "edge"


class Verdict(TextEnum):
    """The outcome of an update or a partial."""

    ACCEPTED = "accepted"
    LATE = "late"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    OVERLAP = "overlap"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRef:
    """A reference to a blob: its id, size in bytes, purpose (`name`), and, up to `INLINE_BYTES`, the bytes themselves.

    If a delta is offered, the blob `delta_id` of `delta_size` bytes turns the blob `delta_base` into this one.
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
    """Opens an upload: the blob, its sender, and the round it answers (0: an evaluator's task)."""

    blob: BlobRef
    offset: int
    sender: str
    session: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Part `index` (from 1) of the `count` parts of a run's rows, and how the rows are cut."""

    index: int
    count: int
    partition: str
    alpha: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """All that a newcomer needs to know before it joins."""

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
    task: str = ""  # a name of fedcore.core.tasks.table; a coordinator of an earlier version names none
    quantize: tuple[tuple[str, str], ...] = ()  # form of the frozen base by class, sorted; "" stands for other classes
    precision: str = ""  # in which devices compute, see fedcore.core.precision; empty: "auto"
    task_options: Mapping[str, str] = field(default_factory=dict)  # fedcore.core.tasks.options in words

    def form_of(self, device_class: str) -> str:
        """Return the form in which devices of a class hold the base, a name of fedcore.core.model.quantization."""
        forms = dict(self.quantize)
        return forms.get(device_class, forms.get("", NONE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """A process that asks for a run's description before it joins."""

    name: str = ""
    device_class: str = ""
    needs_model: bool = False
    wants_shard: bool = False
    device_uuid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A process joins: the first message of a stream."""

    protocol_min: int
    protocol_max: int
    role: Role
    name: str
    device_uuid: str
    epoch: int
    profile: DeviceProfile | None  # None unless a device joins
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
    """A sign of life, or the answer to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Optimiser steps done in a round."""

    round: int
    step: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSubmission:
    """An update has been uploaded completely."""

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
    out_of_memory: bool = False  # it needs more memory than the device has


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseShift:
    """The tensors to add to the frozen base weights after a round: as a whole, or as the last rounds' steps.

    The bytes never travel inside a message. A step named "3-5" turns the shift after round 3 into that after round 5.
    """

    whole: BlobRef
    steps: tuple[BlobRef, ...] = ()

    @property
    def round(self) -> int:
        """The closed round that produced the shift."""
        return int(self.whole.name)

    def since(self, last_round: int) -> tuple[BlobRef, ...]:
        """Return the blobs, in the fewest bytes, that a device with the shift of `last_round` (0: none) lacks."""
        if last_round == self.round:
            return ()
        for index, step in enumerate(self.steps):
            missing = self.steps[index:]
            if int(step.name.partition("-")[0]) == last_round and sum(ref.size for ref in missing) < self.whole.size:
                return missing
        return (self.whole,)

    @property
    def refs(self) -> tuple[BlobRef, ...]:
        """All blobs of the shift."""
        return (self.whole, *self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAdapter:
    """The global adapter after a round, as blobs; round 0 is the untrained adapter."""

    round: int
    rank_blocks: tuple[BlobRef, ...]
    head: BlobRef
    base_shift: BaseShift | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateTask:
    """Measure the global adapter on a model pruned to `keep_set`, or on the dense one; `rows` 0: on all test rows.

    `floors`: also find the floors of all test rows; `majority`: label of most training rows in the fleet, "" unknown;
    `offsets`: with label offsets, as an export has them (fedcore.core.data.label_offsets).
    """

    adapter: GlobalAdapter
    rows: int
    lora_scale: float
    keep_set: BlobRef | None = None
    device_class: str = ""  # whose model `keep_set` makes; empty for the dense one
    sparsity: float = 0.0  # of `keep_set`, in [0, 1)
    floors: bool = False
    majority: str = ""
    offsets: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportTask:
    """Make and measure the pruned and merged model of a device class, with label `offsets` if it needs them."""

    device_class: str
    adapter: GlobalAdapter
    keep_set: BlobRef
    lora_scale: float
    offsets: bool = False


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
    """The size, quality and speed of an export; `files` is empty until the files are described or sent.

    `label_offsets` are what was added to the outputs, one a label; empty where nothing was.
    """

    metrics: Metrics
    parameters: int
    dense_parameters: int
    latency_s: float
    dense_latency_s: float
    dense_size_bytes: int
    files: tuple[BlobRef, ...] = ()
    label_offsets: tuple[float, ...] = ()


TaskKind = EvaluateTask | ExportTask | ReferenceTask


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorTask:
    """A task for the evaluator."""

    id: int
    kind: TaskKind


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorResult:
    """The result of a task: metrics, an export outcome, or an error text.

    `keep_set`: id of the keep-set of the model that was evaluated, "" for the dense one: an evaluator of an earlier
    version measures no other.
    """

    id: int
    outcome: Metrics | ExportOutcome | None
    error: str = ""
    keep_set: str = ""
    floors: Floors | None = None


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
    """An assignment as it travels: the decisions, and references to the blobs."""

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
    rings: tuple[BlobRef, ...] = ()  # packed keep-sets of the rank blocks' rings, each inside the next; empty: no rings
    inside: BlobRef | None = None  # packed `keep_set`, where it is smaller than the last ring

    @property
    def kept(self) -> BlobRef:
        """The blob that contains the keep-set; with rings, `keep_set` itself is only a name."""
        if self.inside is not None:
            return self.inside
        return self.rings[-1] if self.rings else self.keep_set

    @property
    def refs(self) -> tuple[BlobRef, ...]:
        """Every blob that the device needs for this assignment, except those of the base shift."""
        return (*self.keep_sets, self.head, *self.rank_blocks)

    @property
    def keep_sets(self) -> tuple[BlobRef, ...]:
        """The blobs of the keep-set and of the rings around it."""
        return (*(self.rings or (self.keep_set,)), *(() if self.inside is None else (self.inside,)))

    def with_refs(self, change: Callable[[BlobRef], BlobRef]) -> "WireAssignment":
        """Return a copy with `change` applied to every reference except those of the base shift."""
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
    """The coordinator's verdict on an update."""

    round: int
    verdict: Verdict
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundClosed:
    """The round is closed durably."""

    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppTask:
    """A foreign app's message for a device; fedcore does not read `content`."""

    number: int
    head: bytes
    content: BlobRef
    deadline_s: float
    max_reply_bytes: int
    run_config: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppReply:
    """The answer of a device's app; `content` is None where the answer is an error."""

    number: int
    head: bytes
    content: BlobRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye:
    """The run is over."""

    reason: str


Upward = Join | Heartbeat | Progress | UpdateSubmission | AssignmentFailure | EvaluatorResult | AppReply
Downward = Welcome | WireAssignment | UpdateVerdict | RoundClosed | EvaluatorTask | AppTask | Goodbye | Heartbeat
