"""The policies: bandits with and without a pace, variants of S-UCB, the oracle, and every fixed arm of a grid."""

import itertools
from collections.abc import Sequence

from benchmarks.regret.fleets import RANKS, STEPS, Fleet
from benchmarks.regret.play import Player
from fedcore.core.bandit.fixed import FixedArm
from fedcore.core.bandit.s_ucb import SUcb

FILTER = {"pace": "filter"}
ALONE = {"pace": "off"}  # every device chooses alone
LINUCB = {"bandit": "linucb"}
RANDOM = "random"
BEST = "linucb, filter"
GOALS = ("s-ucb, filter", "smooth-ucb, filter", BEST)  # held against half of random's regret and the best fixed arm's


def _s_ucb(name: str, **settings: float) -> Player:
    bandit = SUcb(**{"ranks": RANKS, "steps": STEPS, "discount": 0.98, "exploration": 0.1} | settings)  # type: ignore[arg-type]
    return Player(name=f"s-ucb, filter, {name}", strategy=FILTER, bandit=bandit)


PLAYERS: Sequence[Player] = (
    Player(name=RANDOM, strategy={"bandit": "random"} | ALONE),
    Player(name="s-ucb", strategy={"bandit": "s-ucb"} | ALONE),
    Player(name="smooth-ucb", strategy={"bandit": "smooth-ucb"} | ALONE),
    Player(name="linucb", strategy=LINUCB | ALONE),
    Player(name="s-ucb, lagrange", strategy={"bandit": "s-ucb", "pace": "lagrange"}),
    Player(name="linucb, lagrange, context", strategy=LINUCB | {"pace": "lagrange", "context": True}),
    Player(name="random, filter", strategy={"bandit": "random"} | FILTER),
    Player(name="s-ucb, filter", strategy={"bandit": "s-ucb"} | FILTER),
    Player(name="smooth-ucb, filter", strategy={"bandit": "smooth-ucb"} | FILTER),
    Player(name=BEST, strategy=LINUCB | FILTER),
    Player(name="linucb, filter, context", strategy=LINUCB | FILTER | {"context": True}),
    Player(name="thompson, filter", strategy={"bandit": "thompson"} | FILTER),
    Player(name="largest arm, filter", strategy={"bandit": "fixed"} | FILTER),
    Player(name="oracle", strategy={"bandit": "fixed"} | FILTER, oracle=True),
    _s_ucb("discount 0.9", discount=0.9),
    _s_ucb("exploration 0.02", exploration=0.02),
    _s_ucb("split at 1", split_count=1.0),
    Player(name="s-ucb, filter, per device", strategy={"bandit": "s-ucb", "share_posterior": False} | FILTER),
)


def fixed_arms(fleet: Fleet) -> list[Player]:
    """Return the fixed arms of a grid: as little or as much pruning as is allowed, all ranks, all numbers of steps."""
    return [
        Player(
            name=f"fixed: {'most' if sparsity else 'least'} sparsity, rank {rank}, {steps} steps",
            strategy=ALONE,
            bandit=FixedArm(sparsity=sparsity, rank=rank, steps=steps),
        )
        for sparsity, rank, steps in itertools.product((0.0, fleet.target), RANKS, STEPS)
    ]
