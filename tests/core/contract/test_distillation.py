from dataclasses import replace

import pytest

from fedcore.core.contract.distillation import Distillation, mix_of
from fedcore.core.cost.teacher import teacher_flops, teacher_memory_mb
from fedcore.core.cost.training_step import FLOAT_BYTES, MIB, StepShape, base_parameters
from fedcore.core.errors import ConfigError
from fedcore.core.model.geometry import Counts
from tests.strategies.conftest import GEOMETRY


def test_the_teachers_share_rises_in_a_straight_line_after_the_warm_up() -> None:
    assert [mix_of(n, warmup_rounds=2, rounds=6) for n in range(1, 8)] == [0, 0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert mix_of(3, warmup_rounds=3, rounds=3) == 0.0


@pytest.mark.parametrize("wrong", [{"weight": 0.0}, {"weight": 1.1}, {"temperature": 0.0}, {"mix": -0.1}, {"mix": 2.0}])
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected weight in"):
        Distillation(**({"weight": 0.5, "temperature": 1.0, "mix": 0.5} | wrong))


def test_a_teacher_costs_a_dense_forward_pass_and_both_models_weights() -> None:
    cut = StepShape(
        geometry=GEOMETRY, kept=Counts(4, 32), rank=4, targets=GEOMETRY.modules, batch_size=2, max_length=16
    )
    assert teacher_flops(cut) == replace(cut, kept=Counts(8, 64)).forward_flops()
    held = base_parameters(GEOMETRY, Counts(8, 64)) + base_parameters(GEOMETRY, Counts(4, 32))
    dense_factors = 2 * 4 * (4 * 64 + 2 * 96)  # layers x rank x (rows + columns)
    cut_factors = 2 * 4 * (4 * (32 + 16) + 2 * (32 + 32))
    working = 32 * (3 * 32 + 4 * 32)
    expected = FLOAT_BYTES * (held + 3 * cut_factors + dense_factors + working) / MIB
    assert teacher_memory_mb(cut) == pytest.approx(expected)
    states = 3 * cut.max_length * cut.geometry.hidden * cut.dtype_bytes
    assert teacher_memory_mb(cut, kept_rows=3) == pytest.approx(expected + states / 2**20)
