"""The oracle: knows every device's true speed and plays the arm that the planner deems best, without any learning.

What FedSpine's bandit and learned speeds are measured against, in simulations alone: it trusts the slowdown and the
links of each device's profile, which are true where they are emulated or simulated, and hearsay anywhere else. In round
t, with the same planner, worths and feasible arms as FedSpine's (fedcore.strategies.policy.round_budget),

    tau_t = argmax of sum_i weight_i worth(a_i(tau)) / max_i T_i(a_i(tau)),   T_i by the cost model and the profile,

and device i plays a_i(tau_t). It looks one round ahead, as one-step regret does; links that vary from round to round it
knows by their median.
"""

from dataclasses import replace

from fedcore.core.config.tables import Config
from fedcore.core.pruning.criteria import CRITERIA
from fedcore.strategies.composition.method import Method
from fedcore.strategies.policy.cohort import weighted
from fedcore.strategies.policy.pacer import ArmFilter, Pacer
from fedcore.strategies.policy.policy import Policy
from fedcore.strategies.policy.speed import SpeedSource


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: a pace, and one arm on offer, which any bandit takes."""
    strategy = replace(weighted(config.strategy), bandit="fixed", pace="filter", context=False)
    return replace(config, strategy=strategy)


def _all_knowing(policy: Policy) -> Policy:
    """Let the planner go by the profiles alone, and offer every device its best arm."""
    pacer = Pacer(
        cost=policy.cost,
        largest_rank=policy.config.strategy.ranks[-1],
        criterion=CRITERIA[policy.config.training.importance],
        arm_filter=ArmFilter.BEST,
        speed_source=SpeedSource.EXACT,
    )
    return replace(policy, pacer=pacer)


METHOD = Method(name="oracle", settings=settings, adapt=_all_knowing)
