"""FedSpine: a bandit gives every device its own sparsity and LoRA rank; prune and tune alternate.

Yao, Xu, Xu, Liao, Xie, "Efficient Deployment of Large Language Models on Resource-constrained Devices", 2025,
arXiv 2501.02438. Only its outline is public: server-side bandit over (pruning ratio, rank), iterative prune-and-tune,
importance from gradients, weighted aggregation of different ranks. Reconstructed here, and ours to answer for:

- the bandit is LinUCB within a common pace (fedcore.strategies.policy.pacer), which learned faster than "S-UCB,
  reconstructed" (fedcore.core.bandit.s_ucb, by name); its reward is a bounded form of the four parts that are known to
  enter the paper's (fedcore.core.bandit.reward);
- arms are filtered before a pull: never below what a device has committed, inside the schedule
  (fedcore.core.pruning.schedule), within the device's memory (fedcore.strategies.policy.feasible);
- one nested removal order for the fleet, from the devices' averaged scores (fedcore.core.pruning.ordering), where
  personal ones did no better;
- aggregation is whatever `strategy.aggregator` names, and a device counts by what its rows are worth to the fleet
  (fedcore.strategies.policy.weights, "effective") unless `strategy.weights` says otherwise.
"""

from dataclasses import replace

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method
from fedcore.strategies.policy.weights import weighted


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: as it is, `strategy.weights` left open being "effective"."""
    return replace(config, strategy=weighted(config.strategy))


METHOD = Method(name="fedspine", settings=settings)
