"""The fleet's pace: learned speeds, a common time budget for each round, and its effect on slower arms.

Theory of operation. A synchronous round lasts as long as its slowest device, so every arm has a benefit, its progress,
and a cost, the seconds that all other devices wait for it. The pacer turns the cost into a budget in four steps.

1. It predicts each device's factors between modelled work and seconds (fedcore.strategies.policy.speed): from its
   own rounds; else from its self-measurement at the join, completed by its class's factors. A device without any of
   these is probed once, with the run's usual steps at the smallest rank. It does not count for the budget, because its
   time cannot be predicted.
2. It lays a grid of arms over the device's feasible space (a `Menu`) and gives each its seconds, at the device's speed,
   and its worth, an estimate of progress (fedcore.strategies.policy.round_budget). Devices of one class and history
   share a menu; only their speeds differ.
3. The budget is the time under which the cohort's best arms make the most progress per second. A device's
   planned arm is its arm of most worth within the budget.
4. `strategy.pace` decides the use of the budget. "filter": a device is offered only arms like its planned one or
   cheaper: with its steps, at least its sparsity, at most its rank. The schedule's floors stay in force, so the budget
   is never shorter than the slowest device needs. "lagrange": every arm is offered, and lateness costs reward: a
   multiplier, in place of the fourth reward weight, times the excess over the budget. The multiplier moves by dual
   ascent on the cohort's mean excess over the budget.

No device is left out of a cohort because it is slow: the fleet would lose the slow devices' data.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedcore.core.bandit.lattice import grid
from fedcore.core.config.tables import Config
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.outcome import Outcome, Status
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import ArmSpace
from fedcore.core.errors import RunError
from fedcore.core.model.geometry import Counts
from fedcore.core.pruning.criteria import CRITERIA, Criterion
from fedcore.core.text_enum import TextEnum
from fedcore.strategies.policy.arm_choice import Choice, Chooser, Offer
from fedcore.strategies.policy.cohort import CohortMember
from fedcore.strategies.policy.cost import Demand, RoundCost
from fedcore.strategies.policy.round_budget import FILLED, Timetable, best_budget, most_steps, worth
from fedcore.strategies.policy.speed import (
    SelfMeasured,
    Speed,
    Speeds,
    SpeedSample,
    SpeedSource,
    declared_speed,
    learn_speeds,
    measured_speed,
    predicted_speed,
    self_measured_speed,
)
from fedcore.strategies.policy.state import PacedWork, PaceState, PlannedRound

PROBE_STEPS = 1.0  # the two forward passes that measure the loss take about as long as a step
ALLOWED_EXCESS = 0.05  # mean lateness of a cohort that the multiplier leaves alone, as a share of the budget
ASCENT = 0.5  # step of the dual ascent
LARGEST_MULTIPLIER = 1.0


class ArmFilter(TextEnum):
    """The arms of a device's space that are offered under a round's budget."""

    NONE = "none"  # all: lateness costs reward instead
    BUDGET = "budget"  # those that are no more work than the planned arm
    BEST = "best"  # the planned arm alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced:
    """A cohort's offers from the pacer, in order, and the round's budget; None where no speed is known."""

    offers: tuple[Offer, ...]
    budget_s: float | None


class Menu(NamedTuple):
    """A grid of arms over a device's space, with the work and worth of each; arrays are (arms,)."""

    arms: list[Arm]
    train_s: NDArray[np.float64]
    down_bytes: NDArray[np.float64]
    up_bytes: NDArray[np.float64]
    worths: NDArray[np.float64]

    def timetable(self, speed: Speed, weight: int) -> Timetable:
        """Return the timetable of the arms on a device of this speed."""
        links = speed.down * self.down_bytes + speed.up * self.up_bytes
        return Timetable(seconds=speed.compute * self.train_s + links + speed.other, worths=self.worths, weight=weight)


class _DevicePlan(NamedTuple):
    """A device's menu and its timetable; a device whose speed is not known has none."""

    menu: Menu
    table: Timetable

    def arm(self, budget_s: float) -> Arm:
        """Return the arm of most worth within the budget."""
        return self.menu.arms[self.table.best_within(budget_s)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacer:
    """Predicts and learns speeds, sets budgets, and narrows offers to them."""

    cost: RoundCost
    largest_rank: int
    criterion: Criterion  # its cost counts in rounds with importances
    arm_filter: ArmFilter
    speed_source: SpeedSource = SpeedSource.MEASURED
    multiplier: float = 0.0  # before the first round
    context: bool = False  # whether bandits get the speeds
    rows_a_step: int = 0  # rows that one step in each round reads in the whole run; 0: devices wait in spare time

    def start(self) -> PaceState:
        """Return the state before the first round."""
        return PaceState(speeds=Speeds(), multiplier=self.multiplier)

    def pace(self, state: PaceState, chooser: Chooser, offers: Sequence[Offer]) -> Paced:
        """Return the offers of a round, narrowed where arms are filtered, and its budget."""
        speeds = [self._speed(state, offer.profile) for offer in offers]
        plans = self._plans(chooser, offers, speeds)
        tables = [plan.table for plan in plans if plan is not None]
        budget_s = best_budget(tables) if tables else None
        spaces = [self._narrowed(offer, plan, budget_s) for offer, plan in zip(offers, plans, strict=True)]
        if self.context:
            spaces = [replace(space, context=_context(speed)) for space, speed in zip(spaces, speeds, strict=True)]
        paced = (replace(offer, space=space) for offer, space in zip(offers, spaces, strict=True))
        return Paced(offers=tuple(paced), budget_s=budget_s)

    def reward_weights(self, state: PaceState, weights: tuple[float, ...]) -> tuple[float, ...]:
        """Return the reward's weights: the multiplier in place of the fourth where every arm is offered."""
        return (*weights[:3], state.multiplier) if self.arm_filter is ArmFilter.NONE else weights

    def steps(self, state: PaceState, choice: Choice, budget_s: float | None) -> int:
        """Return the local steps of a chosen device: the arm's or its own, and more where the budget has time left."""
        steps = self.cost.steps(choice.profile, choice.arm)
        if not self.rows_a_step or budget_s is None:
            return steps
        speed = self._speed(state, choice.profile)
        if speed is None:
            return steps
        usual, one_more = (
            speed.seconds(self._demand(choice.member, choice.counts, choice.arm.rank, taken))
            for taken in (steps, steps + 1)
        )
        more = math.floor((FILLED * budget_s - usual) / (one_more - usual)) if one_more > usual else 0
        return max(steps, min(steps + more, most_steps(steps, choice.profile.num_examples, self.rows_a_step)))

    def work(self, choice: Choice, steps: float) -> PacedWork:
        """Return the record of a choice that an open round keeps: its work of `steps` steps, the profile's speeds."""
        declares = self.speed_source is SpeedSource.DECLARED
        profile = choice.profile
        return PacedWork(
            self._demand(choice.member, choice.counts, choice.arm.rank, steps),
            self._self_measured(profile),
            declared_speed(profile) if declares else None,
            choice.space.context if self.context else None,
        )

    def learn(
        self,
        state: PaceState,
        opened: PlannedRound,
        outcomes: Sequence[Outcome],
        modelled_s: Mapping[str, float] | None,
    ) -> PaceState:
        """Return the state after a round; lateness is by `modelled_s`, seconds by device, if it is not None."""
        accepted = [outcome for outcome in outcomes if outcome.status is Status.ACCEPTED]
        samples: dict[str, SpeedSample] = {}
        for outcome in accepted:
            work = _work_of(opened, outcome.device)
            speed = measured_speed(outcome, work.demand) if work.declared is None else work.declared
            if speed is not None:
                samples[outcome.device] = SpeedSample(outcome.device_class, speed, work.self_measured)
        times = [outcome.time_s if modelled_s is None else modelled_s[outcome.device] for outcome in accepted]
        learns = self.speed_source is not SpeedSource.EXACT
        return PaceState(
            speeds=learn_speeds(state.speeds, samples) if learns else state.speeds,
            multiplier=self._ascended(state.multiplier, times, opened.budget_s),
        )

    def _speed(self, state: PaceState, profile: DeviceProfile) -> Speed | None:
        if self.speed_source is SpeedSource.EXACT:
            return declared_speed(profile)
        return predicted_speed(state.speeds, profile, self._self_measured(profile))

    def _self_measured(self, profile: DeviceProfile) -> SelfMeasured:
        """Return a device's self-measurement; an empty one where runs must repeat, because clocks do not repeat."""
        if self.speed_source is SpeedSource.DECLARED:
            return SelfMeasured()
        return self_measured_speed(profile.trial, self.cost.flops_per_s)

    def _plans(
        self, chooser: Chooser, offers: Sequence[Offer], speeds: Sequence[Speed | None]
    ) -> list[_DevicePlan | None]:
        menus: dict[tuple[str, ArmSpace, Counts, int], Menu] = {}  # shared by devices of a class, history and size
        plans: list[_DevicePlan | None] = []
        for offer, speed in zip(offers, speeds, strict=True):
            if speed is None:
                plans.append(None)
                continue
            usual = self.cost.steps_of(offer.profile.num_examples)
            key = offer.profile.device_class, offer.space, offer.committed, usual
            if key not in menus:
                menus[key] = self._menu(chooser, offer)
            plans.append(_DevicePlan(menus[key], menus[key].timetable(speed, offer.member.weight)))
        return plans

    def _menu(self, chooser: Chooser, offer: Offer) -> Menu:
        arms = grid(offer.space)
        demands, worths = [], []
        for arm in arms:
            counts = chooser.counts(offer, arm.sparsity)
            steps = self.cost.steps(offer.profile, arm)
            demands.append(self._demand(offer.member, counts, arm.rank, steps))
            worths.append(worth(steps, arm.sparsity, arm.rank / self.largest_rank))
        columns = (*zip(*demands, strict=True), worths)  # train_s, down_bytes, up_bytes, worths
        return Menu(arms, *(np.array(column, dtype=np.float64) for column in columns))

    def _demand(self, member: CohortMember, counts: Counts, rank: int, steps: float) -> Demand:
        """Return the work of a round: its steps, the probe of the loss, and the scores if they are needed."""
        extra = PROBE_STEPS + (self.criterion.steps(round(steps)) if member.score else 0.0)
        return self.cost.demand(member.profile.device_class, counts, rank, steps + extra)

    def _narrowed(self, offer: Offer, plan: _DevicePlan | None, budget_s: float | None) -> ArmSpace:
        """Return the arms that are offered; a device without a known speed is probed."""
        space = offer.space
        if self.arm_filter is ArmFilter.NONE:
            return space
        if plan is None or budget_s is None:
            return self._probe(space, self.cost.steps_of(offer.profile.num_examples))
        arm = plan.arm(budget_s)
        if self.arm_filter is ArmFilter.BEST:
            return ArmSpace(
                sparsity_low=arm.sparsity, sparsity_high=arm.sparsity, ranks=(arm.rank,), steps=(arm.steps,)
            )
        ranks = tuple(rank for rank in space.ranks if rank <= arm.rank)
        return replace(space, sparsity_low=arm.sparsity, ranks=ranks, steps=(arm.steps,))

    def _probe(self, space: ArmSpace, usual_steps: int) -> ArmSpace:
        """Return the arms of a probe: the smallest rank, and the most steps that are not above the usual ones.

        The steps are limited because a link may be a hundred times slower than expected, and the round waits for it.
        """
        usual = max((steps for steps in space.steps if steps <= usual_steps), default=space.steps[0])
        return replace(space, ranks=space.ranks[:1], steps=(usual,))

    def _ascended(self, multiplier: float, times: Sequence[float], budget_s: float | None) -> float:
        if self.arm_filter is not ArmFilter.NONE or not budget_s or not times:
            return multiplier
        excess = sum(min(1.0, max(0.0, time_s / budget_s - 1.0)) for time_s in times) / len(times)
        return min(LARGEST_MULTIPLIER, max(0.0, multiplier + ASCENT * (excess - ALLOWED_EXCESS)))


def make_pacer(config: Config, cost: RoundCost) -> Pacer | None:
    """Return the pacer that `strategy.pace` names; None for "off"."""
    strategy = config.strategy
    if strategy.pace == "off":
        return None
    return Pacer(
        cost=cost,
        largest_rank=strategy.ranks[-1],
        criterion=CRITERIA[config.training.importance],
        arm_filter=ArmFilter.BUDGET if strategy.pace == "filter" else ArmFilter.NONE,
        speed_source=SpeedSource.DECLARED if strategy.reward_times == "model" else SpeedSource.MEASURED,
        multiplier=strategy.reward_weights[3],
        context=strategy.context,
        rows_a_step=rows_a_step(config),
    )


def rows_a_step(config: Config) -> int:
    """Return the rows that one step in each round reads in the whole run; 0 where devices wait in spare time."""
    waits = config.strategy.spare_time == "wait" or config.strategy.local_steps_choices
    return 0 if waits else config.training.batch_size * config.run.rounds


def _work_of(opened: PlannedRound, device: str) -> PacedWork:
    work = opened.devices[device].pace
    if work is None:
        raise RunError(f"round {opened.round} was planned without a pace for device {device}; plan it again")
    return work


def _context(speed: Speed | None) -> tuple[float, ...]:
    """Return a device's slowness in computing and in sending, about 0 to 1 each; zeros for an unknown speed."""
    if speed is None:
        return 0.0, 0.0
    return math.log2(1.0 + speed.compute) / 4.0, math.log2(1.0 + 1e6 * speed.up) / 4.0
