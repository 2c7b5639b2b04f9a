"""FedMP: a bandit per device chooses its pruning ratio; one LoRA rank for all, and pruned parameters are recovered.

Jiang, Xu, Xu, Wang, Qiao, Zhao, "FedMP: federated learning through adaptive model pruning in heterogeneous edge
computing", ICDE 2022. Reconstructed here from its outline, with LoRA in place of full fine-tuning:

- E-UCB (fedcore.core.bandit.s_ucb on the sparsity axis alone), one posterior for each device, the largest rank.
- R2SP: the server keeps residual_k = global - pruned_k and averages residual_k + the zero-expanded model that k
  sends back. This equals an increment that counts as zero outside the part that k holds, because

      mean_k(residual_k + pruned'_k) = global + mean_k(pruned'_k - pruned_k) = global + mean of the increments,

  so the default aggregator recovers as R2SP does.
- The paper's reward, loss decrease / |T_k - mean T|, is singular at the mean and punishes a fast device. This is a
  bounded form of the same two terms: clip(rank of the loss drop / 2 - lateness / 2, 0, 1) (fedcore.core.bandit.reward).

In the paper ratios may rise and fall from round to round; here pruning is physical and monotone under the schedule, as
for every strategy that prunes.
"""

from dataclasses import replace

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method

REWARD_WEIGHTS = (0.5, 0.0, 0.0, 0.5)  # loss drop and lateness


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: a bandit on sparsity alone, one for each device.

    `strategy.bandit`, `aggregator`, `share_posterior`, `reward_weights`, `local_steps_choices`, `pace` and `context`
    have no effect, and of the ranks only the largest counts.
    """
    strategy = replace(
        config.strategy,
        ranks=config.strategy.ranks[-1:],
        bandit="s-ucb",
        aggregator="factor-mean",
        share_posterior=False,
        reward_weights=REWARD_WEIGHTS,
        local_steps_choices=(),
        pace="off",
        context=False,
    )
    return replace(config, strategy=strategy)


METHOD = Method(name="fedmp", settings=settings)
