"""FedSpine with random arms: the baseline for its bandit.

Everything but the choice is that of FedSpine without a pace (`strategy.pace = "off"`,
fedcore.strategies.methods.fedspine): the same feasible arms, schedule, order, aggregator and weights. For device i in
round t, independently,

    sparsity ~ U[low_i(t), high_i(t)],   rank ~ U(the ranks that fit)
"""

from dataclasses import replace

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method
from fedcore.strategies.policy.cohort import weighted


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: `strategy.bandit` is "random", and there is no pace."""
    strategy = replace(weighted(config.strategy), bandit="random", pace="off", context=False)
    return replace(config, strategy=strategy)


METHOD = Method(name="random-arms", settings=settings)
