"""A machine's speed from one random layer: every family, no weights read, the clock's times taken at their word."""

import itertools
from pathlib import Path

import pytest

from fedcore.core.cost.training_step import base_step_flops
from fedcore.core.errors import ModelError
from fedcore.core.model.geometry import geometry_from_config
from fedcore.nn.model.model_folder import read_config
from fedcore.nn.training.self_measurement import TOKENS, training_gflops
from tests.tiny_models import KINDS, tiny_model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", sorted(KINDS))
def test_every_family_can_be_tried_without_its_weights(family: str, dtype: str, tmp_path: Path) -> None:
    tiny_model(tmp_path, family)
    (tmp_path / "model.safetensors").unlink()
    assert training_gflops(tmp_path, dtype=dtype, max_length=8) > 0


@pytest.mark.parametrize(("passes", "fastest_s"), [((0.15, 0.04, 0.06), 0.04), ((3.0, 0.01), 3.0)])
def test_the_fastest_pass_counts_and_a_long_first_one_is_enough(
    passes: tuple[float, ...], fastest_s: float, tmp_path: Path
) -> None:
    tiny_model(tmp_path, "bert")
    times = itertools.accumulate([0.0, *(step for pass_s in passes for step in (pass_s, 0.0))])
    geometry = geometry_from_config(read_config(tmp_path))
    flops = base_step_flops(geometry, batch_size=TOKENS // 8, max_length=8) / geometry.layers
    found = training_gflops(tmp_path, dtype="float32", max_length=8, clock=lambda: next(times))
    assert found == pytest.approx(flops / fastest_s / 1e9)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        training_gflops(tmp_path, dtype="float32", max_length=8)
