"""One device's arm in one round: the feasible space, the arm that the bandit selected, and the kept counts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedcore.core.bandit.replay import arm_json, arm_space_json
from fedcore.core.config.tables import Config
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import NO_STEPS, ArmSpace, Bandit, Json
from fedcore.core.model.geometry import Counts
from fedcore.core.model.trained_part import EVERYTHING, TrainedPart
from fedcore.core.pruning.ordering import counts_at
from fedcore.core.seeds import lazy_generator
from fedcore.strategies.policy.cohort import CohortMember
from fedcore.strategies.policy.cost import RoundCost
from fedcore.strategies.policy.feasible import Bounds, Memory, feasible_space, schedule_of
from fedcore.strategies.policy.state import PolicyState, part_json

# class; memory limit, calibration, ceiling, precision; committed counts
_SpaceKey = tuple[str, float, float, float | None, str, Counts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The arms that a device may get in a round, by schedule, history and memory."""

    round: int
    member: CohortMember
    committed: Counts  # kept so far
    space: ArmSpace
    within_memory: bool  # False where not even the target at the smallest rank fits the measured memory

    @property
    def profile(self) -> DeviceProfile:
        """The device."""
        return self.member.profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A selected arm, the counts that realise it, and the space that explains both."""

    round: int
    member: CohortMember
    bandit_key: str
    space: ArmSpace
    within_memory: bool
    arm: Arm
    counts: Counts  # kept
    realised: Arm

    @property
    def profile(self) -> DeviceProfile:
        """The device."""
        return self.member.profile

    def event(self, part: TrainedPart) -> Json:
        """Return the log's record, with the part that trains; replay derives `arm` again from it."""
        profile, (heads, channels, gone) = self.member.profile, self.counts
        kept = {"heads": heads, "channels": channels, **({"removed_layers": gone} if gone else {})}
        return {
            "event": "choice",
            "round": self.round,
            "device": profile.name,
            "class": profile.device_class,
            "bandit_key": self.bandit_key,
            "space": arm_space_json(self.space),
            "within_memory": self.within_memory,
            "arm": arm_json(self.arm),
            "realised": {**arm_json(self.realised), **kept},
            "weight": self.member.weight,
            **part_json(part),
        }


@dataclass(slots=True, kw_only=True, eq=False)
class Chooser:
    """Gets an arm from the bandit within the schedule, history and memory of a device.

    It lives for one round's plan and is no value: it caches results that devices of one class and history share.
    """

    config: Config
    bandit: Bandit
    cost: RoundCost
    state: PolicyState  # before the round
    memory: Memory
    round: int
    class_ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of classes with only some ranks
    part: TrainedPart = EVERYTHING  # part of the adapter that memory must suffice to train
    _spaces: dict[_SpaceKey, tuple[ArmSpace, bool]] = field(default_factory=dict, init=False, repr=False)
    _kept: dict[float, Counts] = field(default_factory=dict, init=False, repr=False)  # by sparsity
    _realised: dict[tuple[Counts, int, int], Arm] = field(default_factory=dict, init=False, repr=False)

    def offer(self, member: CohortMember) -> Offer:
        """Return the arms that a device may get."""
        profile = member.profile
        committed = self.state.committed.get(profile.name) or self.cost.spec.geometry.dense
        limits = profile.memory_mb, profile.trial.memory_scale, self.memory.ceilings.get(profile.name)
        key = profile.device_class, *limits, profile.precision, committed
        feasible = self._spaces.get(key)
        if feasible is None:
            feasible = self._spaces[key] = self._feasible(profile, committed)
        space, within = feasible
        return Offer(round=self.round, member=member, committed=committed, space=space, within_memory=within)

    def choose(self, offer: Offer) -> Choice:
        """Return the device's choice; equal states and offers give equal choices."""
        member, profile = offer.member, offer.member.profile
        key = profile.device_class if self.config.strategy.share_posterior else profile.name
        bandit_state = self.state.bandits[key] if key in self.state.bandits else self.bandit.start()
        rng = lazy_generator(self.config.run.seed, "bandit", self.round, profile.name)
        arm = self.bandit.select(bandit_state, offer.space, rng)
        counts = self.counts(offer, arm.sparsity)
        return Choice(
            round=self.round,
            member=member,
            bandit_key=key,
            space=offer.space,
            within_memory=offer.within_memory,
            arm=arm,
            counts=counts,
            realised=self._realise(counts, arm),
        )

    def counts(self, offer: Offer, sparsity: float) -> Counts:
        """Return the counts that realise a sparsity on a device."""
        # By rounding, the committed counts may lie a little beyond the target: they stay, but the cut goes no further.
        target = self._keep_counts(min(sparsity, self.config.target_sparsity(offer.member.profile.device_class)))
        return Counts(
            min(offer.committed.heads, target.heads),
            min(offer.committed.channels, target.channels),
            max(offer.committed.removed_layers, target.removed_layers),
        )

    def _feasible(self, profile: DeviceProfile, committed: Counts) -> tuple[ArmSpace, bool]:
        schedule, geometry = schedule_of(self.config, profile.device_class), self.cost.spec.geometry
        bounds = Bounds(
            low=max(geometry.sparsity(committed), schedule.floor(self.round)),
            high=schedule.cap(self.round),
            target=schedule.target,
            ranks=self.class_ranks.get(profile.device_class, self.config.strategy.ranks),
            steps=self.config.strategy.local_steps_choices or NO_STEPS,
        )

        def fits(sparsity: float, rank: int) -> bool:
            return self.memory.fits(profile, self._keep_counts(sparsity), rank, self.part)

        return feasible_space(bounds, fits)

    def _keep_counts(self, sparsity: float) -> Counts:
        if sparsity not in self._kept:
            self._kept[sparsity] = self._counts_at(sparsity)
        return self._kept[sparsity]

    def _counts_at(self, sparsity: float) -> Counts:
        # Orders of classes and devices, which may not exist yet, share the ratio of heads and channels.
        order = self.state.orders.get("fleet", {})
        return counts_at(order, self.cost.spec.geometry, sparsity)

    def _realise(self, counts: Counts, arm: Arm) -> Arm:
        key = counts, arm.rank, arm.steps
        realised = self._realised.get(key)
        if realised is None:
            sparsity = self.cost.spec.geometry.sparsity(counts)
            realised = self._realised[key] = Arm(sparsity=sparsity, rank=arm.rank, steps=arm.steps)
        return realised
