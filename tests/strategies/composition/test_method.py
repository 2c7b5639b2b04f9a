"""What a method makes of a configuration before anything is composed: its own settings, and hand-outs settled."""

from dataclasses import replace

import pytest

from fedcore.core.errors import ConfigError
from fedcore.strategies.composition.method import Method, with_handout
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


def test_a_method_reads_the_configuration_its_own_way_and_settles_the_hand_out(config):
    method = Method(name="mine", settings=lambda run: replace(run, strategy=replace(run.strategy, ranks=(2,))))
    resolved = method.resolved(config)
    assert resolved.strategy.ranks == (2,) and resolved.training.handout == "kept"
    assert config.strategy.ranks == (2, 4, 8) and config.training.handout is None
    assert with_handout(resolved) == resolved, "what is settled stays"
    assert method.adapt("any policy") == "any policy"
