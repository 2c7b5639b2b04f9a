from dataclasses import replace

import pytest

from fedcore.core.errors import ConfigError
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.server_optimizer.nesterov import Nesterov
from fedcore.strategies.table import resolve_settings


def test_dense_models_one_rank_and_moments_that_stay(build, roster, play, geometry):
    strategy = build(name="diloco", aggregator="delta-stack")
    assert strategy.server_optimizer == Nesterov(lr=0.7, momentum=0.9)
    assert strategy.aggregator.name == "factor-mean" and strategy.aggregator.server_lr == 1.0
    _, plans, _ = play(strategy, roster, 3)
    for assignment in (each for plan, _ in plans for each in plan.assignments):
        assert assignment.arm.rank == 8 and assignment.keep_set == KeepSet.full(geometry)
        assert assignment.training.keep_optimizer and not assignment.score


def test_what_is_set_stands(build):
    strategy = build(name="diloco", server_lr=0.4, server_momentum=0.5)
    assert strategy.server_optimizer == Nesterov(lr=0.4, momentum=0.5)
    literal = build(name="fedavg-lora", server_optimizer="nesterov")
    assert literal.server_optimizer == Nesterov(lr=1.0, momentum=0.9)


def test_others_have_no_outer_optimiser_and_keep_their_step(build):
    strategy = build(name="fedavg-lora", server_lr=0.5)
    assert strategy.server_optimizer is None and strategy.aggregator.server_lr == 0.5


def test_momentum_of_factors_whose_basis_changes_is_refused(build):
    with pytest.raises(ConfigError, match=r"'nesterov' moves the mean of factors.*'delta-stack' is made of more"):
        build(server_optimizer="nesterov", aggregator="delta-stack")


def test_the_settings_are_what_the_strategy_uses(config):
    read = resolve_settings(replace(config, strategy=replace(config.strategy, name="diloco")))
    assert read.strategy.server_optimizer == "nesterov" and read.strategy.server_lr == 0.7
    assert read.strategy.bandit == "fixed" and read.training.keep_optimizer
