"""From arms to assignments: keep-sets along removal orders, each device's assignment, and a record of it."""

import math
from collections.abc import Mapping, Sequence

from fedcore.core.config.auto import warmup_rounds
from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.protocols import Json
from fedcore.core.contract.rate_trial import RateTrial
from fedcore.core.cost.training_step import StepMode
from fedcore.core.model.geometry import Counts
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.trained_part import TrainedPart
from fedcore.core.pruning.scope import frozen_orders, keep_sets_of
from fedcore.core.seeds import derive_seed
from fedcore.strategies.policy.arm_choice import Choice
from fedcore.strategies.policy.policy import Policy
from fedcore.strategies.policy.state import PlannedDevice, PlannedRound, PolicyState
from fedcore.strategies.policy.training_spec import codec_event, training_specs


def cut_models(
    policy: Policy, orders: Mapping[str, Json], choices: Sequence[Choice]
) -> tuple[dict[str, Json], list[KeepSet]]:
    """Return the orders frozen up to their deepest cut, and the keep-set of every choice along its order.

    A cut in the warm-up, of a device whose memory does not hold the dense model, is provisional: it freezes nothing,
    for no group has been scored by then, and the order of the whole fleet would begin with a guess. The device gets
    another keep-set once scores are in.
    """
    geometry, warmup = policy.spec.geometry, warmup_rounds(policy.config)
    places = [(policy.order_key(choice.profile), choice.counts) for choice in choices]
    cuts: dict[str, Counts] = {key: Counts(0, 0) for key, _ in places}
    for key, kept in places if any(choice.round > warmup for choice in choices) else ():
        gone = Counts(geometry.head_units - kept.heads, geometry.ffn - kept.channels, kept.removed_layers)
        cuts[key] = Counts(*map(max, cuts[key], gone))
    frozen = frozen_orders(orders, cuts, geometry, policy.prior)
    keep_sets = keep_sets_of(frozen, places, geometry)
    return frozen, [keep_sets[place] for place in places]


def assign(
    policy: Policy,
    state: PolicyState,
    *,
    choices: Sequence[Choice],
    steps: Sequence[int],
    keep_sets: Sequence[KeepSet],
    parts: Sequence[TrainedPart],
) -> tuple[Assignment, ...]:
    """Return the assignment of every device, in the order of `choices`; `steps` are their local steps."""
    config = policy.config
    specs = training_specs(
        config,
        rate=policy.first_rate(state, choices),
        trials={} if state.rate is None else state.rate.trials,
        trial_rounds=0 if state.rate is None else state.rate.rounds,
        choices=choices,
        parts=parts,
        memory=policy.memory(state),
        keeps_coordinates=policy.aggregator.kind == "reducing",
    )
    return tuple(
        Assignment(
            round=choice.round,
            device=choice.member.profile.name,
            arm=choice.arm,
            keep_set=keep_set,
            local_steps=_without_trial(own_steps, spec.trial),
            weight=choice.member.weight,
            seed=derive_seed(config.run.seed, "train", choice.round, choice.member.profile.name),
            deadline_s=config.coordinator.round_deadline_s,
            score=choice.member.score,
            training=spec,
        )
        for choice, own_steps, keep_set, spec in zip(choices, steps, keep_sets, specs, strict=True)
    )


def planned_devices(
    policy: Policy, choices: Sequence[Choice], parts: Sequence[TrainedPart], assignments: Sequence[Assignment]
) -> dict[str, PlannedDevice]:
    """Return the records of devices that the open round keeps until it closes."""
    devices: dict[str, PlannedDevice] = {}
    for choice, part, assignment in zip(choices, parts, assignments, strict=True):
        profile, steps = choice.profile, assignment.cost_steps
        mode = StepMode(profile.precision, assignment.training.checkpointing)
        devices[profile.name] = PlannedDevice(
            choice.counts,
            choice.member.weight,
            choice.bandit_key,
            policy.order_key(profile),
            policy.cost.seconds(profile, choice.counts, choice.arm.rank, steps, part=part, mode=mode),
            part,
            None if policy.pacer is None else policy.pacer.work(choice, steps),
            mode,
        )
    return devices


def _without_trial(steps: int, trial: RateTrial | None) -> int:
    """Return the optimiser steps of a device's update; a trial of learning rates takes its steps from them."""
    return steps if trial is None else max(1, steps - math.ceil(trial.cost_steps))


def plan_events(policy: Policy, choices: Sequence[Choice], opened: PlannedRound) -> tuple[Json, ...]:
    """Return the log's records of a plan: arms with their spaces, codecs other than the class's, the pace's budget."""
    arms = [choice.event(planned.part) for choice, planned in zip(choices, opened.devices.values(), strict=True)]
    codecs = [codec_event(policy.config, choice.profile, opened.round) for choice in choices]
    pace = {"event": "pace", "round": opened.round, "budget_s": opened.budget_s}
    return (*arms, *(event for event in codecs if event is not None), *((pace,) if policy.pacer else ()))
