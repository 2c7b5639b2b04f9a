"""One device's arm in one round: the feasible space, what the bandit picked in it, and what that leaves."""

from dataclasses import dataclass

from fedcore.assignment import Arm
from fedcore.bandit.replay import arm_json, arm_space_json
from fedcore.config import Config
from fedcore.profile import DeviceProfile
from fedcore.protocols import ArmSpace, Bandit, Json
from fedcore.pruning.counts import keep_counts
from fedcore.pruning.schedule import Schedule
from fedcore.seeds import generator
from strategies.cost import RoundCost
from strategies.feasible import Bounds, feasible_space


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An arm as pulled, the counts it is realised with, and what explains both."""

    round: int
    profile: DeviceProfile
    bandit_key: str
    space: ArmSpace
    within_memory: bool  # False where not even the target at the smallest rank fits the measured memory
    arm: Arm
    counts: tuple[int, int]  # (head units, channels) kept
    realised: Arm

    def event(self, weight: int) -> Json:
        """Return the log's record; replay derives `arm` again from it."""
        heads, channels = self.counts
        return {
            "event": "choice",
            "round": self.round,
            "device": self.profile.name,
            "class": self.profile.device_class,
            "bandit_key": self.bandit_key,
            "space": arm_space_json(self.space),
            "within_memory": self.within_memory,
            "arm": arm_json(self.arm),
            "realised": arm_json(self.realised) | {"heads": heads, "channels": channels},
            "weight": weight,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Chooser:
    """Asks the bandit for an arm that schedule, history and memory of a device allow."""

    config: Config
    bandit: Bandit
    cost: RoundCost

    def choose(self, state: Json, profile: DeviceProfile, round_index: int) -> Choice:
        """Return the device's choice under a policy's `state`; equal arguments give equal choices."""
        geometry, target = self.cost.spec.geometry, self.config.target_sparsity(profile.device_class)
        committed = state["committed"].get(profile.name, (geometry.head_units, geometry.ffn))
        space, within = self._space(state, profile, committed, round_index)
        key = profile.device_class if self.config.strategy.share_posterior else profile.name
        known = state["bandits"][key] if key in state["bandits"] else self.bandit.start()
        rng = generator(self.config.run.seed, "bandit", round_index, profile.name)
        arm = self.bandit.select(known, space, rng)
        # What is committed may lie a little beyond the target, by rounding: it stays, but goes no further.
        wanted = keep_counts(geometry, min(arm.sparsity, target))
        heads, channels = min(committed[0], wanted[0]), min(committed[1], wanted[1])
        return Choice(
            round=round_index,
            profile=profile,
            bandit_key=key,
            space=space,
            within_memory=within,
            arm=arm,
            counts=(heads, channels),
            realised=Arm(sparsity=geometry.sparsity(heads=heads, channels=channels), rank=arm.rank),
        )

    def _space(
        self, state: Json, profile: DeviceProfile, committed: tuple[int, int], round_index: int
    ) -> tuple[ArmSpace, bool]:
        geometry, schedule = self.cost.spec.geometry, schedule_of(self.config, profile.device_class)
        bounds = Bounds(
            low=max(geometry.sparsity(heads=committed[0], channels=committed[1]), schedule.floor(round_index)),
            high=schedule.cap(round_index),
            target=schedule.target,
            ranks=self.config.strategy.ranks,
        )
        scale = state["memory_scale"].get(profile.device_class, 1.0)

        def fits(sparsity: float, rank: int) -> bool:
            needed = self.cost.memory_mb(keep_counts(geometry, sparsity), rank) * scale
            return profile.memory_mb == 0 or needed <= profile.memory_mb

        return feasible_space(bounds, fits)


def schedule_of(config: Config, device_class: str) -> Schedule:
    """Return the sparsity schedule of a class."""
    return Schedule(
        target=config.target_sparsity(device_class),
        warmup_rounds=config.strategy.warmup_rounds,
        recovery_rounds=config.strategy.recovery_rounds,
        rounds=config.run.rounds,
    )
