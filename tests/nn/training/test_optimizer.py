import numpy as np
import pytest
import torch

from fedcore.core.errors import ModelError
from fedcore.nn.training.moments import Moment
from fedcore.nn.training.optimizer import make_optimizer, moments, restore


def parameters() -> dict[str, torch.nn.Parameter]:
    return {"a": torch.nn.Parameter(torch.tensor([1.0, -2.0])), "b": torch.nn.Parameter(torch.tensor([[3.0]]))}


def test_a_first_step_is_adams_with_decoupled_decay() -> None:
    trained = parameters()
    optimizer = make_optimizer(trained, learning_rate=0.1, weight_decay=0.5)
    trained["a"].grad = torch.tensor([4.0, -0.5])
    optimizer.step()
    # the first bias-corrected step is the sign of the gradient; decay multiplies by 1 - 0.1 x 0.5
    np.testing.assert_allclose(trained["a"].detach(), [0.95 - 0.1, -1.9 + 0.1], rtol=1e-5)
    state = moments(optimizer, trained)
    assert state.keys() == {"a"} and state["a"].step == 1
    np.testing.assert_allclose(state["a"].first, [0.4, -0.05], rtol=1e-5)
    np.testing.assert_allclose(state["a"].second, [0.016, 0.00025], rtol=1e-5)


def test_restored_moments_continue_to_the_same_bits() -> None:
    whole, resumed = parameters(), parameters()
    optimizer = make_optimizer(whole, learning_rate=0.1, weight_decay=0.0)
    for gradient in (1.0, -3.0):
        whole["b"].grad = torch.tensor([[gradient]])
        optimizer.step()
        if gradient == 1.0:
            resumed["b"].data.copy_(whole["b"].data)
            saved = moments(optimizer, whole)
    other = make_optimizer(resumed, learning_rate=0.1, weight_decay=0.0)
    restore(other, resumed, saved | {"elsewhere": saved["b"]})
    resumed["b"].grad = torch.tensor([[-3.0]])
    other.step()
    assert torch.equal(resumed["b"], whole["b"]) and moments(other, resumed)["b"].step == 2


def test_a_copy_of_the_moments_does_not_follow_later_steps() -> None:
    trained = parameters()
    optimizer = make_optimizer(trained, learning_rate=0.1, weight_decay=0.0)
    trained["b"].grad = torch.tensor([[1.0]])
    optimizer.step()
    state = moments(optimizer, trained)
    optimizer.step()
    assert state["b"].first == np.float32(0.1) and state["b"].step == 1


def test_moments_of_another_shape_are_refused() -> None:
    trained = parameters()
    zeros = np.zeros(3, dtype=np.float32)
    with pytest.raises(ModelError, match=r"optimiser state of a has shape \(3,\), the parameter \(2,\)"):
        restore(
            make_optimizer(trained, learning_rate=0.1, weight_decay=0.0),
            trained,
            {"a": Moment(first=zeros, second=zeros, step=1)},
        )
