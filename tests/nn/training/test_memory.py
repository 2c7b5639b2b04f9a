import torch
from torch import nn

from fedcore.nn.training.memory import LiveTensorMeter

KIB = 1024


def test_a_new_tensor_counts_once_and_leaves_when_dropped() -> None:
    with LiveTensorMeter() as meter:
        first = torch.zeros(256)  # 1 KiB
        second = first + 1
        assert meter.live_bytes == 2 * KIB
        del first
        assert meter.live_bytes == KIB
        third = second * 2
        assert meter.live_bytes == 2 * KIB
        del second, third
    assert meter.live_bytes == 0
    assert meter.peak_bytes == 2 * KIB


def test_views_and_in_place_operations_cost_nothing() -> None:
    with LiveTensorMeter() as meter:
        base = torch.zeros(16, 16)
        view = base.T[2:].reshape(-1)[:3]
        base.add_(1)
        view.mul_(2)
    assert meter.peak_bytes <= 2 * KIB  # the reshape of a transposed slice copies 14 x 16 floats
    assert meter.peak_bytes == KIB + 14 * 16 * 4


def test_what_stands_before_the_step_counts_in_full() -> None:
    model = nn.Linear(16, 16, bias=False)  # 1 KiB
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 16)).sum().backward()  # gradient: 1 KiB
    optimizer.step()  # two moments of 1 KiB and a step of 4 bytes
    meter = LiveTensorMeter(model, optimizer)
    assert meter.peak_bytes == 4 * KIB + 4


def test_tied_parameters_count_once() -> None:
    left, right = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)
    right.weight = left.weight
    assert LiveTensorMeter(nn.ModuleList([left, right])).live_bytes == KIB


def test_saved_activations_are_live_until_the_backward() -> None:
    start = torch.zeros(256, requires_grad=True)
    with LiveTensorMeter() as meter:
        value = start
        for _ in range(8):
            value = value.exp()  # exp saves its result: 1 KiB each
        # start and eight results
        assert meter.live_bytes == 9 * KIB
        loss = value.sum()
        del value
        assert meter.live_bytes == 9 * KIB + 4
        loss.backward()
        del loss
        assert meter.live_bytes == 2 * KIB  # start and its gradient
    assert meter.peak_bytes > 9 * KIB + 4


def test_without_gradients_activations_are_not_kept() -> None:
    start = torch.zeros(256)
    with LiveTensorMeter() as meter, torch.no_grad():
        value = start
        for _ in range(8):
            value = value.exp()
    assert meter.peak_bytes == 3 * KIB  # start, one input, one output


def test_training_step_by_hand() -> None:
    layer = nn.Linear(64, 64, bias=False)  # 16 KiB
    with LiveTensorMeter(layer) as meter:
        inputs = torch.ones(32, 64)  # 8 KiB
        layer(inputs).sum().backward()  # output 8 KiB, scalars, gradient 16 KiB
    # weight + input + weight gradient + the expanded, then materialised gradient of the output
    assert 40 * KIB <= meter.peak_bytes <= 48.1 * KIB


def test_resized_storage_is_counted_at_its_new_size() -> None:
    with LiveTensorMeter() as meter:
        value = torch.zeros(256)
        value.resize_(512)
        assert meter.live_bytes == 2 * KIB
        del value
    assert meter.live_bytes == 0
