"""One device's arm in one round: the feasible space, what the bandit picked in it, and what that leaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedcore.core.bandit.replay import arm_json, arm_space_json
from fedcore.core.config.tables import Config
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import NO_STEPS, ArmSpace, Bandit, Json
from fedcore.core.model.geometry import Counts
from fedcore.core.model.trained_part import EVERYTHING, TrainedPart
from fedcore.core.pruning.counts import keep_counts
from fedcore.core.pruning.schedule import Schedule
from fedcore.core.seeds import lazy_generator
from fedcore.strategies.policy.cost import RoundCost
from fedcore.strategies.policy.feasible import Bounds, feasible_space

_SpaceKey = tuple[str, float, Counts, float, int]  # class, memory, committed counts, memory scale, round


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The arms a device may be given in a round, by schedule, history and memory."""

    round: int
    profile: DeviceProfile
    committed: Counts  # kept so far
    space: ArmSpace
    within_memory: bool  # False where not even the target at the smallest rank fits the measured memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An arm as pulled, the counts it is realised with, and what explains both."""

    round: int
    profile: DeviceProfile
    bandit_key: str
    space: ArmSpace
    within_memory: bool
    arm: Arm
    counts: Counts  # kept
    realised: Arm

    def event(self, weight: int) -> Json:
        """Return the log's record; replay derives `arm` again from it."""
        return {
            "event": "choice",
            "round": self.round,
            "device": self.profile.name,
            "class": self.profile.device_class,
            "bandit_key": self.bandit_key,
            "space": arm_space_json(self.space),
            "within_memory": self.within_memory,
            "arm": arm_json(self.arm),
            "realised": arm_json(self.realised) | self.counts._asdict(),
            "weight": weight,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Chooser:
    """Asks the bandit for an arm that schedule, history and memory of a device allow.

    Make one for every plan: it remembers what devices of one class and history share.
    """

    config: Config
    bandit: Bandit
    cost: RoundCost
    class_ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of classes that have not all ranks
    trains: TrainedPart = EVERYTHING  # the part of the adapter whose training memory must hold
    _spaces: dict[_SpaceKey, tuple[ArmSpace, bool]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _counts: dict[float, Counts] = field(default_factory=dict, init=False, repr=False, compare=False)
    _sparsities: dict[Counts, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    _arms: dict[tuple[Counts, int, int], Arm] = field(default_factory=dict, init=False, repr=False, compare=False)

    def offer(self, state: Json, profile: DeviceProfile, round_index: int) -> Offer:
        """Return what a device may be given under a policy's `state`."""
        geometry, held = self.cost.spec.geometry, state["committed"].get(profile.name)
        committed = geometry.dense if held is None else Counts(held[0], held[1])
        space, within = self._space(state, profile, committed, round_index)
        return Offer(round=round_index, profile=profile, committed=committed, space=space, within_memory=within)

    def choose(self, state: Json, offer: Offer) -> Choice:
        """Return the device's choice under a policy's `state`; equal arguments give equal choices."""
        profile, round_index = offer.profile, offer.round
        key = profile.device_class if self.config.strategy.share_posterior else profile.name
        known = state["bandits"][key] if key in state["bandits"] else self.bandit.start()
        rng = lazy_generator(self.config.run.seed, "bandit", round_index, profile.name)
        arm = self.bandit.select(known, offer.space, rng)
        counts = self.counts(offer, arm.sparsity)
        return Choice(
            round=round_index,
            profile=profile,
            bandit_key=key,
            space=offer.space,
            within_memory=offer.within_memory,
            arm=arm,
            counts=counts,
            realised=self._realised(counts, arm.rank, arm.steps),
        )

    def counts(self, offer: Offer, sparsity: float) -> Counts:
        """Return the counts that realise a sparsity on a device."""
        # What is committed may lie a little beyond the target, by rounding: it stays, but goes no further.
        wanted = self._keep_counts(min(sparsity, self.config.target_sparsity(offer.profile.device_class)))
        return Counts(min(offer.committed.heads, wanted.heads), min(offer.committed.channels, wanted.channels))

    def _space(self, state: Json, profile: DeviceProfile, committed: Counts, round_index: int) -> tuple[ArmSpace, bool]:
        scale = state["memory_scale"].get(profile.device_class, 1.0)
        key = profile.device_class, profile.memory_mb, committed, scale, round_index
        if key not in self._spaces:
            self._spaces[key] = self._feasible(profile, committed, scale, round_index)
        return self._spaces[key]

    def _feasible(
        self, profile: DeviceProfile, committed: Counts, scale: float, round_index: int
    ) -> tuple[ArmSpace, bool]:
        schedule = schedule_of(self.config, profile.device_class)
        bounds = Bounds(
            low=max(self._sparsity(committed), schedule.floor(round_index)),
            high=schedule.cap(round_index),
            target=schedule.target,
            ranks=self.class_ranks.get(profile.device_class, self.config.strategy.ranks),
            steps=self.config.strategy.local_steps_choices or NO_STEPS,
        )

        def fits(sparsity: float, rank: int) -> bool:
            needed = self.cost.memory_mb(self._keep_counts(sparsity), rank, self.trains) * scale
            return profile.memory_mb == 0 or needed <= profile.memory_mb

        return feasible_space(bounds, fits)

    def _keep_counts(self, sparsity: float) -> Counts:
        if sparsity not in self._counts:
            self._counts[sparsity] = keep_counts(self.cost.spec.geometry, sparsity)
        return self._counts[sparsity]

    def _realised(self, counts: Counts, rank: int, steps: int) -> Arm:
        if (counts, rank, steps) not in self._arms:
            self._arms[counts, rank, steps] = Arm(sparsity=self._sparsity(counts), rank=rank, steps=steps)
        return self._arms[counts, rank, steps]

    def _sparsity(self, counts: Counts) -> float:
        if counts not in self._sparsities:
            self._sparsities[counts] = self.cost.spec.geometry.sparsity(counts)
        return self._sparsities[counts]


def schedule_of(config: Config, device_class: str) -> Schedule:
    """Return the sparsity schedule of a class."""
    return Schedule(
        target=config.target_sparsity(device_class),
        warmup_rounds=config.strategy.warmup_rounds,
        recovery_rounds=config.strategy.recovery_rounds,
        rounds=config.run.rounds,
    )
