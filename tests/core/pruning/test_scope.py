import numpy as np
import pytest

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.model.geometry import Counts
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.pruning.ordering import (
    ScoredGroups,
    absorb,
    frozen_counts,
    initial_order,
    known_scores,
    removal_order,
)
from fedcore.core.pruning.scope import SCOPES, class_order, common_order, first_orders, frozen_orders, order_key


def told(geometry, heads):
    scores = GroupScores(
        heads=(np.array(heads, dtype=np.float32),) * geometry.layers,
        channels=(np.ones(geometry.ffn, dtype=np.float32),) * geometry.layers,
    )
    return ScoredGroups(scores=scores, keep_set=KeepSet.full(geometry), weight=1)


def learned(geometry, heads):
    return absorb(initial_order(geometry), geometry, [told(geometry, heads)], 0.5)


def test_keys_tell_fleet_classes_and_devices_apart():
    assert [order_key(scope, "agx", "agx-0") for scope in SCOPES] == ["fleet", "agx", "agx/agx-0"]


def test_only_the_fleet_has_an_order_before_anybody_is_asked(small):
    assert first_orders("fleet", small, None) == {"fleet": initial_order(small)}
    assert first_orders("class", small, None) == first_orders("device", small, None) == {}


def test_cuts_freeze_their_own_order_only_and_begin_missing_ones(small):
    before = {"a": learned(small, [4, 3, 2, 1])}
    after = frozen_orders(before, {"a": Counts(1, 0), "b": Counts(2, 5)}, small, None)
    assert {key: frozen_counts(order, small) for key, order in after.items()} == {"a": Counts(1, 0), "b": Counts(2, 5)}
    assert removal_order(after["a"], small)["heads"][0].tolist() == [3, 2, 1, 0]
    assert frozen_counts(before["a"], small) == Counts(0, 0)


def test_a_class_is_exported_by_its_own_order_or_by_the_mean_of_its_devices(small):
    one, two, other = (learned(small, heads) for heads in ([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]))
    prior = told(small, [4, 3, 2, 1]).scores
    assert class_order({"fleet": one}, "fleet", "agx", small, prior) is one
    assert class_order({"agx": one, "tx2": two}, "class", "tx2", small, prior) is two
    devices = {"agx/x": one, "agx/y": two, "agx-b/z": other}
    mean = class_order(devices, "device", "agx", small, prior)
    assert known_scores(mean, small).heads[0].tolist() == [0.5, 0.5, 0, 0]
    assert class_order(devices, "device", "agx-b", small, prior) is other
    for scope in ("class", "device"):
        no_device = class_order(devices, scope, "nx", small, prior)
        assert removal_order(no_device, small)["heads"][0].tolist() == [3, 2, 1, 0]


def test_the_common_order_is_the_mean_of_all(small):
    one, two = learned(small, [1, 0, 0, 0]), learned(small, [0, 1, 0, 0])
    assert common_order({"fleet": one}, small) is one
    assert known_scores(common_order({"a": one, "b": two}, small), small).heads[0].tolist() == [0.5, 0.5, 0, 0]
    with pytest.raises(ValueError, match="no order"):
        common_order({}, small)
