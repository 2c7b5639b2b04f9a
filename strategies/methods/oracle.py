"""The oracle: it knows every device's true speed and assigns the best arm by the planner, without any learning.

It is the reference for FedSpine's bandit and learned speeds, in simulations alone. It trusts the slowdown and the links
in each device's profile, which are true where they are emulated or simulated, and unverified otherwise. In round t,
with the same planner, worths and feasible arms as FedSpine's (fedcore.strategies.policy.round_budget),

    tau_t = argmax of sum_i weight_i worth(a_i(tau)) / max_i T_i(a_i(tau)),   T_i by the cost model and the profile,

and device i gets a_i(tau_t). It looks one round ahead, as one-step regret does. Of links that vary from round to round
it knows the median.
"""

from dataclasses import replace

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method
from fedcore.strategies.policy.cohort import weighted
from fedcore.strategies.policy.pacer import ArmFilter
from fedcore.strategies.policy.policy import Policy
from fedcore.strategies.policy.speed import SpeedSource


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: a pace, and one offered arm, which any bandit selects."""
    strategy = replace(weighted(config.strategy), bandit="fixed", pace="filter", context=False)
    return replace(config, strategy=strategy)


def _with_true_speeds(policy: Policy) -> Policy:
    """Return the policy with a pacer that uses the profiles alone, and offers every device its best arm."""
    pacer = policy.pacer
    exact = pacer and replace(pacer, arm_filter=ArmFilter.BEST, speed_source=SpeedSource.EXACT, multiplier=0.0)
    return replace(policy, pacer=exact)


METHOD = Method(name="oracle", settings=settings, adapt=_with_true_speeds)
