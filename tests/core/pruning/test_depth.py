import json

import numpy as np
import pytest

from fedcore.core.pruning.depth import (
    absorb_influences,
    freeze_layers,
    influences,
    initial_depth,
    layer_order,
    mean_depth,
)


def values(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float32)


def test_before_a_measurement_blocks_behind_the_middle_go_first() -> None:
    assert layer_order(initial_depth(11))[:3] == (7, 6, 8)
    assert set(layer_order(initial_depth(11))[-2:]) == {0, 1}


def test_devices_count_by_weight_and_layers_that_nobody_has_keep_their_influence() -> None:
    before = absorb_influences(initial_depth(3), [((0, 1, 2), values(0.5, 0.25, 1.0), 7)], keep=0.0)
    after = absorb_influences(before, [((0, 1), values(1.0, 0.5), 3), ((0,), values(0.0), 1)], keep=0.5)
    assert influences(after).tolist() == [0.5 * 0.5 + 0.5 * 0.75, 0.5 * 0.25 + 0.5 * 0.5, 1.0]
    assert layer_order(after) == (1, 0, 2)


def test_removed_layers_lead_the_order_whatever_is_measured_later() -> None:
    first = freeze_layers(absorb_influences(initial_depth(3), [((0, 1, 2), values(3, 1, 2), 1)], keep=0.0), 1)
    later = absorb_influences(first, [((0, 2), values(0.1, 0.2), 1)], keep=0.0)
    assert layer_order(later) == (1, 0, 2)
    assert layer_order(freeze_layers(later, 0)) == (1, 0, 2) == layer_order(freeze_layers(later, 2))
    assert json.loads(json.dumps(later)) == later


def test_the_mean_of_states_freezes_nothing() -> None:
    states = [
        freeze_layers(absorb_influences(initial_depth(2), [((0, 1), values(*pair), 1)], keep=0.0), 1)
        for pair in ((1.0, 0.0), (0.0, 0.5))
    ]
    assert influences(mean_depth(states)).tolist() == pytest.approx([0.5, 0.25])
    assert layer_order(mean_depth(states)) == (1, 0)
