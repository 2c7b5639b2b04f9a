"""FFA-LoRA: one frozen A for all devices, so that the mean of the products is the product of the mean."""

from dataclasses import replace

import numpy as np
import pytest

from fedcore.core.aggregation.table import make_aggregator
from fedcore.core.contract.update import Update, verify_update
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.trained_part import Factors, TrainedPart
from fedcore.strategies.table import resolve_settings
from tests.core.aggregation.cohort import make_spec, product, trained_adapter

SPEC = make_spec("bert", rank=2)
FULL = KeepSet.full(SPEC.geometry)


def rounded(tensors, steps=2.0**10):
    """Values on a grid so coarse that products and means of them are exact in float64."""
    return {name: (np.round(value * steps) / steps).astype(np.float32) for name, value in tensors.items()}


def cohort(trains, *, seed=0):
    rng = np.random.default_rng(seed)
    shapes = trains.of(SPEC.shapes())
    drawn = [rounded({name: rng.normal(size=shape) for name, shape in shapes.items()}) for _ in range(3)]
    return [
        Update(device=f"d{i}", round=1, weight=w, rank=2, keep_set=FULL, tensors=each, trains=trains)
        for i, (w, each) in enumerate(zip((1, 2, 5), drawn, strict=True))
    ]


def gap(trains):
    """Return how far the product of the averaged factors is from the mean of the devices' products."""
    adapter = rounded(trained_adapter(SPEC, np.random.default_rng(7)))
    aggregator, updates = make_aggregator("factor-mean"), cohort(trains)
    partial = aggregator.start(SPEC)
    for update in updates:
        partial = aggregator.fold(partial, verify_update(update, SPEC))
    after, _ = aggregator.finish(partial, adapter)
    largest = 0.0
    for layer, module in SPEC.modules():
        products = []
        for update in updates:
            own = {name: value + update.tensors.get(name, np.float32(0)) for name, value in adapter.items()}
            products.append(update.weight / 8 * product(own, layer, module))
        largest = max(largest, float(np.abs(product(after, layer, module) - sum(products)).max()))
    frozen = [name for name in SPEC.shapes() if not trains.has(name)]
    assert all(after[name].tobytes() == adapter[name].tobytes() for name in frozen)
    return largest


def test_the_mean_of_products_is_the_product_of_the_mean():
    assert gap(TrainedPart(factors=Factors.B)) == 0.0
    assert gap(TrainedPart()) > 0.1  # FedIT's is another


def test_everybody_trains_b_of_the_dense_model_at_the_largest_rank(build, config, roster, play, geometry):
    strategy = build(name="ffa-lora", aggregator="delta-stack")
    assert strategy.aggregator.name == "factor-mean" and strategy.config.training.downlink == "delta"
    assert resolve_settings(strategy.config) == strategy.config
    _, plans, events = play(strategy, roster, 4)
    for plan, _ in plans:
        assert {each.training.trains for each in plan.assignments} == {TrainedPart(factors=Factors.B)}
        assert {(each.arm.rank, each.keep_set) for each in plan.assignments} == {(8, KeepSet.full(geometry))}
    choices = [each for each in events if each["event"] == "choice"]
    assert all(each["trains"] == {"factors": "b", "first_layer": 0} for each in choices)


@pytest.mark.parametrize("name", ["ffa-lora", "rolora"])
def test_rounded_hand_outs_stay_rounded(name, config):
    for asked, had in (("full", "delta"), ("delta", "delta"), ("bf16", "bf16")):
        named = replace(config, strategy=replace(config.strategy, name=name))
        changed = replace(named, training=replace(named.training, downlink=asked))
        assert resolve_settings(changed).training.downlink == had
