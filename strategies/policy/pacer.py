"""Keeping the fleet's pace: learned speeds, a common time budget for each round, and what becomes of slower arms.

`strategy.pace` says what a round's budget (fedcore.strategies.policy.round_budget) does:

- "filter": a device is offered only arms that it is predicted to end within the budget: the steps of its worthiest such
  arm, at least its sparsity, at most its rank. Floors of the schedule stand, so the budget is never shorter than the
  slowest device needs.
- "lagrange": every arm stays on offer, and being late costs reward: a multiplier in the place of the fourth reward
  weight, times the excess over the budget. The multiplier moves by dual ascent on the cohort's mean excess.

A device that was never measured is as fast as it found itself when it joined, else as its class. One of which neither
is known is probed, once, with the run's usual steps at the smallest rank, and leaves the budget alone. Nobody is left
out of a cohort for being slow: that would starve the fleet of the slow devices' data.

State, a JSON value: {"speeds": see fedcore.strategies.policy.speed, "multiplier": of the excess}.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedcore.core.bandit.lattice import grid
from fedcore.core.config.tables import StrategyConfig
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.outcome import Outcome, Status
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import ArmSpace, Json
from fedcore.core.model.geometry import Counts
from fedcore.core.pruning.criteria import CRITERIA, Criterion
from fedcore.strategies.policy.arm_choice import Choice, Chooser, Offer
from fedcore.strategies.policy.cost import Demand, RoundCost
from fedcore.strategies.policy.round_budget import Timetable, best_budget, worth
from fedcore.strategies.policy.speed import (
    UNTRIED,
    Measured,
    Speed,
    Tried,
    known_speed,
    learn_speeds,
    measured_speed,
    no_speeds,
    told_speed,
    tried_speed,
)

PROBE_STEPS = 1.0  # the two forward passes of the probe take about as long as a step
ALLOWED_EXCESS = 0.05  # mean lateness of a cohort that the multiplier leaves alone, as a share of the budget
ASCENT = 0.5  # step of the dual ascent
LARGEST_MULTIPLIER = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced:
    """A cohort's offers after the pacer, in order, and the round's budget; None where no speed is known."""

    offers: tuple[Offer, ...]
    budget_s: float | None


class Menu(NamedTuple):
    """Arms all over a device's space: what each asks for, and what it is worth; (arms,) each."""

    arms: list[Arm]
    train_s: NDArray[np.float64]
    down_bytes: NDArray[np.float64]
    up_bytes: NDArray[np.float64]
    worths: NDArray[np.float64]

    def timetable(self, speed: Speed, weight: int) -> Timetable:
        """Return the arms as a device of this speed sees them."""
        links = speed.down * self.down_bytes + speed.up * self.up_bytes
        return Timetable(seconds=speed.compute * self.train_s + links + speed.other, worths=self.worths, weight=weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacer:
    """Learns speeds and sets budgets.

    With `told`, speeds are those of the profiles and nothing is learned; with `single`, each device is offered its
    worthiest arm alone.
    """

    cost: RoundCost
    largest_rank: int
    narrows: bool  # "filter"
    criterion: Criterion  # what scoring takes, where importances are asked for
    multiplier: float = 0.0  # before the first round
    context: bool = False  # tell bandits the speeds
    believes: bool = False  # learn from profiles in place of clocks, so that runs repeat
    told: bool = False
    single: bool = False

    def start(self) -> Json:
        """Return the state before the first round."""
        return {"speeds": no_speeds(), "multiplier": self.multiplier}

    def pace(
        self, state: Json, chooser: Chooser, offers: Sequence[Offer], weights: Sequence[int], scored: Mapping[str, bool]
    ) -> Paced:
        """Return the offers of a round, narrowed where the pace is a filter, and its budget.

        `scored` says of which classes importances are asked in this round.
        """
        speeds = {each.profile.name: self._speed(state, each.profile) for each in offers}
        tables: dict[str, tuple[Menu, Timetable]] = {}
        menus: dict[tuple[str, ArmSpace, Counts], Menu] = {}  # the same for devices of a class and history
        for offer, weight in zip(offers, weights, strict=True):
            speed = speeds[offer.profile.name]
            if speed is None:
                continue
            key = offer.profile.device_class, offer.space, offer.committed
            if key not in menus:
                menus[key] = self._menu(chooser, offer, scored[offer.profile.device_class])
            tables[offer.profile.name] = menus[key], menus[key].timetable(speed, weight)
        budget_s = best_budget([table for _, table in tables.values()]) if tables else None
        spaces = [self._narrowed(each, tables, budget_s) if self.narrows else each.space for each in offers]
        if self.context:
            spaces = [replace(s, context=_context(speeds[o.profile.name])) for s, o in zip(spaces, offers, strict=True)]
        paced = (replace(each, space=space) for each, space in zip(offers, spaces, strict=True))
        return Paced(offers=tuple(paced), budget_s=budget_s)

    def _speed(self, state: Json, profile: DeviceProfile) -> Speed | None:
        if self.told:
            return told_speed(profile)
        return known_speed(state["speeds"], profile, self._tried(profile))

    def _tried(self, profile: DeviceProfile) -> Tried:
        """Return what a device's own trial says; nothing where runs are to repeat, which no clock lets them."""
        return UNTRIED if self.believes else tried_speed(profile.trial, self.cost.flops_per_s)

    def opened(self, choice: Choice, score: bool) -> Json:
        """Return what an open round keeps of a choice: the work it asks for, and what the profile says of speeds."""
        steps = choice.arm.steps or self.cost.local_steps
        demand = self._demand(choice.profile.device_class, choice.counts, choice.arm.rank, steps, score=score)
        work = [demand.train_s, demand.down_bytes, demand.up_bytes]
        kept: Json = {"demand": work, "tried": list(self._tried(choice.profile))}
        if self.believes:
            kept["told"] = list(told_speed(choice.profile))
        if self.context:
            kept["context"] = list(choice.space.context)
        return kept

    def learn(
        self, state: Json, opened: Json, outcomes: Sequence[Outcome], modelled: Mapping[str, float] | None
    ) -> Json:
        """Return the state after a round; lateness is reckoned with the `modelled` times, by device, where given."""
        accepted = [each for each in outcomes if each.status is Status.ACCEPTED]
        speeds = {each.device: self._shown(each, opened["devices"][each.device]) for each in accepted}
        measured = {
            each.device: Measured(each.device_class, speed, opened["devices"][each.device]["tried"])
            for each in accepted
            if (speed := speeds[each.device]) is not None
        }
        times = [each.time_s if modelled is None else modelled[each.device] for each in accepted]
        return {
            "speeds": state["speeds"] if self.told else learn_speeds(state["speeds"], measured),
            "multiplier": self._ascended(state["multiplier"], times, opened["budget_s"]),
        }

    def _shown(self, outcome: Outcome, kept: Json) -> Speed | None:
        if self.believes:
            return Speed(*kept["told"])
        train_s, down_bytes, up_bytes = kept["demand"]
        return measured_speed(outcome, Demand(train_s=train_s, down_bytes=down_bytes, up_bytes=up_bytes))

    def _ascended(self, multiplier: float, times: Sequence[float], budget_s: float | None) -> float:
        if self.narrows or not budget_s or not times:
            return multiplier
        excess = sum(min(1.0, max(0.0, time_s / budget_s - 1.0)) for time_s in times) / len(times)
        return min(LARGEST_MULTIPLIER, max(0.0, multiplier + ASCENT * (excess - ALLOWED_EXCESS)))

    def _menu(self, chooser: Chooser, offer: Offer, score: bool) -> Menu:
        train_s, down_bytes, up_bytes, worths = [], [], [], []
        arms = grid(offer.space)
        for arm in arms:
            steps, counts = arm.steps or self.cost.local_steps, chooser.counts(offer, arm.sparsity)
            demand = self._demand(offer.profile.device_class, counts, arm.rank, steps, score=score)
            train_s.append(demand.train_s)
            down_bytes.append(demand.down_bytes)
            up_bytes.append(demand.up_bytes)
            worths.append(worth(steps, arm.sparsity, arm.rank / self.largest_rank))
        return Menu(arms, *(np.array(column, dtype=np.float64) for column in (train_s, down_bytes, up_bytes, worths)))

    def _demand(self, device_class: str, counts: Counts, rank: int, steps: int, *, score: bool) -> Demand:
        extra = PROBE_STEPS + (self.criterion.steps(steps) if score else 0.0)
        return self.cost.demand(device_class, counts, rank, steps + extra)

    def _narrowed(self, offer: Offer, tables: Mapping[str, tuple[Menu, Timetable]], budget_s: float | None) -> ArmSpace:
        if offer.profile.name not in tables or budget_s is None:
            return self._usual(offer.space)
        menu, table = tables[offer.profile.name]
        return self._within(offer.space, menu.arms[table.best_within(budget_s)])

    def _within(self, space: ArmSpace, arm: Arm) -> ArmSpace:
        """Return the arms of `space` with the steps of `arm`, at least as sparse and of at most its rank."""
        if self.single:
            return ArmSpace(
                sparsity_low=arm.sparsity, sparsity_high=arm.sparsity, ranks=(arm.rank,), steps=(arm.steps,)
            )
        ranks = tuple(each for each in space.ranks if each <= arm.rank)
        return replace(space, sparsity_low=arm.sparsity, ranks=ranks, steps=(arm.steps,))

    def _usual(self, space: ArmSpace) -> ArmSpace:
        """Return the arms of a probe: the smallest rank, and the most steps that are not above the run's.

        A link may be a hundred times slower than thought, and the round waits for it.
        """
        usual = max((each for each in space.steps if each <= self.cost.local_steps), default=space.steps[0])
        return replace(space, ranks=space.ranks[:1], steps=(usual,))


def make_pacer(config: StrategyConfig, cost: RoundCost, importance: str) -> Pacer | None:
    """Return the pacer that `config.pace` names, scores being by the criterion `importance`; None where none is."""
    if config.pace == "off":
        return None
    weight = config.reward_weights[3]
    return Pacer(
        cost=cost,
        largest_rank=config.ranks[-1],
        narrows=config.pace == "filter",
        criterion=CRITERIA[importance],
        multiplier=weight,
        context=config.context,
        believes=config.reward_times == "model",
    )


def _context(speed: Speed | None) -> tuple[float, ...]:
    """Return a device's slowness in computing and in sending, about 0 to 1 each; zeros where nothing is known."""
    if speed is None:
        return 0.0, 0.0
    return math.log2(1.0 + speed.compute) / 4.0, math.log2(1.0 + 1e6 * speed.up) / 4.0
