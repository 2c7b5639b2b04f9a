"""Every bandit, by the name used in the configuration; `BANDITS.add` takes further ones."""

from collections.abc import Callable

from fedcore.core.bandit.fixed import FixedArm
from fedcore.core.bandit.linucb import LinUcb
from fedcore.core.bandit.random_arm import RandomArm
from fedcore.core.bandit.s_ucb import SUcb
from fedcore.core.bandit.smooth_ucb import SmoothUcb
from fedcore.core.bandit.thompson import Thompson
from fedcore.core.config.tables import StrategyConfig
from fedcore.core.contract.protocols import NO_STEPS, Bandit
from fedcore.core.errors import ConfigError
from fedcore.core.open_table import OpenTable

# Widths of the confidence bound where the configuration names none (python -m benchmarks.bandit_regret): a regression's
# bound is narrower than that of counts.
COUNT_WIDTH, REGRESSION_WIDTH = 0.1, 0.3


def _width(config: StrategyConfig, default: float) -> float:
    return default if config.exploration is None else config.exploration


BanditFactory = Callable[[StrategyConfig], Bandit]

SHIPPED: dict[str, BanditFactory] = {
    "s-ucb": lambda config: SUcb(
        ranks=config.ranks,
        discount=config.discount,
        exploration=_width(config, COUNT_WIDTH),
        min_width=config.min_width,
        steps=config.local_steps_choices or NO_STEPS,
    ),
    "smooth-ucb": lambda config: SmoothUcb(
        ranks=config.ranks,
        steps=config.local_steps_choices or NO_STEPS,
        discount=config.discount,
        exploration=_width(config, COUNT_WIDTH),
    ),
    "thompson": lambda config: Thompson(
        ranks=config.ranks,
        steps=config.local_steps_choices or NO_STEPS,
        discount=config.discount,
        min_width=config.min_width,
    ),
    "linucb": lambda config: LinUcb(
        ranks=config.ranks,
        steps=config.local_steps_choices or NO_STEPS,
        discount=config.discount,
        exploration=_width(config, REGRESSION_WIDTH),
    ),
    "fixed": lambda config: FixedArm(
        sparsity=config.target_sparsity,
        rank=config.ranks[-1],
        steps=(config.local_steps_choices or NO_STEPS)[-1],
    ),
    "random": lambda config: RandomArm(),
}
BANDITS = OpenTable("bandit", SHIPPED)


def make_bandit(config: StrategyConfig) -> Bandit:
    """Return the bandit that `config.bandit` names.

    "fixed" wants the target sparsity, the largest rank and the most steps. Raises ConfigError naming the known ones.
    """
    if config.bandit not in BANDITS:
        raise ConfigError(f"strategy.bandit: expected one of {', '.join(BANDITS)}; got {config.bandit!r}")
    return BANDITS[config.bandit](config)
