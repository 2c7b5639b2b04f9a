"""What parts do not go together, by the model and all classes."""

from dataclasses import replace

import pytest

from fedcore.core.config.tables import ClassConfig
from fedcore.core.errors import ConfigError
from fedcore.core.model.trained_part import Factors
from fedcore.strategies.table import make_strategy
from tests.strategies.conftest import HEAD


@pytest.fixture
def made(config, geometry):
    """Return make(classes=(), changes to [strategy]) -> Strategy."""

    def make(classes=(), **changes):
        changed = replace(config, strategy=replace(config.strategy, **changes), classes=classes)
        return make_strategy(changed, geometry, HEAD)

    return make


@pytest.mark.parametrize(
    ("target", "classes", "who"),
    [
        (0.5, (), "strategy"),
        (0.0, (ClassConfig(name="tx2", target_sparsity=0.5),), "fleet.class tx2"),
        (0.5, (ClassConfig(name="tx2", target_sparsity=0.0),), "strategy"),  # whoever joins of no known class
    ],
)
def test_pruning_needs_a_round_of_warm_up(made, target, classes, who):
    with pytest.raises(ConfigError, match=f"warmup_rounds must be at least 1: .*target_sparsity of {who} is above 0"):
        made(classes, name="fedspine", target_sparsity=target, warmup_rounds=0)
    assert made(classes, name="fedspine", target_sparsity=target, warmup_rounds=1)


def test_what_never_prunes_needs_none(made):
    assert made(name="fedspine", target_sparsity=0.0, warmup_rounds=0)
    assert made(name="fedavg-lora", target_sparsity=0.5, warmup_rounds=0)


@pytest.mark.parametrize("name", ["fedspine", "uniform"])
def test_factors_may_take_turns_under_pruning(config, geometry, name, roster, play):
    def turns(factors):
        changed = replace(
            config,
            strategy=replace(config.strategy, name=name, factors=factors),
            training=replace(config.training, keep_optimizer=False),
        )
        _, plans, _ = play(make_strategy(changed, geometry, HEAD), roster, 4)
        return [{each.training.trains.factors for each in plan.assignments} for plan, _ in plans]

    assert turns("alternating") == [{Factors.B}, {Factors.A}, {Factors.B}, {Factors.A}]
    assert turns("b") == [{Factors.B}] * 4
    assert turns("both") == [{Factors.BOTH}] * 4


@pytest.mark.parametrize(
    ("strategy", "training", "told"),
    [
        ({"factors": "b", "aggregator": "delta-stack"}, {}, "'b' keeps a mean of factors exact"),
        (
            {"factors": "alternating", "server_optimizer": "nesterov"},
            {},
            "'alternating': moments would be two rounds old",
        ),
        ({"factors": "alternating"}, {"keep_optimizer": True}, "'alternating': moments would be two rounds old"),
    ],
)
def test_what_would_move_a_frozen_factor_is_refused(config, geometry, strategy, training, told):
    changed = replace(
        config,
        strategy=replace(config.strategy, name="fedspine", **strategy),
        training=replace(config.training, **training),
    )
    with pytest.raises(ConfigError, match=told):
        make_strategy(changed, geometry, HEAD)


def test_methods_with_a_part_of_their_own_keep_it(made):
    for name in ("ffa-lora", "rolora", "hetlora"):
        assert made(name=name, factors="alternating").config.strategy.factors == "both"


@pytest.mark.parametrize(
    ("strategy", "training", "told"),
    [
        ({"aggregator": "delta-stack"}, {}, "leaves out what aggregator 'delta-stack' multiplies again"),
        ({"order": "class"}, {}, "strategy.order = 'class' has several orders"),
        ({}, {"distill": 0.5}, "the dense model that training.distill asks"),
    ],
)
def test_rows_that_somebody_needs_are_not_left_out_of_hand_outs(config, geometry, strategy, training, told):
    def made(handout):
        changed = replace(
            config,
            strategy=replace(config.strategy, name="fedspine", **strategy),
            training=replace(config.training, handout=handout, **training),
        )
        return make_strategy(changed, geometry, HEAD)

    assert made("whole").config.training.handout == made(None).config.training.handout == "whole"
    with pytest.raises(ConfigError, match=f'training.handout = "kept" .*{told}'):
        made("kept")


def test_devices_fetch_what_they_keep_where_nobody_needs_more(made):
    assert {made(name=name).config.training.handout for name in ("fedspine", "uniform", "fedavg-lora")} == {"kept"}
    assert made(name="flexlora").config.training.handout == "whole"
