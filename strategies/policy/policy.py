"""A policy: bandit x sampler x schedule x removal order x aggregator, composed into one strategy.

State, a JSON value:

    {"order":        {scope key: removal order} (fedcore.core.pruning.scope),
     "bandits":      {class, or device where posteriors are not shared: bandit state},
     "committed":    {device: [head units, channels] of the last accepted update},
     "memory_scale": {class: measured / estimated peak memory},
     "counted":      rounds that have moved the adapter: all but void ones,
     "pace":         speeds and multiplier (fedcore.strategies.policy.pacer), null where nothing keeps a pace,
     "open":         {"round": r, "budget_s": s, "devices": {device: {"counts", "weight", "bandit_key", "order",
                                                                     "model_s", with a pace also "demand" and the like,
                                                                     "trains" where not everything does}}}}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedcore.core.bandit.reward import reward_parts, rewards_of
from fedcore.core.config.tables import Config
from fedcore.core.contract.assignment import Assignment, TrainingSpec
from fedcore.core.contract.outcome import GroupScores, Outcome
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import Aggregator, Bandit, Json, RoundPlan, RoundReport, ServerOptimizer
from fedcore.core.errors import JoinRefused, RunError
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.geometry import Counts
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.trained_part import TrainedPart
from fedcore.core.pruning.counts import keep_counts
from fedcore.core.pruning.ordering import keep_set
from fedcore.core.pruning.scope import class_order, first_orders, frozen_orders, keep_sets_of, order_key
from fedcore.core.seeds import derive_seed, generator
from fedcore.strategies.policy.arm_choice import Choice, Chooser, Offer, schedule_of
from fedcore.strategies.policy.codec_choice import codec_event, codec_of
from fedcore.strategies.policy.cost import RoundCost
from fedcore.strategies.policy.distilling import distillation_of
from fedcore.strategies.policy.learning_rate import decay
from fedcore.strategies.policy.pacer import Paced, Pacer
from fedcore.strategies.policy.part_choice import WHOLE, Cohort, PartChoice, trains_json
from fedcore.strategies.policy.sampler import sample_cohort
from fedcore.strategies.policy.updates import learn_arms, learn_committed, learn_memory, learn_orders, reward_event
from fedcore.strategies.policy.weights import EXAMPLES, cohort_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A strategy made of parts; `config` is the resolved run, `prior` scores of the dense model's groups."""

    name: str
    config: Config
    spec: AdapterSpec
    aggregator: Aggregator[Any]
    bandit: Bandit
    cost: RoundCost
    server_optimizer: ServerOptimizer | None = None
    pacer: Pacer | None = None
    class_ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)  # of classes with their own
    part: PartChoice = field(default=WHOLE, compare=False)
    prior: GroupScores | None = field(default=None, compare=False, repr=False)

    def start(self) -> Json:
        """Return the state before the first round."""
        orders = first_orders(self.config.strategy.order, self.spec.geometry, self.prior)
        pace = self.pacer.start() if self.pacer else None
        return {
            "order": orders,
            "bandits": {},
            "committed": {},
            "memory_scale": {},
            "counted": 0,
            "pace": pace,
            "open": None,
        }

    def admit(self, profile: DeviceProfile) -> None:
        """Raise JoinRefused where the class's target sparsity at the smallest rank exceeds the device's memory."""
        target, rank = self.config.target_sparsity(profile.device_class), self.config.strategy.ranks[0]
        needed = self.cost.memory_mb(keep_counts(self.spec.geometry, target), rank, self.part.least)
        if profile.memory_mb and needed > profile.memory_mb:
            raise JoinRefused(
                f"device {profile.name} of class {profile.device_class}: training needs {needed:.0f} MiB at sparsity "
                f"{target:g} and rank {rank}, the device allows {profile.memory_mb:.0f} MiB; raise memory_mb or "
                f"target_sparsity, or lower training.batch_size or model.max_length"
            )

    def plan(self, state: Json, roster: Sequence[DeviceProfile], round_index: int) -> tuple[Json, RoundPlan]:
        """Choose a cohort, an arm for each member, and freeze the removal orders as far as anyone is cut."""
        rng = generator(self.config.run.seed, "cohort", round_index)
        cohort = sample_cohort(roster, self.config.strategy.cohort, rng)
        weights = cohort_weights(self.config.strategy.weights or EXAMPLES, cohort, roster)
        chooser = Chooser(
            config=self.config,
            bandit=self.bandit,
            cost=self.cost,
            class_ranks=self.class_ranks,
            trains=self.part.least,
        )
        scored = self._scored({profile.device_class for profile in cohort}, round_index)
        paced = self._paced(
            state, chooser, [chooser.offer(state, each, round_index) for each in cohort], weights, scored
        )
        choices = [chooser.choose(state, offer) for offer in paced.offers]
        orders = frozen_orders(state["order"], self._cuts(choices), self.spec.geometry, self.prior)
        wanted = [(self._order_key(each.profile), each.counts) for each in choices]
        keep_sets = keep_sets_of(orders, wanted, self.spec.geometry)
        weighted = list(zip(choices, weights, strict=True))
        parts = self.part.choose(
            Cohort(
                counted=_counted(state, round_index),
                choices=choices,
                cost=self.cost,
                memory_scale=state["memory_scale"],
            )
        )
        trains = {each.profile.name: part for each, part in zip(choices, parts, strict=True)}
        training = self._training(choices, trains, round_index)
        plan = RoundPlan(
            assignments=tuple(
                self._assign(
                    each,
                    keep_sets[self._order_key(each.profile), each.counts],
                    self._taught(training[each.profile.name], each, state),
                    weight=weight,
                    score=scored[each.profile.device_class],
                )
                for each, weight in weighted
            ),
            events=(
                *(each.event(weight) | trains_json(trains[each.profile.name]) for each, weight in weighted),
                *(event for each in cohort if (event := codec_event(self.config, each, round_index)) is not None),
                *(({"event": "pace", "round": round_index, "budget_s": paced.budget_s},) if self.pacer else ()),
            ),
        )
        opened = {
            each.profile.name: self._open(each, weight, scored[each.profile.device_class], trains[each.profile.name])
            for each, weight in weighted
        }
        open_round = {"round": round_index, "budget_s": paced.budget_s, "devices": opened}
        return {**state, "order": orders, "open": open_round}, plan

    def close(
        self, state: Json, outcomes: Sequence[Outcome], round_index: int, *, void: bool = False
    ) -> tuple[Json, RoundReport]:
        """Reward and observe every outcome, commit accepted keep-sets, learn memory and removal orders.

        Raises RunError for an outcome that the round's plan did not ask for.
        """
        opened = self._opened(state, outcomes, round_index)
        ordered = sorted(outcomes, key=lambda outcome: outcome.device)
        targets = {each.device: self.config.target_sparsity(each.device_class) for each in ordered}
        modelled = self.config.strategy.reward_times == "model"
        times = {device: each["model_s"] for device, each in opened.items()} if modelled else None
        budget_s = state["open"].get("budget_s")
        per_second = bool(self.config.strategy.local_steps_choices)
        parts = reward_parts(ordered, targets, times, budget_s=budget_s, per_second=per_second)
        rewards = rewards_of(ordered, parts, self._reward_weights(state))
        orders, refused = learn_orders(state["order"], self.spec.geometry, opened, ordered)
        after = {
            "order": orders,
            "bandits": learn_arms(state["bandits"], self.bandit, opened, ordered, rewards),
            "committed": learn_committed(state["committed"], opened, ordered),
            "memory_scale": learn_memory(state["memory_scale"], opened, ordered, self.cost),
            "counted": _counted(state, round_index) + (not void),
            "pace": self._learned_pace(state, ordered, times),
            "open": None,
        }
        events = [reward_event(each, opened, rewards.get(each.device), parts.get(each.device)) for each in ordered]
        return after, RoundReport(rewards=rewards, events=(*events, *refused))

    def export_keep_set(self, state: Json, device_class: str) -> KeepSet:
        """Return the keep-set at the class's target sparsity, whatever its devices have reached.

        Devices with orders of their own have no keep-set in common: the class's is by the mean of their scores.
        """
        geometry, scope = self.spec.geometry, self.config.strategy.order
        counts = keep_counts(geometry, self.config.target_sparsity(device_class))
        return keep_set(class_order(state["order"], scope, device_class, geometry, self.prior), geometry, counts)

    def _paced(
        self, state: Json, chooser: Chooser, offers: Sequence[Offer], weights: Sequence[int], scored: Mapping[str, bool]
    ) -> Paced:
        if self.pacer is None:
            return Paced(offers=tuple(offers), budget_s=None)
        return self.pacer.pace(state["pace"], chooser, offers, weights, scored)

    def _reward_weights(self, state: Json) -> tuple[float, ...]:
        weights = self.config.strategy.reward_weights
        if self.pacer is None or self.pacer.narrows:
            return weights
        return (*weights[:3], state["pace"]["multiplier"])

    def _learned_pace(
        self, state: Json, outcomes: Sequence[Outcome], modelled: Mapping[str, float] | None
    ) -> Json | None:
        return None if self.pacer is None else self.pacer.learn(state["pace"], state["open"], outcomes, modelled)

    def _order_key(self, profile: DeviceProfile) -> str:
        return order_key(self.config.strategy.order, profile.device_class, profile.name)

    def _cuts(self, choices: Sequence[Choice]) -> dict[str, Counts]:
        """Return how deep the deepest cut along each order goes."""
        geometry, deepest = self.spec.geometry, dict[str, Counts]()
        for each in choices:
            key = self._order_key(each.profile)
            heads, channels = deepest.get(key, (0, 0))
            removed = geometry.head_units - each.counts.heads, geometry.ffn - each.counts.channels
            deepest[key] = Counts(max(heads, removed[0]), max(channels, removed[1]))
        return deepest

    def _scored(self, present: set[str], round_index: int) -> dict[str, bool]:
        """Return whether scores of each class still matter: under the fleet's one order, every class counts for all."""
        known = present | {each.name for each in self.config.classes}
        ahead = {each: schedule_of(self.config, each).cuts_ahead(round_index) for each in known}
        return ahead if self.config.strategy.order != "fleet" else dict.fromkeys(known, any(ahead.values()))

    def _assign(self, choice: Choice, kept: KeepSet, training: TrainingSpec, *, weight: int, score: bool) -> Assignment:
        return Assignment(
            round=choice.round,
            device=choice.profile.name,
            arm=choice.arm,
            keep_set=kept,
            local_steps=choice.arm.steps or self.config.training.local_steps,
            weight=weight,
            seed=derive_seed(self.config.run.seed, "train", choice.round, choice.profile.name),
            deadline_s=self.config.coordinator.round_deadline_s,
            score=score,
            training=training,
        )

    def _training(
        self, choices: Sequence[Choice], trains: Mapping[str, TrainedPart], round_index: int
    ) -> dict[str, TrainingSpec]:
        """Return how each device trains; those that train alike share one value."""
        asked = {
            each.profile.name: (codec_of(self.config, each.profile), trains[each.profile.name]) for each in choices
        }
        alike = {each: self._training_spec(*each, round_index) for each in set(asked.values())}
        return {device: alike[each] for device, each in asked.items()}

    def _training_spec(self, codec: str, trains: TrainedPart, round_index: int) -> TrainingSpec:
        training = self.config.training
        return TrainingSpec(
            batch_size=training.batch_size,
            learning_rate=training.learning_rate * decay(self.config, round_index),
            weight_decay=training.weight_decay,
            lora_scale=training.lora_scale,
            importance=training.importance,
            keep_optimizer=training.keep_optimizer and self.aggregator.kind == "reducing",
            codec=codec,
            trains=trains,
            balanced=training.label_skew == "balance",
        )

    def _taught(self, training: TrainingSpec, choice: Choice, state: Json) -> TrainingSpec:
        """Return the spec with what a cut device learns from its dense model; without, where that does not fit."""
        scale = state["memory_scale"].get(choice.profile.device_class, 1.0)
        how = distillation_of(self.config, self.cost, choice, scale)
        return training if how is None else replace(training, distillation=how)

    def _open(self, choice: Choice, weight: int, score: bool, trains: TrainedPart) -> Json:
        opened: Json = {
            "counts": list(choice.counts),
            "weight": weight,
            "bandit_key": choice.bandit_key,
            "order": self._order_key(choice.profile),
            "model_s": self.cost.seconds(choice.profile, choice.counts, choice.arm.rank, choice.arm.steps, part=trains),
        } | trains_json(trains)
        return opened if self.pacer is None else opened | self.pacer.opened(choice, score)

    def _opened(self, state: Json, outcomes: Sequence[Outcome], round_index: int) -> Json:
        plan = state["open"] or {"round": None, "devices": {}}
        strangers = sorted({each.device for each in outcomes} - set(plan["devices"]))
        if plan["round"] != round_index or strangers:
            raise RunError(
                f"cannot close round {round_index}: the plan is for round {plan['round']} and has no assignment for "
                f"{', '.join(strangers) or 'nobody'}; plan the round again from the last committed state"
            )
        devices: Json = plan["devices"]
        return devices


def _counted(state: Json, round_index: int) -> int:
    """Return how many rounds have moved the adapter before this one; a run of an earlier version did not note it."""
    return int(state.get("counted", round_index - 1))
