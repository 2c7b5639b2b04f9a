"""Playing a policy's choices against the known truth: the real chooser, pacer, bandit and reward; devices by formula.

Left out are keep-sets, aggregation and whatever else does not touch a choice.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from benchmarks.regret.fleets import COHORT, GEOMETRY, HEAD, LINK_SPREAD, RANKS, ROUNDS, Fleet
from benchmarks.regret.truth import (
    IMPORTANCE_NOISE,
    IMPORTANCE_POWER,
    NOISE,
    PROGRESS_SCALE,
    STEPS_SCALE,
    Worths,
    expected_rewards,
    gains,
    joined,
)
from fedcore.core.bandit.lattice import grid
from fedcore.core.bandit.reward import reward_parts, rewards_of
from fedcore.core.config.tables import Config
from fedcore.core.contract.outcome import DeviceReport, Outcome, Status, TrainingMetrics
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import NO_STEPS, Bandit
from fedcore.core.model.geometry import Counts
from fedcore.core.pruning.criteria import CRITERIA
from fedcore.core.seeds import generator, uniform
from fedcore.strategies.compose import make_policy
from fedcore.strategies.composition.method import Method
from fedcore.strategies.policy.arm_choice import Choice, Chooser, Offer
from fedcore.strategies.policy.cohort import CohortMember, sample_cohort
from fedcore.strategies.policy.cost import RoundCost
from fedcore.strategies.policy.feasible import Memory, schedule_of
from fedcore.strategies.policy.pacer import PROBE_STEPS, ArmFilter, Pacer
from fedcore.strategies.policy.speed import SpeedSource, declared_speed
from fedcore.strategies.policy.state import PacedWork, PlannedDevice, PlannedRound, PolicyState
from fedcore.strategies.policy.updates import learn_arms, learn_committed

TALENT_SPREAD = 0.1  # of devices' talents, lognormal
SCORING = CRITERIA["taylor"]  # whose cost does not depend on the steps
CLOCK_NOISE = 0.03  # of the measured time of training, lognormal
METHOD = Method(name="regret", settings=lambda config: config)
_NORMAL = NormalDist()

_KNOWN: dict[tuple[Counts, int], tuple[float, float, float, float]] = {}
_COSTS: dict[str, RoundCost] = {}  # one for all games of a fleet: it remembers what it has reckoned


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """A policy to be measured; `strategy` are changes to [strategy]."""

    name: str
    strategy: Mapping[str, object] = field(default_factory=dict)
    bandit: Bandit | None = None  # None: the one that the configuration names
    oracle: bool = False  # plays fedcore.strategies.methods.oracle's arms


class Played(NamedTuple):
    """What came of one game, by round."""

    regret: list[float]  # mean over the cohort of best - chosen expected reward
    seconds: list[float]  # of the cohort's slowest device
    progress: list[float]  # what the cohort's mean update adds, in effective steps


class Game:
    """One policy on one fleet under one seed; the same figures for the same three."""

    def __init__(self, fleet: Fleet, player: Player, seed: int) -> None:
        config = fleet.config(**player.strategy)
        self.config: Config = replace(config, run=replace(config.run, seed=seed))
        self.fleet, self.seed = fleet, seed
        policy = make_policy(METHOD, self.config, GEOMETRY, HEAD)
        self.bandit, self.cost = player.bandit or policy.bandit, _COSTS.setdefault(fleet.name, policy.cost)
        self.pacer = replace(policy.pacer, cost=self.cost) if policy.pacer else None
        if player.oracle:
            self.pacer = Pacer(
                cost=self.cost,
                largest_rank=RANKS[-1],
                criterion=SCORING,
                arm_filter=ArmFilter.BEST,
                speed_source=SpeedSource.EXACT,
            )
        self.clerk = self.pacer or Pacer(  # reckons demands
            cost=self.cost, largest_rank=RANKS[-1], criterion=SCORING, arm_filter=ArmFilter.NONE
        )
        self.progress = 0.0
        self.state = PolicyState(orders={}, pace=self.clerk.start())

    def play(self) -> Played:
        """Return the figures of all rounds."""
        played = Played([], [], [])
        rosters = [self.fleet.roster(self.seed, t) for t in (1, ROUNDS)]
        for t in range(1, ROUNDS + 1):
            roster = rosters[0 < self.fleet.drift_round <= t]
            for series, figure in zip(played, self._round(roster, t), strict=True):
                series.append(figure)
        return played

    def _round(self, roster: Sequence[DeviceProfile], t: int) -> tuple[float, float, float]:
        cohort = sample_cohort(roster, COHORT, generator(self.seed, "cohort", t))
        ahead = {
            profile.device_class: schedule_of(self.config, profile.device_class).cuts_ahead(t) for profile in cohort
        }
        chooser = Chooser(
            memory=Memory(cost=self.cost),
            config=self.config,
            bandit=self.bandit,
            cost=self.cost,
            state=self.state,
            round=t,
        )
        members = [
            CohortMember(profile=profile, weight=profile.num_examples, score=ahead[profile.device_class])
            for profile in cohort
        ]
        offers = [chooser.offer(member) for member in members]
        budget_s, offered = None, tuple(offers)
        if self.pacer and self.state.pace:
            paced = self.pacer.pace(self.state.pace, chooser, offers)
            budget_s, offered = paced.budget_s, paced.offers
        choices = [chooser.choose(offer) for offer in offered]
        reach = math.exp(-self.progress / PROGRESS_SCALE)
        table = [
            self._arms(choice.profile, [(choice.counts, choice.arm.rank)], [choice.arm.steps], ahead)
            for choice in choices
        ]
        regrets = [self._regret(place, chooser, offer, table, ahead, reach) for place, offer in enumerate(offers)]
        works = [self.clerk.work(choice, self.clerk.cost.steps(choice.profile, choice.arm)) for choice in choices]
        outcomes = [self._outcome(*figures, reach) for figures in zip(choices, table, works, strict=True)]
        devices = {choice.profile.name: _planned(choice, work) for choice, work in zip(choices, works, strict=True)}
        self._learn(PlannedRound(round=t, budget_s=budget_s, devices=devices), outcomes)
        gained = STEPS_SCALE * float(np.mean([worths.gain[0] for worths in table]))
        self.progress += gained * reach
        return float(np.mean(regrets)), max(float(worths.seconds[0]) for worths in table), gained

    def _learn(self, opened: PlannedRound, outcomes: Sequence[Outcome]) -> None:
        targets, weights = dict.fromkeys(opened.devices, self.fleet.target), self.config.strategy.reward_weights
        parts = reward_parts(outcomes, targets, budget_s=opened.budget_s, per_second=True)
        pace = self.state.pace or self.clerk.start()
        if self.pacer:
            weights = self.pacer.reward_weights(pace, weights)
        rewards = rewards_of(outcomes, parts, weights)
        self.state = replace(
            self.state,
            committed=learn_committed(self.state.committed, opened.devices, outcomes),
            bandits=learn_arms(self.state.bandits, self.bandit, opened.devices, outcomes, rewards),
            pace=self.clerk.learn(pace, opened, outcomes, None),
        )

    def _arms(
        self,
        profile: DeviceProfile,
        sizes: Sequence[tuple[Counts, int]],
        choices: Sequence[int],
        ahead: Mapping[str, bool],
    ) -> Worths:
        """Return the truth about every (counts, rank) of `sizes` with each number of steps."""
        speed = declared_speed(profile)
        rows = np.repeat([(*self._figures(*size), size[1] / RANKS[-1]) for size in sizes], len(choices), axis=0)
        step_s, down, up, sparsity, share = rows.T
        steps = np.tile(np.array(choices, dtype=np.float64), len(sizes))
        extra = PROBE_STEPS + SCORING.once * ahead[profile.device_class]
        talent = math.exp(TALENT_SPREAD * self._deviate("talent", 0, profile.name))
        return Worths(
            gain=gains(steps, sparsity, share) * talent,
            importance=IMPORTANCE_POWER * np.log(share),
            progress=np.minimum(1.0, sparsity / self.fleet.target),
            seconds=speed.compute * (steps + extra) * step_s + speed.down * down + speed.up * up,
        )

    def _figures(self, counts: Counts, rank: int) -> tuple[float, float, float, float]:
        """Return seconds of a step without slowdown, bytes down and up, and sparsity; the same in every game."""
        if (counts, rank) not in _KNOWN:
            one = self.cost.demand("", counts, rank, 1.0)
            sparsity = GEOMETRY.sparsity(counts)
            _KNOWN[counts, rank] = one.train_s, one.down_bytes, one.up_bytes, sparsity
        return _KNOWN[counts, rank]

    def _regret(
        self,
        place: int,
        chooser: Chooser,
        offer: Offer,
        table: Sequence[Worths],
        ahead: Mapping[str, bool],
        reach: float,
    ) -> float:
        """Return by how much the expected reward of the best arm on offer exceeds that of the one played."""
        space = replace(offer.space, steps=NO_STEPS)
        sizes = [(chooser.counts(offer, arm.sparsity), arm.rank) for arm in grid(space)]
        mine = joined([table[place], self._arms(offer.profile, sizes, offer.space.steps, ahead)])
        others = joined([worths for other, worths in enumerate(table) if other != place])
        rewards = expected_rewards(mine, others, reach=reach, weights=self.config.strategy.reward_weights)
        return float(rewards.max() - rewards[0])

    def _outcome(self, choice: Choice, worths: Worths, work: PacedWork, reach: float) -> Outcome:
        name, t, speed = choice.profile.name, choice.round, declared_speed(choice.profile)
        drop = reach * float(worths.gain[0]) + NOISE * self._deviate("drop", t, name)
        train_s, down_bytes, up_bytes = work.demand
        phases = {
            "train": speed.compute * train_s * math.exp(CLOCK_NOISE * self._deviate("clock", t, name)),
            "download": speed.down * down_bytes * math.exp(LINK_SPREAD * self._deviate("down", t, name)),
            "upload": speed.up * up_bytes * math.exp(LINK_SPREAD * self._deviate("up", t, name)),
        }
        importance = float(worths.importance[0]) + IMPORTANCE_NOISE * self._deviate("importance", t, name)
        report = DeviceReport(
            metrics=TrainingMetrics(
                loss_before=1.0,
                loss_after=1.0 - drop,
                train_loss=1.0,
                peak_memory_mb=0.0,
                adapter_importance=reach * math.exp(importance),
            ),
            phase_s=phases,
            num_examples=choice.profile.num_examples,
            steps=choice.arm.steps,
            bytes_down=0,
            bytes_up=0,
        )
        return Outcome(
            device=name,
            device_class=choice.profile.device_class,
            round=t,
            arm=choice.realised,
            status=Status.ACCEPTED,
            time_s=sum(phases.values()),
            report=report,
        )

    def _deviate(self, what: str, t: int, device: str) -> float:
        return _NORMAL.inv_cdf(uniform(self.seed, what, t, device))


def _planned(choice: Choice, work: PacedWork) -> PlannedDevice:
    return PlannedDevice(
        counts=choice.counts,
        weight=choice.member.weight,
        bandit_key=choice.bandit_key,
        order_key="fleet",
        model_s=0.0,
        pace=work,
    )
