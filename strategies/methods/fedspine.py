"""FedSpine: a bandit gives every device its own sparsity and LoRA rank; prune and tune alternate.

Yao, Xu, Xu, Liao, Xie, "Efficient Deployment of Large Language Models on Resource-constrained Devices", 2025,
arXiv 2501.02438. Only its outline is public: server-side bandit over (pruning ratio, rank), iterative prune-and-tune,
importance from gradients, weighted aggregation of different ranks. Reconstructed here; these parts are ours:

- the bandit is LinUCB within a common pace (fedcore.strategies.policy.pacer), which learned faster than the
  reconstructed S-UCB (fedcore.core.bandit.s_ucb, selected by name); its reward is a bounded form of the four known
  terms of the paper's reward (fedcore.core.bandit.reward);
- arms are filtered before the bandit selects one: never below what a device has committed, inside the schedule
  (fedcore.core.pruning.schedule), within the device's memory (fedcore.strategies.policy.feasible);
- one nested removal order for the fleet, from the devices' averaged scores (fedcore.core.pruning.ordering), because
  personal orders did no better;
- `strategy.aggregator` names the aggregation, and a device counts by the effective number of its rows
  (fedcore.strategies.policy.cohort, "effective") unless `strategy.weights` says otherwise.

A round is four steps: `plan` is the first three, `close` the fourth. Between them the devices train, and the aggregator
adds up what they send. The other methods have the same steps, with other parts.
"""

from collections.abc import Sequence
from dataclasses import replace

from fedcore.core.bandit.reward import reward_parts, rewards_of
from fedcore.core.config.tables import Config
from fedcore.core.contract.outcome import Outcome
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import RoundPlan, RoundReport
from fedcore.strategies.composition.method import Method
from fedcore.strategies.policy.assignments import assign, cut_models, plan_events, planned_devices
from fedcore.strategies.policy.cohort import draw_cohort, weighted
from fedcore.strategies.policy.part_choice import CohortCosts
from fedcore.strategies.policy.policy import Algorithm, Policy
from fedcore.strategies.policy.state import PlannedRound, PolicyState
from fedcore.strategies.policy.updates import (
    ceiling_events,
    learn_arms,
    learn_ceilings,
    learn_committed,
    learn_memory,
    learn_orders,
    reward_event,
)


def plan(
    policy: Policy, state: PolicyState, roster: Sequence[DeviceProfile], round_index: int
) -> tuple[PolicyState, RoundPlan]:
    """Return the state with the round open, and the assignment of every device of a cohort."""
    cohort = draw_cohort(policy.config, policy.able(state, roster), round_index)

    # 1. Bound every device's arms (sparsity, rank, local steps): at least what it has committed, between the floor and
    #    the cap of its class's schedule, within its memory and, where a pace is kept, the round's time budget.
    chooser = policy.chooser(state, round_index)
    paced = policy.paced(state, chooser, [chooser.offer(member) for member in cohort])

    # 2. Let the bandit select one of the offered arms for every device.
    choices = [chooser.choose(offer) for offer in paced.offers]

    #    A device that would wait for slower ones takes more steps.
    steps = policy.local_steps(state, choices, paced.budget_s)

    # 3. Cut along one removal order, so that keep-sets nest: a group that any device removed stays removed.
    #    Assign every device its keep-set, its rank and steps, and the part of the adapter that it trains; at first,
    #    learning rates to try.
    orders, keep_sets = cut_models(policy, state.orders, choices)
    parts = policy.part.choose(
        CohortCosts(
            counted=state.counted_before(round_index),
            choices=choices,
            cost=policy.cost,
            memory=policy.memory(state),
        )
    )
    tried = policy.with_trials(state, choices, steps, round_index)
    assignments = assign(policy, tried, choices=choices, steps=steps, keep_sets=keep_sets, parts=parts)
    devices = planned_devices(policy, choices, parts, assignments)
    opened = PlannedRound(round=round_index, budget_s=paced.budget_s, devices=devices)
    events = plan_events(policy, choices, opened)
    return replace(tried, orders=orders, open=opened), RoundPlan(assignments=assignments, events=events)


def close(
    policy: Policy, state: PolicyState, outcomes: Sequence[Outcome], round_index: int, void: bool
) -> tuple[PolicyState, RoundReport]:
    """Return the state after the round, and the reward of every observed device."""
    opened = state.planned(round_index, [outcome.device for outcome in outcomes])
    ordered = sorted(outcomes, key=lambda outcome: outcome.device)

    # 4. Reward every assigned arm for loss drop, pruning progress and adapter importance, less lateness;
    parts = reward_parts(
        ordered,
        {outcome.device: policy.config.target_sparsity(outcome.device_class) for outcome in ordered},
        policy.modelled_seconds(opened),
        budget_s=opened.budget_s,
        per_second=bool(policy.config.strategy.local_steps_choices),
    )
    rewards = rewards_of(ordered, parts, policy.reward_weights(state))

    #    then learn: the orders from the devices' scores, the bandits from the rewards of the realised arms, the
    #    devices' committed counts, the classes' measured memory, the devices' speeds, and the learning rate.
    orders, refused = learn_orders(state.orders, policy.spec.geometry, opened.devices, ordered)
    rate, trials = policy.learn_rate(state, ordered, round_index)
    after = PolicyState(
        orders=orders,
        bandits=learn_arms(state.bandits, policy.bandit, opened.devices, ordered, rewards),
        committed=learn_committed(state.committed, opened.devices, ordered),
        memory_scale=learn_memory(state.memory_scale, opened.devices, ordered, policy.cost),
        memory_ceilings=learn_ceilings(state.memory_ceilings, opened.devices, ordered, policy),
        counted=state.counted_before(round_index) + (not void),
        pace=policy.learn_pace(state, opened, ordered),
        rate=rate,
    )
    ceilings = ceiling_events(state.memory_ceilings, after.memory_ceilings, round_index)
    events = [
        reward_event(outcome, opened.devices[outcome.device], rewards.get(outcome.device), parts.get(outcome.device))
        for outcome in ordered
    ]
    return after, RoundReport(rewards=rewards, events=(*events, *refused, *trials, *ceilings))


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: unchanged, with unset `strategy.weights` as "effective"."""
    return replace(config, strategy=weighted(config.strategy))


ALGORITHM = Algorithm(plan=plan, close=close)
METHOD = Method(name="fedspine", settings=settings)
