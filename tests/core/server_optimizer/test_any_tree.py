"""Outer steps over rounds of mixed ranks and keep-sets: the same bits flat, in any order and in any tree."""

import numpy as np
import pytest

from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.server_optimizer.nesterov import Nesterov
from tests.core.aggregation.cohort import fold_all, fold_tree, make_cohort, make_spec, trained_adapter

ROUNDS = 3


@pytest.mark.parametrize("seed", range(4))
def test_flat_reversed_and_tree_take_the_same_steps(seed):
    spec, aggregator, outer = make_spec(), FactorMean(), Nesterov()
    start = trained_adapter(spec, np.random.default_rng(seed))
    rounds = [make_cohort(spec, np.random.default_rng([seed, number])) for number in range(ROUNDS)]
    ways = {
        "flat": lambda updates: fold_all(aggregator, spec, updates),
        "reversed": lambda updates: fold_all(aggregator, spec, updates[::-1]),
        "tree": lambda updates: fold_tree(aggregator, spec, updates, np.random.default_rng(seed)),
    }
    ends = {}
    for name, way in ways.items():
        adapter, velocity = dict(start), None
        for updates in rounds:
            after, _ = aggregator.finish(way(updates), adapter)
            adapter, velocity = outer.step(adapter, after, velocity)
        ends[name] = adapter, velocity
    for way in ("reversed", "tree"):
        for ours, flat in zip(ends[way], ends["flat"], strict=True):
            assert ours.keys() == flat.keys() == start.keys()
            for name, value in flat.items():
                assert ours[name].tobytes() == value.tobytes(), name
    assert any(value.any() for value in ends["flat"][1].values())
