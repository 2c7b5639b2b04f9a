from dataclasses import replace

import numpy as np
import pytest

from fedcore.core.bandit.fixed import FixedArm
from fedcore.core.bandit.s_ucb import SUcb
from fedcore.core.bandit.table import BANDITS, make_bandit
from fedcore.core.config.tables import StrategyConfig
from fedcore.core.contract.protocols import ArmSpace
from fedcore.core.errors import ConfigError

CONFIG = StrategyConfig(bandit="s-ucb", ranks=(4, 8), discount=0.9, exploration=0.3, min_width=0.2, target_sparsity=0.4)


@pytest.mark.parametrize("name", BANDITS)
def test_every_entry_is_a_bandit_of_its_name(name):
    bandit = make_bandit(replace(CONFIG, bandit=name))
    assert bandit.name == name
    state = bandit.start()
    space = ArmSpace(sparsity_low=0.1, sparsity_high=0.2, ranks=(4,))
    arm = bandit.select(state, space, np.random.default_rng(0))
    assert 0.1 <= arm.sparsity <= 0.2
    assert arm.rank == 4
    assert bandit.select(bandit.observe(state, arm, 0.5), space, np.random.default_rng(0)).rank == 4
    assert bandit.select(state, space, np.random.default_rng(0)) == arm


def test_settings_reach_the_bandit():
    assert make_bandit(CONFIG) == SUcb(ranks=(4, 8), discount=0.9, exploration=0.3, min_width=0.2)
    assert make_bandit(replace(CONFIG, bandit="fixed")) == FixedArm(sparsity=0.4, rank=8)


def test_without_a_width_every_bandit_has_its_own():
    widths = {name: make_bandit(StrategyConfig(bandit=name)).exploration for name in ("s-ucb", "smooth-ucb", "linucb")}
    assert widths == {"s-ucb": 0.1, "smooth-ucb": 0.1, "linucb": 0.3}


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=f"{', '.join(BANDITS)}; got 'ucb1'"):
        make_bandit(replace(CONFIG, bandit="ucb1"))
