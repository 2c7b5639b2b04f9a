"""The cost model of one run: memory and seconds of a device's round, by counts and rank."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from fedcore.core.codec.grammar import parse_chain
from fedcore.core.codec.packed import packed_bound
from fedcore.core.config.tables import Config
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.cost.teacher import teacher_flops
from fedcore.core.cost.training_step import (
    FLOAT_BYTES,
    step_seconds,
    trained_values,
    training_memory_mb,
    transfer_seconds,
)
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.trained_part import EVERYTHING, TrainedPart

REFERENCE_FLOPS_PER_S = 6e10  # one AVX512 core, float32; a fleet's only as far as times are compared with links
HALF_BYTES = 2
_SAMPLE = 1 << 20  # values over which a codec's scales and positions are spread
_CODECS = 64  # codecs whose bytes are remembered
_KNOWN = 1 << 12  # estimates remembered: a round asks for the same few counts and ranks again and again

_Arm = tuple[tuple[int, int], int, TrainedPart]  # counts, rank, what trains


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A device's work in one round."""

    train_s: float  # of a device without slowdown
    down_bytes: float
    up_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundCost:
    """What a round costs a device that keeps `counts` = (head units, channels) and trains at some rank."""

    spec: AdapterSpec
    batch_size: int
    max_length: int
    local_steps: int
    dtype_bytes: int  # of a frozen weight
    download_value_bytes: float = FLOAT_BYTES  # of a value that is handed out
    upload_value_bytes: float  # of a value of an update; before entropy coding, whose gain is not known beforehand
    flops_per_s: float = REFERENCE_FLOPS_PER_S  # of a device without slowdown
    kept_rows: bool = False  # of the factors come down, the others do not
    distills: bool = False  # devices that are cut ask their dense model about every batch
    # Where a class has a codec of its own; a dict has no hash, so equal costs compare by it but do not hash by it.
    class_value_bytes: Mapping[str, float] = field(default_factory=dict, hash=False)

    # Estimates by what they are of: hashing a cost model for a shared cache would take longer than a look-up.
    _known: dict[_Arm, tuple[float, float, int, int]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def memory_mb(self, counts: tuple[int, int], rank: int, trains: TrainedPart = EVERYTHING) -> float:
        """Return the estimated peak of live tensor memory in a training step, MiB."""
        return self._estimates(counts, rank, trains)[0]

    def seconds(
        self,
        profile: DeviceProfile,
        counts: tuple[int, int],
        rank: int,
        steps: int = 0,
        *,
        trains: TrainedPart = EVERYTHING,
    ) -> float:
        """Return the modelled time of a whole round: adapter down, local steps, update up; 0 steps are the run's.

        The adapter comes down, all of it or its kept rows, whatever trains; up goes what trains.
        """
        _, step_s, down_values, up_values = self._estimates(counts, rank, trains)
        value_bytes = self.class_value_bytes.get(profile.device_class, self.upload_value_bytes)
        return (
            transfer_seconds(down_values * self.download_value_bytes, profile.downlink_mbps)
            + (steps or self.local_steps) * (step_s * profile.slowdown)
            + transfer_seconds(up_values * value_bytes, profile.uplink_mbps)
        )

    def demand(self, device_class: str, counts: tuple[int, int], rank: int, steps: float) -> "Demand":
        """Return what a round of so many steps asks of a device's processor and links."""
        _, step_s, down_values, up_values = self._estimates(counts, rank, EVERYTHING)
        value_bytes = self.class_value_bytes.get(device_class, self.upload_value_bytes)
        return Demand(
            train_s=steps * step_s, down_bytes=down_values * self.download_value_bytes, up_bytes=up_values * value_bytes
        )

    def _estimates(self, counts: tuple[int, int], rank: int, trains: TrainedPart) -> tuple[float, float, int, int]:
        """Return memory in MiB, seconds of a step without slowdown, and values that come down and go up."""
        found = self._known.get((counts, rank, trains))
        if found is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            dense = self.spec.geometry.head_units, self.spec.geometry.ffn
            found = self._known[counts, rank, trains] = (
                self._memory_mb(counts, rank, trains),
                self._step_s(counts, rank, trains),
                self._values(counts if self.kept_rows else dense, rank, EVERYTHING),
                self._values(counts, rank, trains),
            )
        return found

    def _memory_mb(self, counts: tuple[int, int], rank: int, trains: TrainedPart) -> float:
        heads, channels = counts
        return training_memory_mb(
            self.spec.geometry,
            heads=heads,
            channels=channels,
            rank=rank,
            targets=self.spec.targets,
            batch_size=self.batch_size,
            max_length=self.max_length,
            dtype_bytes=self.dtype_bytes,
            num_labels=min((shape[0] for _, shape in self.spec.head if shape), default=1),
            trains=trains,
        )

    def _step_s(self, counts: tuple[int, int], rank: int, trains: TrainedPart) -> float:
        heads, channels = counts
        return self._teacher_s(counts, rank) + step_seconds(
            self.spec.geometry,
            heads=heads,
            channels=channels,
            rank=rank,
            targets=self.spec.targets,
            batch_size=self.batch_size,
            max_length=self.max_length,
            flops_per_s=self.flops_per_s,
            trains=trains,
        )

    def _teacher_s(self, counts: tuple[int, int], rank: int) -> float:
        """Return the teacher's share of a step; devices whose memory has no room for one are charged all the same."""
        geometry = self.spec.geometry
        if not self.distills or counts == (geometry.head_units, geometry.ffn):
            return 0.0
        flops = teacher_flops(self.spec, rank, batch_size=self.batch_size, max_length=self.max_length)
        return flops / self.flops_per_s

    def _values(self, counts: tuple[int, int], rank: int, trains: TrainedPart) -> int:
        return trained_values(
            self.spec.geometry,
            heads=counts[0],
            channels=counts[1],
            rank=rank,
            targets=self.spec.targets,
            trains=trains,
        )


def round_cost(config: Config, spec: AdapterSpec) -> RoundCost:
    """Return the cost model of a run."""
    return RoundCost(
        spec=spec,
        batch_size=config.training.batch_size,
        max_length=config.model.max_length,
        local_steps=config.training.local_steps,
        dtype_bytes=FLOAT_BYTES if config.model.dtype == "float32" else HALF_BYTES,
        download_value_bytes=HALF_BYTES if config.training.downlink == "bf16" else FLOAT_BYTES,
        upload_value_bytes=value_bytes(config.training.codec),
        flops_per_s=config.simulation.gflops * 1e9,
        kept_rows=config.training.handout == "kept",
        distills=config.training.distill > 0,
        class_value_bytes={each.name: value_bytes(each.codec) for each in config.classes if each.codec is not None},
    )


@lru_cache(_CODECS)
def value_bytes(codec: str) -> float:
    """Return the bytes a value of an update takes under a codec, before entropy coding."""
    return packed_bound((_SAMPLE,), parse_chain(codec)) / _SAMPLE
