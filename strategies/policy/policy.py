"""A policy: bandit x schedule x removal order x aggregator x pace, composed into one strategy.

A policy holds the parts and answers the coordinator in JSON. Its `algorithm` plans and closes rounds with them, and
gets only typed states. Every method of this package uses FedSpine's algorithm (fedcore.strategies.methods.fedspine),
with other parts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedcore.core.config.tables import Config
from fedcore.core.contract.outcome import GroupScores, Outcome
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import Aggregator, Bandit, Json, RoundPlan, RoundReport, ServerOptimizer
from fedcore.core.cost.training_step import StepMode
from fedcore.core.errors import JoinRefused
from fedcore.core.learning_rate.search import UNKNOWN
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.geometry import Counts
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.pruning.counts import keep_counts
from fedcore.core.pruning.criteria import CRITERIA
from fedcore.core.pruning.kinds import by_benefit
from fedcore.core.pruning.ordering import counts_at, initial_order, keep_set
from fedcore.core.pruning.scope import class_order, first_orders, order_key
from fedcore.strategies.policy.arm_choice import Choice, Chooser, Offer
from fedcore.strategies.policy.cost import RoundCost
from fedcore.strategies.policy.feasible import Memory
from fedcore.strategies.policy.pacer import Paced, Pacer
from fedcore.strategies.policy.part_choice import WHOLE, PartChoice
from fedcore.strategies.policy.rate_finder import RateFinder
from fedcore.strategies.policy.state import PaceState, PlannedRound, PolicyState, RateState


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """How a round is planned and closed with a policy's parts: two pure functions over typed states.

    `plan(policy, state, roster, round)` returns the state with the round open, and its plan. `close(policy, state,
    outcomes, round, void)` returns the state after the round, and its report. Equal arguments give equal results.
    """

    plan: Callable[["Policy", PolicyState, Sequence[DeviceProfile], int], tuple[PolicyState, RoundPlan]]
    close: Callable[["Policy", PolicyState, Sequence[Outcome], int, bool], tuple[PolicyState, RoundReport]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A strategy made of parts; `config` is the resolved configuration, `prior` scores the dense model's groups."""

    name: str
    config: Config
    spec: AdapterSpec
    aggregator: Aggregator[Any]
    bandit: Bandit
    cost: RoundCost
    algorithm: Algorithm = field(repr=False)
    server_optimizer: ServerOptimizer | None = None
    pacer: Pacer | None = None
    rates: RateFinder | None = None  # None: the configuration sets the learning rate
    class_ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)  # of classes with their own
    part: PartChoice = field(default=WHOLE, compare=False)
    prior: GroupScores | None = field(default=None, compare=False, repr=False)

    def start(self) -> Json:
        """Return the state before the first round."""
        strategy = self.config.strategy
        orders = first_orders(strategy.order, self.spec.geometry, self.prior, strategy.remove)
        return PolicyState(
            orders=orders,
            pace=self.pacer.start() if self.pacer else None,
            rate=RateState() if self.rates else None,
        ).to_json()

    def admit(self, profile: DeviceProfile) -> None:
        """Raise JoinRefused where the class's target sparsity at the smallest rank exceeds the device's memory."""
        target, rank = self.config.target_sparsity(profile.device_class), self.config.strategy.ranks[0]
        memory = self.memory()
        modelled = memory.modelled_mb(profile, self.first_counts(target), rank, self.part.least)
        if not memory.allows(profile, modelled):
            needed = memory.needed_mb(profile, modelled)
            raise JoinRefused(
                f"device {profile.name} of class {profile.device_class}: training needs {needed:.0f} MiB at sparsity "
                f"{target:g} and rank {rank}, the device allows {profile.memory_mb:.0f} MiB; raise memory_mb or "
                f"target_sparsity, or lower training.batch_size or model.max_length"
            )

    def memory(self, state: PolicyState | None = None) -> Memory:
        """Return what fits into the devices' memory, by the model and by what the rounds up to `state` showed."""
        training = self.config.training
        # a criterion with gates draws them anew in every forward pass, so none may be computed twice
        twice = False if CRITERIA[training.importance].own_steps else training.gradient_checkpointing
        return Memory(
            cost=self.cost,
            scales={} if state is None else state.memory_scale,
            ceilings={} if state is None else state.memory_ceilings,
            checkpointing=twice,
        )

    def least_mb(self, device_class: str, precision: str) -> float:
        """Return the modelled memory of the smallest work that a device can be given, MiB."""
        counts = self.first_counts(self.config.target_sparsity(device_class))
        ranks = self.class_ranks.get(device_class, self.config.strategy.ranks)
        mode = StepMode(precision, self.memory().checkpointing is not False)
        return self.cost.of(device_class).memory_mb(counts, ranks[0], self.part.least, mode)

    def able(self, state: PolicyState, roster: Sequence[DeviceProfile]) -> list[DeviceProfile]:
        """Return the devices of a roster less those that ran out of memory with the smallest work there is."""
        if not state.memory_ceilings:
            return list(roster)
        ceilings = state.memory_ceilings
        return [profile for profile in roster if ceilings.get(profile.name, math.inf) > 0.0]

    def memory_mb(self, sparsity: float, rank: int, device_class: str) -> float:
        """Return the modelled memory of a class's step at an arm, MiB, where the least part of the adapter trains."""
        mode = StepMode(checkpointed=self.memory().checkpointing is not False)
        return self.cost.of(device_class).memory_mb(self.first_counts(sparsity), rank, self.part.least, mode)

    def first_counts(self, sparsity: float) -> Counts:
        """Return the counts that realise a sparsity before any device has scored."""
        geometry, remove = self.spec.geometry, self.config.strategy.remove
        if not by_benefit(remove):
            return keep_counts(geometry, sparsity)
        return counts_at(initial_order(geometry, self.prior, remove), geometry, sparsity)

    def plan(self, state: Json, roster: Sequence[DeviceProfile], round_index: int) -> tuple[Json, RoundPlan]:
        """Return the state with the round open, and an assignment for every device of a cohort."""
        after, plan = self.algorithm.plan(self, PolicyState.from_json(state), roster, round_index)
        return after.to_json(), plan

    def close(
        self, state: Json, outcomes: Sequence[Outcome], round_index: int, *, void: bool = False
    ) -> tuple[Json, RoundReport]:
        """Return the state after the round, and its report; `void`: the adapter stayed as it was.

        Raises RunError for an outcome that the round's plan did not ask for.
        """
        after, report = self.algorithm.close(self, PolicyState.from_json(state), outcomes, round_index, void)
        return after.to_json(), report

    def export_keep_set(self, state: Json, device_class: str) -> KeepSet:
        """Return the keep-set at the class's target sparsity, whatever its devices have reached.

        Devices with their own orders have no common keep-set; the class's is by the mean of their scores.
        """
        geometry, orders = self.spec.geometry, PolicyState.from_json(state).orders
        order = class_order(orders, self.config.strategy.order, device_class, geometry, self.prior)
        return keep_set(order, geometry, counts_at(order, geometry, self.config.target_sparsity(device_class)))

    def chooser(self, state: PolicyState, round_index: int) -> Chooser:
        """Return the chooser, which bounds and selects the arms of one round."""
        return Chooser(
            config=self.config,
            bandit=self.bandit,
            cost=self.cost,
            state=state,
            memory=self.memory(state),
            round=round_index,
            class_ranks=self.class_ranks,
            part=self.part.least,
        )

    def paced(self, state: PolicyState, chooser: Chooser, offers: Sequence[Offer]) -> Paced:
        """Return the offers within the round's time budget; unchanged without a pacer."""
        if self.pacer is None or state.pace is None:
            return Paced(offers=tuple(offers), budget_s=None)
        return self.pacer.pace(state.pace, chooser, offers)

    def local_steps(self, state: PolicyState, choices: Sequence[Choice], budget_s: float | None) -> tuple[int, ...]:
        """Return the local steps of every chosen device; a pacer uses the time that is left of the budget."""
        if self.pacer is None or state.pace is None:
            return tuple(self.cost.steps(choice.profile, choice.arm) for choice in choices)
        return tuple(self.pacer.steps(state.pace, choice, budget_s) for choice in choices)

    def reward_weights(self, state: PolicyState) -> tuple[float, ...]:
        """Return the weights of a reward's four parts."""
        weights = self.config.strategy.reward_weights
        return weights if self.pacer is None or state.pace is None else self.pacer.reward_weights(state.pace, weights)

    def modelled_seconds(self, opened: PlannedRound) -> dict[str, float] | None:
        """Return the modelled times of a round by device, if rewards use them in place of clocks."""
        if self.config.strategy.reward_times != "model":
            return None
        return {device: planned.model_s for device, planned in opened.devices.items()}

    def learn_pace(self, state: PolicyState, opened: PlannedRound, outcomes: Sequence[Outcome]) -> PaceState | None:
        """Return the pacer's state after a round; None without a pacer."""
        if self.pacer is None or state.pace is None:
            return None
        return self.pacer.learn(state.pace, opened, outcomes, self.modelled_seconds(opened))

    def with_trials(
        self, state: PolicyState, choices: Sequence[Choice], steps: Sequence[int], round_index: int
    ) -> PolicyState:
        """Return the state with the round's trials of learning rates, if there are any; `steps` are the local ones."""
        if self.rates is None or state.rate is None:
            return state
        profiles = [choice.profile for choice in choices]
        return replace(state, rate=self.rates.opened(state.rate, profiles, steps, round_index))

    def first_rate(self, state: PolicyState, choices: Sequence[Choice]) -> float:
        """Return the learning rate of the first round: the configuration's, or the one that trials found or assume."""
        if self.config.training.learning_rate is not None:
            return self.config.training.learning_rate
        if self.rates is None:
            return UNKNOWN
        return self.rates.rate(state.rate or RateState(), [choice.profile for choice in choices])

    def learn_rate(
        self, state: PolicyState, outcomes: Sequence[Outcome], round_index: int
    ) -> tuple[RateState | None, tuple[Json, ...]]:
        """Return the search for the rate after a round, and the log's record of trials; None where the rate is set."""
        if self.rates is None or state.rate is None:
            return None, ()
        return self.rates.learned(state.rate, outcomes, round_index)

    def order_key(self, profile: DeviceProfile) -> str:
        """Return the key of the removal order that a device is cut along."""
        return order_key(self.config.strategy.order, profile.device_class, profile.name)
