import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.nn.criteria.hard_concrete import openness, sample, shifted_to


def plain(u: float, log_alpha: float) -> float:
    s = 1 / (1 + math.exp(-(math.log(u) - math.log(1 - u) + log_alpha) / (2 / 3)))
    return min(1.0, max(0.0, s * 1.2 - 0.1))


def test_samples_equal_the_formula() -> None:
    log_alpha = torch.linspace(-3, 3, 50)
    uniform = torch.rand(50, generator=torch.Generator().manual_seed(7))
    gates = sample(log_alpha, torch.Generator().manual_seed(7))
    expected = [plain(u, a) for u, a in zip(uniform.tolist(), log_alpha.tolist(), strict=True)]
    torch.testing.assert_close(gates, torch.tensor(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("log_alpha", [-2.0, 0.0, 1.5])
def test_openness_is_the_share_of_gates_that_are_not_zero(log_alpha: float) -> None:
    gates = sample(torch.full((40_000,), log_alpha), torch.Generator().manual_seed(1))
    expected = 1 / (1 + math.exp(-(log_alpha - 2 / 3 * math.log(0.1 / 1.1))))
    assert float(openness(torch.tensor(log_alpha))) == pytest.approx(expected, rel=1e-5)
    assert float((gates > 0).float().mean()) == pytest.approx(expected, abs=0.01)
    assert (gates == 0).any() and (gates == 1).any()


def test_gradients_reach_gates_that_are_neither_open_nor_closed() -> None:
    log_alpha = torch.zeros(200, requires_grad=True)
    gates = sample(log_alpha, torch.Generator().manual_seed(2))
    gates.sum().backward()
    assert log_alpha.grad is not None
    between = (gates > 0) & (gates < 1)
    assert (log_alpha.grad[between] > 0).all()
    assert (log_alpha.grad[~between] == 0).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=30), st.floats(0.05, 0.95))
def test_a_shift_meets_the_mean_and_keeps_all_differences(values: list[float], wanted: float) -> None:
    log_alpha = torch.tensor(values)
    shifted = shifted_to(log_alpha, wanted)
    assert float(openness(shifted).mean()) == pytest.approx(wanted, abs=1e-4)
    torch.testing.assert_close(shifted - shifted[0], log_alpha - log_alpha[0], rtol=1e-4, atol=1e-4)
