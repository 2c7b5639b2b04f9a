from dataclasses import replace

import pytest

from fedcore.core.contract.distillation import Distillation
from fedcore.core.cost.teacher import teacher_flops, teacher_memory_mb
from fedcore.core.model.geometry import Counts
from fedcore.strategies.policy.cost import round_cost
from fedcore.strategies.table import make_strategy
from tests.strategies.conftest import GEOMETRY, HEAD


@pytest.fixture
def taught(config):
    training = replace(config.training, distill=0.5, distill_temperature=2.0)
    strategy = replace(config.strategy, bandit="fixed", ranks=(4,))
    return replace(config, training=training, strategy=strategy)


def told(config, roster, play):
    _, plans, _ = play(make_strategy(config, GEOMETRY, HEAD), roster, 12)
    return [each for plan, _ in plans for each in plan.assignments]


def test_cut_devices_learn_more_from_their_dense_model_from_round_to_round(taught, roster, play):
    given = told(taught, roster, play)
    for each in given:
        cut = each.keep_set.counts != (8, 64)
        expected = Distillation(weight=0.5, temperature=2.0, mix=(each.round - 2) / 10) if cut else None
        assert each.training.distillation == expected
    assert {each.round for each in given if each.training.distillation} >= set(range(4, 13))


def test_off_is_off(config, roster, play):
    assert all(each.training.distillation is None for each in told(config, roster, play))


def test_who_has_no_room_for_two_models_goes_without(taught, roster, play):
    spec = make_strategy(taught, GEOMETRY, HEAD).spec
    counts = min(each.keep_set.counts for each in told(taught, roster, play))
    needed = teacher_memory_mb(round_cost(taught, spec).step(counts, 4))
    for share, expected in ((0.5, False), (4.0, True)):
        limited = tuple(replace(each, memory_mb=needed * share) for each in roster)
        given = [each for each in told(taught, limited, play) if each.keep_set.counts == counts]
        assert {each.training.distillation is not None for each in given} == {expected}


def test_the_cost_model_charges_cut_devices_for_the_teacher(taught, config, roster):
    spec = make_strategy(taught, GEOMETRY, HEAD).spec
    with_teacher, without = round_cost(taught, spec), round_cost(config, spec)
    assert with_teacher.seconds(roster[0], Counts(8, 64), 4) == without.seconds(roster[0], Counts(8, 64), 4)
    difference = with_teacher.seconds(roster[0], Counts(4, 32), 4) - without.seconds(roster[0], Counts(4, 32), 4)
    flops = teacher_flops(with_teacher.step(Counts(4, 32), 4))
    assert difference == pytest.approx(10 * flops / without.flops_per_s * roster[0].slowdown)
