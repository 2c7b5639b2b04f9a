from dataclasses import replace

import pytest

from fedcore.core.config.tables import ClassConfig
from fedcore.core.model.keep_set import KeepSet
from fedcore.strategies.composition.unpruned import ranks_by_speed

MIXED = pytest.mark.parametrize("name", ["hetlora", "flexlora", "raflora", "flora"])


@MIXED
def test_the_slowest_class_has_the_smallest_rank_and_nobody_is_pruned(build, roster, play, geometry, name):
    strategy = build(name=name)
    _, plans, _ = play(strategy, roster, 3)
    ranks = {each.device[0]: each.arm.rank for plan, _ in plans for each in plan.assignments}
    assert ranks == {"a": 8, "n": 4, "t": 2}
    assert {each.keep_set for plan, _ in plans for each in plan.assignments} == {KeepSet.full(geometry)}


@MIXED
def test_memory_may_force_a_smaller_rank(build, roster, name):
    strategy = build(name=name)
    dense = strategy.spec.geometry.dense
    tight = replace(roster[0], memory_mb=strategy.cost.memory_mb(dense, 2) + 1e-3)
    _, plan = strategy.plan(strategy.start(), (tight, *roster[1:]), 1)
    assert [each.arm.rank for each in plan.assignments][:2] == [2, 8]


def test_ranks_spread_over_any_number_of_classes(build, config):
    cost = build(name="hetlora").cost

    def ranks(*slowdowns):
        classes = tuple(ClassConfig(name=f"c{index}", slowdown=slow) for index, slow in enumerate(slowdowns))
        return [each[-1] for each in ranks_by_speed(replace(config, classes=classes), cost).values()]

    assert ranks(1.0) == [8]
    assert ranks(2.0, 2.0) == [8, 8]
    assert ranks(4.0, 1.0) == [2, 8]
    assert ranks(1.0, 2.0, 4.0, 8.0, 16.0) == [8, 8, 4, 2, 2]


def test_a_slow_link_counts_too(build, config):
    cost = build(name="hetlora").cost
    classes = (ClassConfig(name="far", uplink_mbps=0.01), ClassConfig(name="near"))
    assert ranks_by_speed(replace(config, classes=classes), cost) == {"far": (2,), "near": (2, 4, 8)}


def test_a_class_nobody_described_has_every_rank(build, roster):
    strategy = build(name="hetlora")
    newcomer = replace(roster[0], device_class="new")
    _, plan = strategy.plan(strategy.start(), (newcomer,), 1)
    assert [each.arm.rank for each in plan.assignments] == [8]


def test_fedex_lora_gives_everybody_the_largest_rank(build, roster, play, geometry):
    _, plans, _ = play(build(name="fedex-lora"), roster, 2)
    assert {each.arm.rank for plan, _ in plans for each in plan.assignments} == {8}
    assert {each.keep_set for plan, _ in plans for each in plan.assignments} == {KeepSet.full(geometry)}
