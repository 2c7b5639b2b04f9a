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
from fedcore.core.contract.protocols import NO_STEPS, Bandit, Json
from fedcore.core.pruning.criteria import CRITERIA
from fedcore.core.seeds import generator, uniform
from fedcore.strategies.composition.compose import compose
from fedcore.strategies.policy.arm_choice import Choice, Chooser, Offer, schedule_of
from fedcore.strategies.policy.cost import RoundCost
from fedcore.strategies.policy.pacer import PROBE_STEPS, Pacer
from fedcore.strategies.policy.sampler import sample_cohort
from fedcore.strategies.policy.speed import told_speed
from fedcore.strategies.policy.updates import learn_arms, learn_committed

TALENT_SPREAD = 0.1  # of devices' talents, lognormal
SCORING = CRITERIA["taylor"]  # whose cost does not depend on the steps
CLOCK_NOISE = 0.03  # of the measured time of training, lognormal
_NORMAL = NormalDist()

_KNOWN: dict[tuple[tuple[int, int], int], tuple[float, float, float, float]] = {}
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
        policy = compose("regret", self.config, GEOMETRY, HEAD)
        self.bandit, self.cost = player.bandit or policy.bandit, _COSTS.setdefault(fleet.name, policy.cost)
        self.pacer = replace(policy.pacer, cost=self.cost) if policy.pacer else None
        if player.oracle:
            self.pacer = Pacer(
                cost=self.cost, largest_rank=RANKS[-1], narrows=True, criterion=SCORING, told=True, single=True
            )
        self.clerk = self.pacer or Pacer(  # reckons demands
            cost=self.cost, largest_rank=RANKS[-1], narrows=False, criterion=SCORING
        )
        self.progress = 0.0
        self.state: Json = {"committed": {}, "bandits": {}, "memory_scale": {}, "pace": self.clerk.start()}

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
        chooser = Chooser(config=self.config, bandit=self.bandit, cost=self.cost)
        offers = [chooser.offer(self.state, profile, t) for profile in cohort]
        budget_s, offered = None, tuple(offers)
        if self.pacer:
            weights = [profile.num_examples for profile in cohort]
            paced = self.pacer.pace(self.state["pace"], chooser, offers, weights, ahead)
            budget_s, offered = paced.budget_s, paced.offers
        choices = [chooser.choose(self.state, offer) for offer in offered]
        reach = math.exp(-self.progress / PROGRESS_SCALE)
        table = [
            self._arms(choice.profile, [(choice.counts, choice.arm.rank)], [choice.arm.steps], ahead)
            for choice in choices
        ]
        regrets = [self._regret(place, chooser, offer, table, ahead, reach) for place, offer in enumerate(offers)]
        opened = {
            choice.profile.name: {"counts": list(choice.counts), "bandit_key": choice.bandit_key}
            | self.clerk.opened(choice, ahead[choice.profile.device_class])
            for choice in choices
        }
        outcomes = [self._outcome(*pair, reach, opened) for pair in zip(choices, table, strict=True)]
        self._learn(opened, outcomes, budget_s)
        gained = STEPS_SCALE * float(np.mean([worths.gain[0] for worths in table]))
        self.progress += gained * reach
        return float(np.mean(regrets)), max(float(worths.seconds[0]) for worths in table), gained

    def _learn(self, opened: Json, outcomes: Sequence[Outcome], budget_s: float | None) -> None:
        targets, weights = dict.fromkeys(opened, self.fleet.target), self.config.strategy.reward_weights
        parts = reward_parts(outcomes, targets, budget_s=budget_s, per_second=True)
        if self.pacer and not self.pacer.narrows:
            weights = (*weights[:3], self.state["pace"]["multiplier"])
        rewards = rewards_of(outcomes, parts, weights)
        open_round = {"devices": opened, "budget_s": budget_s}
        self.state |= {
            "committed": learn_committed(self.state["committed"], opened, outcomes),
            "bandits": learn_arms(self.state["bandits"], self.bandit, opened, outcomes, rewards),
            "pace": self.clerk.learn(self.state["pace"], open_round, outcomes, None),
        }

    def _arms(
        self,
        profile: DeviceProfile,
        sizes: Sequence[tuple[tuple[int, int], int]],
        choices: Sequence[int],
        ahead: Mapping[str, bool],
    ) -> Worths:
        """Return the truth about every (counts, rank) of `sizes` with each number of steps."""
        speed = told_speed(profile)
        rows = np.repeat([(*self._figures(*size), size[1] / RANKS[-1]) for size in sizes], len(choices), axis=0)
        step_s, down, up, sparsity, share = rows.T
        steps = np.tile(np.array(choices, dtype=np.float64), len(sizes))
        extra = PROBE_STEPS + SCORING.once * ahead[profile.device_class]
        talent = math.exp(TALENT_SPREAD * self._luck("talent", 0, profile.name))
        return Worths(
            gain=gains(steps, sparsity, share) * talent,
            importance=IMPORTANCE_POWER * np.log(share),
            progress=np.minimum(1.0, sparsity / self.fleet.target),
            seconds=speed.compute * (steps + extra) * step_s + speed.down * down + speed.up * up,
        )

    def _figures(self, counts: tuple[int, int], rank: int) -> tuple[float, float, float, float]:
        """Return seconds of a step without slowdown, bytes down and up, and sparsity; the same in every game."""
        if (counts, rank) not in _KNOWN:
            one = self.cost.demand("", counts, rank, 1.0)
            sparsity = GEOMETRY.sparsity(heads=counts[0], channels=counts[1])
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

    def _outcome(self, choice: Choice, worths: Worths, reach: float, opened: Json) -> Outcome:
        name, t, speed = choice.profile.name, choice.round, told_speed(choice.profile)
        drop = reach * float(worths.gain[0]) + NOISE * self._luck("drop", t, name)
        train_s, down_bytes, up_bytes = opened[name]["demand"]
        phases = {
            "train": speed.compute * train_s * math.exp(CLOCK_NOISE * self._luck("clock", t, name)),
            "download": speed.down * down_bytes * math.exp(LINK_SPREAD * self._luck("down", t, name)),
            "upload": speed.up * up_bytes * math.exp(LINK_SPREAD * self._luck("up", t, name)),
        }
        importance = float(worths.importance[0]) + IMPORTANCE_NOISE * self._luck("importance", t, name)
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

    def _luck(self, what: str, t: int, device: str) -> float:
        return _NORMAL.inv_cdf(uniform(self.seed, what, t, device))
