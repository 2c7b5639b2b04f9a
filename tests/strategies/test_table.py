from dataclasses import replace

import pytest

from fedcore.core.errors import ConfigError
from fedcore.strategies.table import STRATEGIES, make_strategy, resolve_settings

HEAD = (("head.weight", (3, 32)), ("head.bias", (3,)))


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("aggregator", ["factor-mean", "delta-stack"])
def test_every_strategy_plays_rounds_with_every_aggregator(config, build, roster, play, name, aggregator):
    strategy = build(name=name, aggregator=aggregator)
    assert strategy.name == name
    changed = replace(config, strategy=replace(config.strategy, name=name, aggregator=aggregator))
    resolved = resolve_settings(changed)
    aggregator = resolved.strategy.aggregator  # some bring their own
    assert strategy.aggregator.name == aggregator
    assert strategy.spec.rank == strategy.aggregator.server_rank(8)
    assert strategy.spec.head == (("head.bias", (3,)), ("head.weight", (3, 32)))
    _, plans, _ = play(strategy, roster, 3)
    for plan, _ in plans:
        assert [each.device for each in plan.assignments] == [each.name for each in roster]
        kept = resolved.training.keep_optimizer and strategy.aggregator.kind == "reducing"
        assert all(each.training.keep_optimizer == kept for each in plan.assignments)


def test_an_unknown_name_lists_the_known_ones(build):
    with pytest.raises(ConfigError, match=f"{', '.join(STRATEGIES)}; got 'fedprox'"):
        build(name="fedprox")


def test_an_unknown_target_is_refused(config, geometry):
    wrong = replace(config, training=replace(config.training, targets=("gate",)))
    with pytest.raises(ConfigError, match=r"training\.targets: expected some of"):
        make_strategy(wrong, geometry, HEAD)
