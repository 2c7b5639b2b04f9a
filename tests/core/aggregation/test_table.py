import numpy as np
import pytest

from fedcore.core.aggregation.table import AGGREGATORS, make_aggregator
from fedcore.core.errors import ConfigError
from fedcore.core.model.base_shift import shift_shapes
from tests.core.aggregation.cohort import fold_all, make_cohort, make_spec, same_bits, trained_adapter

NAMES = pytest.mark.parametrize("name", AGGREGATORS)


@NAMES
def test_an_entry_carries_its_name_and_kind(name):
    aggregator = make_aggregator(name)
    assert aggregator.name == name
    assert aggregator.kind == ("reducing" if name in ("factor-mean", "layer-mean") else "bundling")
    assert aggregator.server_rank(8) >= 8


@NAMES
def test_contract_start_is_the_zero_of_merge(name):
    rng, spec = np.random.default_rng(0), make_spec()
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng)
    aggregator = make_aggregator(name, seed=3)
    plain, report = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    joined = aggregator.merge(aggregator.start(spec), fold_all(aggregator, spec, updates))
    joined = aggregator.merge(joined, aggregator.start(spec))
    merged, merged_report = aggregator.finish(joined, adapter)
    assert same_bits(plain, merged) and report == merged_report


@NAMES
def test_contract_finish_returns_float32_in_the_adapters_shapes(name):
    rng, spec = np.random.default_rng(1), make_spec("gqa")
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng)
    aggregator = make_aggregator(name)
    after, _ = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    shift = shift_shapes(spec) if aggregator.shifts_base else {}
    assert {key: value.shape for key, value in after.items()} == spec.shapes() | shift
    assert all(value.dtype == np.float32 and value.flags.c_contiguous for value in after.values())


@NAMES
def test_contract_the_server_rate_scales_the_step(name):
    rng, spec = np.random.default_rng(2), make_spec()
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng)
    steps = []
    for rate in (1.0, 0.25):
        aggregator = make_aggregator(name, server_lr=rate)
        after, _ = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
        steps.append(after["head.weight"] - adapter["head.weight"])
    np.testing.assert_allclose(steps[1], 0.25 * steps[0], atol=1e-7)


def test_unknown_names_list_the_known():
    with pytest.raises(ConfigError, match=f"expected one of {', '.join(AGGREGATORS)}; got 'fedavg'"):
        make_aggregator("fedavg")


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_must_be_a_positive_number(rate):
    with pytest.raises(ConfigError, match="server_lr must be a finite number above 0"):
        make_aggregator("factor-mean", server_lr=rate)
