import pytest
import torch

from fedcore.nn.accelerator.precision import autocast, precision_for


def test_the_cpu_computes_in_float32_unless_told_otherwise() -> None:
    assert precision_for("auto", "cpu") == "float32"
    assert precision_for("bfloat16", "cpu") == "bfloat16"


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_products_are_computed_in_16_bits(precision: str, dtype: torch.dtype) -> None:
    layer, x = torch.nn.Linear(3, 2), torch.ones(1, 3)
    with autocast(precision, torch.device("cpu")):
        assert layer(x).dtype == dtype
    with autocast("float32", torch.device("cpu")):
        assert layer(x).dtype == torch.float32
    assert layer(x).dtype == layer.weight.dtype == torch.float32
