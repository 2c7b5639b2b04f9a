"""The learning rate of a run: set in the configuration, or found by trials in the first round that counts.

A trial takes its time from the device's steps, so the first round takes no longer. Half of a small cohort has trials,
those that take the most steps first, as fast devices do that would wait for slower ones; the others train at a usual
rate. So a run loses half a round's steps at most (fedcore.core.learning_rate.search has the method).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from fedcore.core.config.auto import local_steps
from fedcore.core.config.tables import Config
from fedcore.core.contract.outcome import Outcome, Status
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import Json
from fedcore.core.contract.rate_trial import RateTrial
from fedcore.core.learning_rate.search import (
    MOST_TRIALS,
    UNKNOWN,
    UNTRIED,
    Changes,
    best_rate,
    changes_of,
    device_trial,
    rate_effects,
    run_rate,
)
from fedcore.core.seeds import generator
from fedcore.strategies.policy.state import RateState

TRIAL_STEPS = 2  # at each rate
LEAST_MIXED = 0.1  # share of rows outside the most frequent label that a device with a trial has
LEAST_DEVICES, MOST_DEVICES = 3, 12  # with trials in a round; more would hardly change the means


@dataclass(frozen=True, slots=True, kw_only=True)
class RateFinder:
    """Assigns trials and learns from their losses."""

    seed: int
    rounds: int  # of the run
    steps_of: Callable[[int], int]  # local steps of a round by a device's training rows

    def rate(self, state: RateState, profiles: Sequence[DeviceProfile]) -> float:
        """Return the first round's rate: the one found, or a usual one until then; a careful one where none tries."""
        if state.rate is not None:
            return state.rate
        return run_rate(UNTRIED if state.trials else UNKNOWN, self._run_steps(profiles))

    def opened(
        self, state: RateState, profiles: Sequence[DeviceProfile], steps: Sequence[int], round_index: int
    ) -> RateState:
        """Return the state with a round's trials: half of the devices, LEAST_DEVICES to MOST_DEVICES of them.

        `steps` are the local steps of the devices; those that take more have their trials first.

        None has a trial once the rate is found. One-sided devices have none either; where all are, the careful rate
        serves.
        """
        if state.rate is not None:
            return state
        mixed = [(own, profile.name) for own, profile in zip(steps, profiles, strict=True) if not _one_sided(profile)]
        drawn = [mixed[index] for index in generator(self.seed, "rate-trial", round_index).permutation(len(mixed))]
        drawn.sort(key=lambda device: -device[0])
        chosen = drawn[: min(MOST_DEVICES, max(LEAST_DEVICES, math.ceil(len(profiles) / 2)))]
        trials = {
            name: device_trial(place, len(chosen), steps=TRIAL_STEPS, shift=state.shift)
            for place, (_, name) in enumerate(chosen)
        }
        return replace(state, trials=trials, run_steps=self._run_steps(profiles))

    def learned(
        self, state: RateState, outcomes: Sequence[Outcome], round_index: int
    ) -> tuple[RateState, tuple[Json, ...]]:
        """Return the state after a round with trials, and the log's record of what they showed.

        Where the best rate is at the ladder's lower end, or no device answered, the next round has trials too, until
        MOST_TRIALS rounds had; then the best so far, or else UNKNOWN, is the rate.
        """
        if state.rate is not None:
            return state, ()
        changes = _answered(state.trials, outcomes)
        last = state.rounds + 1 >= MOST_TRIALS or not state.trials
        effects = rate_effects(changes) if changes else ()
        best, below = best_rate(effects) if effects else (UNKNOWN, False)
        found = last or (bool(effects) and not below)
        rate = run_rate(best, state.run_steps) if found else None
        event = {
            "event": "learning_rate",
            "round": round_index,
            "learning_rate": rate,
            "devices": len(changes),
            "trials": [list(effect) for effect in effects],
        }
        return RateState(rate=rate, shift=state.shift - 2 * below, rounds=state.rounds + 1), (event,)

    def _run_steps(self, profiles: Sequence[DeviceProfile]) -> int:
        """Return the steps of a device in the whole run, the median of a cohort."""
        steps = [self.steps_of(profile.num_examples) for profile in profiles]
        return round(self.rounds * median(steps)) if steps else 0


def make_rate_finder(config: Config) -> RateFinder | None:
    """Return the search for a run's rate; None where the configuration sets it."""
    if config.training.learning_rate is not None:
        return None

    def steps_of(rows: int) -> int:
        choices = config.strategy.local_steps_choices
        return round(sum(choices) / len(choices)) if choices else local_steps(config, rows)

    return RateFinder(seed=config.run.seed, rounds=config.run.rounds, steps_of=steps_of)


def _one_sided(profile: DeviceProfile) -> bool:
    """Whether nearly all rows of a device have one label, which a large rate is quick to learn, and no more."""
    counts = sorted(count for _, count in profile.label_counts)
    return bool(counts) and sum(counts[:-1]) < LEAST_MIXED * sum(counts)


def _answered(trials: Mapping[str, RateTrial], outcomes: Sequence[Outcome]) -> list[Changes]:
    """Return the loss changes of all devices that answered their trials."""
    changes = []
    for outcome in outcomes:
        trial, report = trials.get(outcome.device), outcome.report
        if trial is None or report is None or outcome.status is not Status.ACCEPTED:
            continue
        change = changes_of(trial, report.metrics.trial_losses)
        if change is not None:
            changes.append(change)
    return changes
