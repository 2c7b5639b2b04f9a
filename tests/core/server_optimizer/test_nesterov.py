import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.config.tables import StrategyConfig
from fedcore.core.errors import ConfigError
from fedcore.core.server_optimizer.nesterov import Nesterov
from fedcore.core.server_optimizer.table import SERVER_OPTIMIZERS, aggregator_lr, make_server_optimizer


def arrays(*values):
    return {"a": np.array(values, np.float32)}


def test_two_steps_by_hand():
    outer = Nesterov(lr=0.5, momentum=0.5)
    first, velocity = outer.step(arrays(1.0, -2.0), arrays(3.0, -2.0), None)  # d = 2, 0
    np.testing.assert_array_equal(velocity["a"], [2.0, 0.0])
    np.testing.assert_array_equal(first["a"], [1.0 + 0.5 * (0.5 * 2 + 2), -2.0])
    second, velocity = outer.step(first, arrays(first["a"][0] - 4, -1.0), velocity)  # d = -4, 1
    np.testing.assert_array_equal(velocity["a"], [0.5 * 2 - 4, 1.0])
    np.testing.assert_array_equal(second["a"], [2.5 + 0.5 * (0.5 * -3 - 4), -2.0 + 0.5 * (0.5 + 1.0)])


@pytest.mark.parametrize("shape", [(), (3,), (200, 131)])
def test_it_is_the_step_of_torch_with_the_increment_as_minus_the_gradient(shape):
    rng = np.random.default_rng(3)
    start = rng.normal(size=shape).astype(np.float32)
    parameter = torch.nn.Parameter(torch.tensor(start.astype(np.float64)))
    theirs = torch.optim.SGD([parameter], lr=0.7, momentum=0.9, nesterov=True)
    ours, velocity, outer = {"a": start}, None, Nesterov()
    for _ in range(4):
        increment = rng.normal(size=shape, scale=1e-2)
        parameter.grad = torch.tensor(-increment).reshape(shape)
        theirs.step()
        after = {"a": (ours["a"] + increment).astype(np.float32)}
        ours, velocity = outer.step({"a": ours["a"].copy()}, after, velocity)
        assert ours["a"].shape == velocity["a"].shape == shape and velocity["a"].dtype == np.float32
    np.testing.assert_allclose(ours["a"], parameter.detach().numpy(), atol=2e-6)


@given(st.lists(st.tuples(*[st.integers(-(2**20), 2**20)] * 2), min_size=1, max_size=8))
def test_without_momentum_at_rate_one_it_is_the_mean_itself(pairs):
    before, wanted = (arrays(*(value / 1024 for value in values)) for values in zip(*pairs, strict=True))
    after, velocity = Nesterov(lr=1.0, momentum=0.0).step(before, {"a": wanted["a"].copy()}, None)
    np.testing.assert_array_equal(after["a"], wanted["a"])
    np.testing.assert_array_equal(velocity["a"], wanted["a"] - before["a"])


def test_arguments_that_are_kept_are_left_alone_even_where_an_array_is_not_contiguous():
    before, held = {"a": np.zeros((3, 2), np.float32)}, {"a": np.ones((3, 2), np.float32)}
    held["a"].flags.writeable = before["a"].flags.writeable = False
    after, velocity = Nesterov(lr=1.0, momentum=0.5).step(before, {"a": np.ones((2, 3), np.float32).T}, held)
    np.testing.assert_array_equal(velocity["a"], np.full((3, 2), 1.5))
    np.testing.assert_array_equal(after["a"], np.full((3, 2), 1.75))


def test_the_step_is_taken_once_by_the_aggregator_or_by_the_optimiser():
    assert list(SERVER_OPTIMIZERS) == ["sgd", "nesterov"]
    plain = StrategyConfig(server_lr=0.5)
    assert make_server_optimizer(plain) is None and aggregator_lr(plain) == 0.5
    outer = StrategyConfig(server_lr=0.5, server_optimizer="nesterov", server_momentum=0.8)
    assert make_server_optimizer(outer) == Nesterov(lr=0.5, momentum=0.8) and aggregator_lr(outer) == 1.0


def test_an_unknown_optimiser_names_the_known_ones():
    with pytest.raises(ConfigError, match="expected one of sgd, nesterov; got 'adam'"):
        make_server_optimizer(StrategyConfig(server_optimizer="adam"))
    with pytest.raises(ConfigError, match=r"server_momentum must be in \[0, 1\), got 1.0"):
        StrategyConfig(server_momentum=1.0)
