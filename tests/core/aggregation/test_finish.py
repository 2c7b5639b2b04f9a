import tracemalloc
from types import MappingProxyType

import numpy as np
import pytest

from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.aggregation.rules.delta_stack import delta_stack
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.keep_set import KeepSet
from tests.core.aggregation.cohort import fold_all, make_cohort, make_spec, make_update, same_bits, trained_adapter

AGGREGATORS = pytest.mark.parametrize("aggregator", [FactorMean(), delta_stack()], ids=lambda each: each.name)


@AGGREGATORS
@pytest.mark.parametrize("devices", [0, 4, 16])
def test_a_consumed_adapter_gives_the_same_bits_and_is_empty(aggregator, devices):
    rng, spec = np.random.default_rng(0), make_spec()
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng, ranks=(8,) * devices)
    kept, _ = aggregator.finish(fold_all(aggregator, spec, updates), MappingProxyType(adapter))
    assert len(adapter) == len(spec.shapes())
    spent, _ = aggregator.finish(fold_all(aggregator, spec, updates), adapter, consume=True)
    assert same_bits(kept, spent) and list(kept) == list(spent) == list(spec.shapes()) and adapter == {}


def test_finish_needs_no_more_than_is_held_already():
    config = {"model_type": "bert", "hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 2048}
    config |= {"num_hidden_layers": 6, "vocab_size": 50, "max_position_embeddings": 32}
    geometry = geometry_from_config(config)
    spec = AdapterSpec(geometry=geometry, rank=64, targets=geometry.modules, head=())
    full, rng, aggregator = KeepSet.full(geometry), np.random.default_rng(0), FactorMean()
    update = make_update(spec, rng, "d", rank=64, keep_set=full)
    tracemalloc.start()
    adapter = {name: np.ones(shape, dtype=np.float32) for name, shape in spec.shapes().items()}
    partial = aggregator.fold(aggregator.start(spec), update)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    aggregator.finish(partial, adapter, consume=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    model = 4 * spec.num_values()
    assert held >= 3 * model, "the adapter and its 64-bit sums"
    assert peak <= held + (16 << 20), "one array of sums and its successors"
