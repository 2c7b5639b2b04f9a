import math

import torch

from fedcore.nn.accelerator.loss_scale import FIRST, GROWTH_STEPS, LARGEST, LossScale


def test_other_precisions_have_no_factor() -> None:
    scale, loss = LossScale("bfloat16"), torch.tensor(2.0)
    assert scale.scaled(loss) is loss
    assert scale.settle(finite=True) and not scale.settle(finite=False)
    assert scale.value == 1.0


def test_gradients_are_those_of_the_loss() -> None:
    scale, x = LossScale("float16"), torch.tensor([3.0], requires_grad=True)
    scale.scaled((x * x).sum()).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.item() == 6.0 * FIRST
    scale.unscale([x, torch.zeros(1)])
    assert x.grad.item() == 6.0


def test_the_factor_is_searched_for() -> None:
    scale = LossScale("float16")
    assert scale.settle(finite=False) and scale.value == FIRST / 2
    for _ in range(GROWTH_STEPS - 1):
        assert scale.settle(finite=True)
    assert scale.value == FIRST / 2
    assert scale.settle(finite=True) and scale.value == FIRST
    for _ in range(50 * GROWTH_STEPS):
        scale.settle(finite=True)
    assert scale.value == LARGEST


def test_the_search_ends_where_no_factor_helps() -> None:
    scale = LossScale("float16")
    tries = int(math.log2(FIRST))
    assert [scale.settle(finite=False) for _ in range(tries + 1)] == [True] * tries + [False]
