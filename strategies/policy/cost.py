"""The cost model of one run: memory and seconds of a device's round, by counts and rank."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import NamedTuple

from fedcore.core.codec.grammar import parse_chain
from fedcore.core.codec.packed import packed_bound
from fedcore.core.config.auto import local_steps
from fedcore.core.config.tables import Config
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.cost.teacher import teacher_flops, teacher_memory_mb
from fedcore.core.cost.training_step import FLOAT_BYTES, PLAIN, StepMode, StepShape, transfer_seconds
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.geometry import Counts
from fedcore.core.model.quantization import NONE
from fedcore.core.model.trained_part import EVERYTHING, TrainedPart

REFERENCE_FLOPS_PER_S = 6e10  # one AVX512 core, float32; for a real fleet, it matters only for times relative to links
HALF_BYTES = 2
_SAMPLE = 1 << 20  # values over which a codec's scales and positions are spread
_CACHED_CODECS = 64
_CACHED = 1 << 12  # estimates: a round asks for the same few counts and ranks again and again


class Demand(NamedTuple):
    """A device's work in one round."""

    train_s: float  # of a device without slowdown
    down_bytes: float
    up_bytes: float


class StepEstimate(NamedTuple):
    """The costs of a training step, and the values of a round's transfers, at some counts, rank and trained part."""

    memory_mb: float
    seconds: float  # on a device without slowdown
    down_values: int  # of the adapter's factors, the head left out
    up_values: int


@dataclass(slots=True, kw_only=True, eq=False)
class RoundCost:
    """The costs of a round on a device with some counts and rank; caches its estimates.

    It is a calculator and no value: two of them are never equal. Its settings never change.
    """

    spec: AdapterSpec
    batch_size: int
    max_length: int
    steps_of: Callable[[int], int]  # local steps of a device by its training rows
    dtype_bytes: int  # of a frozen weight
    download_value_bytes: float = FLOAT_BYTES  # of a value that is handed out
    upload_value_bytes: float  # of a value of an update; before entropy coding, as its gain is not known beforehand
    flops_per_s: float = REFERENCE_FLOPS_PER_S  # of a device without slowdown
    kept_rows: bool = False  # whether devices download only the rows that they keep
    distills: bool = False  # whether devices with a cut model run the dense model on every batch
    class_value_bytes: Mapping[str, float] = field(default_factory=dict)  # of classes that have a codec of their own
    quantize: str = NONE  # the form in which devices hold the base
    class_quantize: Mapping[str, str] = field(default_factory=dict)  # of classes that have one of their own
    _of_forms: dict[str, "RoundCost"] = field(default_factory=dict, init=False, repr=False)
    _estimates: dict[tuple[Counts, int, TrainedPart, StepMode], StepEstimate] = field(
        default_factory=dict, init=False, repr=False
    )

    def step(self, counts: Counts, rank: int, part: TrainedPart = EVERYTHING, mode: StepMode = PLAIN) -> StepShape:
        """Return the training step of a device."""
        return StepShape(
            geometry=self.spec.geometry,
            kept=counts,
            rank=rank,
            targets=self.spec.targets,
            batch_size=self.batch_size,
            max_length=self.max_length,
            dtype_bytes=self.dtype_bytes,
            part=part,
            quantize=self.quantize,
            mode=mode,
        )

    def of(self, device_class: str) -> "RoundCost":
        """Return the costs of devices of a class, whose base may be quantised in another form."""
        return self.in_form(self.class_quantize.get(device_class, self.quantize))

    def in_form(self, form: str) -> "RoundCost":
        """Return the costs of devices that hold the base in this form."""
        if form == self.quantize:
            return self
        if form not in self._of_forms:
            self._of_forms[form] = replace(self, quantize=form, class_quantize={})
        return self._of_forms[form]

    def memory_mb(self, counts: Counts, rank: int, part: TrainedPart = EVERYTHING, mode: StepMode = PLAIN) -> float:
        """Return the estimated peak of live tensor memory in a training step, MiB."""
        return self.estimate(counts, rank, part, mode).memory_mb

    def steps(self, profile: DeviceProfile, arm: Arm) -> int:
        """Return a device's local steps in a round: the arm's, or where it has none the device's own."""
        return arm.steps or self.steps_of(profile.num_examples)

    def teacher_mb(self, profile: DeviceProfile, counts: Counts, arm: Arm) -> float:
        """Return the live tensor memory while a device's dense teacher answers, MiB.

        A task without a head keeps the teacher's states of every row that trains in the round.
        """
        rows = min(profile.num_examples, self.steps(profile, arm) * self.batch_size)
        step = self.of(profile.device_class).step(counts, arm.rank)
        return teacher_memory_mb(step, kept_rows=0 if self.spec.head else rows)

    def seconds(
        self,
        profile: DeviceProfile,
        counts: Counts,
        rank: int,
        steps: float = 0,
        *,
        part: TrainedPart = EVERYTHING,
        mode: StepMode = PLAIN,
    ) -> float:
        """Return the modelled time of a whole round: adapter down, steps, update up; 0 steps means the device's own.

        The download is the whole adapter or its kept rows, whatever part trains; the upload is the trained part.
        """
        step = self.estimate(counts, rank, part, mode)
        value_bytes = self.class_value_bytes.get(profile.device_class, self.upload_value_bytes)
        return (
            transfer_seconds(step.down_values * self.download_value_bytes, profile.downlink_mbps)
            + (steps or self.steps_of(profile.num_examples)) * (step.seconds * profile.slowdown)
            + transfer_seconds(step.up_values * value_bytes, profile.uplink_mbps)
        )

    def demand(self, device_class: str, counts: Counts, rank: int, steps: float) -> Demand:
        """Return the work of a round of `steps` steps for a device's processor and links."""
        step = self.estimate(counts, rank)
        value_bytes = self.class_value_bytes.get(device_class, self.upload_value_bytes)
        return Demand(steps * step.seconds, step.down_values * self.download_value_bytes, step.up_values * value_bytes)

    def estimate(
        self, counts: Counts, rank: int, part: TrainedPart = EVERYTHING, mode: StepMode = PLAIN
    ) -> StepEstimate:
        """Return the figures of a step, cached; hashing its `StepShape` would take longer than this look-up."""
        cached = self._estimates.get((counts, rank, part, mode))
        if cached is None:
            if len(self._estimates) >= _CACHED:
                self._estimates.clear()
            cached = self._estimates[counts, rank, part, mode] = self._estimated(self.step(counts, rank, part, mode))
        return cached

    def _estimated(self, step: StepShape) -> StepEstimate:
        geometry = self.spec.geometry
        fetched = self.step(step.kept if self.kept_rows else geometry.dense, step.rank)
        # The estimate includes the teacher even for devices without memory for one.
        teacher_s = teacher_flops(step) / self.flops_per_s if self.distills and step.kept != geometry.dense else 0.0
        return StepEstimate(
            memory_mb=step.memory_mb(min((shape[0] for _, shape in self.spec.head if shape), default=1)),
            seconds=teacher_s + step.seconds(self.flops_per_s),
            down_values=fetched.trained_values(),
            up_values=step.trained_values(),
        )


def round_cost(config: Config, spec: AdapterSpec) -> RoundCost:
    """Return the cost model of a run."""
    return RoundCost(
        spec=spec,
        batch_size=config.training.batch_size,
        max_length=config.model.max_length,
        steps_of=partial(local_steps, config),
        dtype_bytes=FLOAT_BYTES if config.model.dtype == "float32" else HALF_BYTES,
        download_value_bytes=HALF_BYTES if config.training.downlink == "bf16" else FLOAT_BYTES,
        upload_value_bytes=value_bytes(config.training.codec),
        flops_per_s=config.simulation.gflops * 1e9,
        kept_rows=config.training.handout == "kept",
        distills=config.training.distill > 0,
        quantize=config.model.quantize,
        class_quantize={kind.name: kind.quantize for kind in config.classes if kind.quantize is not None},
        class_value_bytes={kind.name: value_bytes(kind.codec) for kind in config.classes if kind.codec is not None},
    )


@lru_cache(_CACHED_CODECS)
def value_bytes(codec: str) -> float:
    """Return the bytes of one value of an update under a codec, before entropy coding."""
    return packed_bound((_SAMPLE,), parse_chain(codec)) / _SAMPLE
