from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.adapter import restrict
from fedcore.core.model.keep_set import KeepSet
from tests.core.aggregation.cohort import (
    dense_factors,
    fold_all,
    fold_tree,
    make_cohort,
    make_spec,
    make_update,
    random_keep_set,
    same_bits,
    trained_adapter,
)

SEEDS = st.integers(0, 2**32 - 1)
FAMILIES = pytest.mark.parametrize("family", ["bert", "gqa", "mqa"])


@FAMILIES
@settings(max_examples=10)
@given(seed=SEEDS)
def test_equals_the_dense_formula(family, seed):
    rng, spec = np.random.default_rng(seed), make_spec(family)
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng)
    aggregator = FactorMean(server_lr=0.7)
    after, report = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    expected = dense_factors(spec, adapter, updates, server_lr=0.7)
    for name, value in after.items():
        # the integer path's bound, then one rounding to float32
        slack = 2.0**-34 + 2.0**-23 * np.abs(expected[name])
        assert np.all(np.abs(value - expected[name]) <= slack), name
    assert report.weight == sum(update.weight for update in updates)
    assert report.updates == 4 and report.dropped_energy == 0.0


@FAMILIES
@settings(max_examples=10)
@given(seed=SEEDS)
def test_same_bits_for_every_order_and_tree(family, seed):
    rng, spec = np.random.default_rng(seed), make_spec(family)
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng, ranks=(8, 2, 4, 8, 4, 2))
    aggregator = FactorMean()
    flat, _ = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    tree, _ = aggregator.finish(fold_tree(aggregator, spec, updates, rng), adapter)
    assert same_bits(flat, tree)


def test_is_fedit_where_ranks_and_keep_sets_agree():
    rng, spec = np.random.default_rng(0), make_spec("gqa")
    adapter, keep_set = trained_adapter(spec, rng), KeepSet.full(spec.geometry)
    updates = [make_update(spec, rng, f"d{i}", rank=8, keep_set=keep_set) for i in range(4)]
    aggregator = FactorMean()
    after, _ = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    weight = sum(update.weight for update in updates)
    for name, value in adapter.items():
        trained = [value.astype(np.float64) + update.tensors[name] for update in updates]
        mean = sum(update.weight * each for update, each in zip(updates, trained, strict=True)) / weight
        np.testing.assert_allclose(after[name], mean, rtol=2e-7, atol=1e-9)


@FAMILIES
def test_what_nobody_held_keeps_its_bits(family):
    rng, spec = np.random.default_rng(1), make_spec(family)
    adapter, keep_set = trained_adapter(spec, rng), random_keep_set(make_spec(family), rng, sparsity=0.5)
    updates = [make_update(spec, rng, f"d{i}", rank=4, keep_set=keep_set) for i in range(3)]
    aggregator = FactorMean()
    after, _ = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    blank = {name: np.ones(value.shape, dtype=bool) for name, value in adapter.items()}
    zeros = {name: np.ones(value.shape, dtype=np.float32) for name, value in updates[0].tensors.items()}
    touched = dense_factors(spec, blank, [replace(updates[0], tensors=zeros)])
    untouched = 0
    for name, value in adapter.items():
        alone = touched[name] == 1.0
        untouched += int(alone.sum())
        assert value[alone].tobytes() == after[name][alone].tobytes()
        assert np.all(value[~alone] != after[name][~alone])
    assert untouched > 1000


def test_absent_holders_count_as_zero_increments():
    spec = make_spec("bert")
    rng, full = np.random.default_rng(2), KeepSet.full(spec.geometry)
    adapter = trained_adapter(spec, rng)
    wide = replace(make_update(spec, rng, "wide", rank=8, keep_set=full), weight=1)
    narrow = replace(make_update(spec, rng, "narrow", rank=2, keep_set=full), weight=3)
    aggregator = FactorMean()
    after, _ = aggregator.finish(fold_all(aggregator, spec, [wide, narrow]), adapter)
    moved = after["layers.0.q.A"][2:] - adapter["layers.0.q.A"][2:]
    np.testing.assert_allclose(moved, wide.tensors["layers.0.q.A"][2:] / 4, atol=1e-7)


def test_a_second_copy_is_refused_by_key_and_the_partial_stays_whole():
    rng, spec = np.random.default_rng(3), make_spec()
    updates, aggregator = make_cohort(spec, rng), FactorMean()
    partial = fold_all(aggregator, spec, updates)
    with pytest.raises(UpdateRejected, match=r"device-2 for round 1 is already folded"):
        aggregator.fold(partial, updates[2])
    adapter = trained_adapter(spec, rng)
    again, _ = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    assert same_bits(aggregator.finish(partial, adapter)[0], again)


def test_overlapping_partials_are_refused_naming_keys():
    rng, spec = np.random.default_rng(4), make_spec()
    updates, aggregator = make_cohort(spec, rng), FactorMean()
    left, right = fold_all(aggregator, spec, updates[:3]), fold_all(aggregator, spec, updates[1:])
    with pytest.raises(UpdateRejected, match=r"device-1 \(round 1\), device-2 \(round 1\) counted on both sides"):
        aggregator.merge(left, right)


def test_the_same_device_in_two_rounds_is_two_keys():
    rng, spec = np.random.default_rng(5), make_spec()
    update, aggregator = make_cohort(spec, rng)[0], FactorMean()
    partial = fold_all(aggregator, spec, [update, replace(update, round=2)])
    assert partial.members.keys == {("device-0", 1), ("device-0", 2)}


@pytest.mark.parametrize(("weight", "message"), [(0, "at least 1, got 0"), (2**24 + 1, "at most 16777216")])
def test_weights_out_of_range_are_refused(weight, message):
    spec, aggregator = make_spec(), FactorMean()
    update = replace(make_cohort(spec, np.random.default_rng(6))[0], weight=weight)
    with pytest.raises(UpdateRejected, match=message):
        aggregator.fold(aggregator.start(spec), update)


def test_the_weight_limit_holds_across_merges():
    rng, spec, aggregator = np.random.default_rng(7), make_spec(), FactorMean()
    updates = [replace(update, weight=2**23 + 1) for update in make_cohort(spec, rng)[:2]]
    left, right = (fold_all(aggregator, spec, [update]) for update in updates)
    with pytest.raises(UpdateRejected, match="total weight"):
        aggregator.merge(left, right)


def test_partials_of_different_adapters_do_not_merge():
    aggregator = FactorMean()
    with pytest.raises(UpdateRejected, match="different adapters"):
        aggregator.merge(aggregator.start(make_spec(rank=4)), aggregator.start(make_spec(rank=8)))


def test_nobody_came_returns_an_equal_copy():
    spec, aggregator = make_spec(), FactorMean()
    adapter = trained_adapter(spec, np.random.default_rng(8))
    after, report = aggregator.finish(aggregator.start(spec), adapter)
    assert same_bits(after, adapter) and report.weight == 0 and report.updates == 0
    assert all(after[name] is not adapter[name] for name in after)


def test_reads_every_tensor_of_a_lazy_mapping_once():
    spec, aggregator, reads = make_spec(), FactorMean(), []
    update = make_cohort(spec, np.random.default_rng(9))[1]

    class Lazy(dict):
        def __getitem__(self, name):
            reads.append(name)
            return super().__getitem__(name)

    aggregator.fold(aggregator.start(spec), replace(update, tensors=Lazy(update.tensors)))
    assert sorted(reads) == sorted(update.tensors)


def test_no_rank_collapse_without_learning():
    rng, spec = np.random.default_rng(10), make_spec(rank=8)
    adapter, aggregator = trained_adapter(spec, rng), FactorMean()
    start = adapter
    for round_ in range(1, 21):
        updates = [
            replace(make_update(spec, rng, f"d{rank}", rank=rank, keep_set=KeepSet.full(spec.geometry)), round=round_)
            for rank in (2, 4, 8)
        ]
        still = [replace(u, tensors={n: np.zeros_like(v) for n, v in u.tensors.items()}) for u in updates]
        adapter, _ = aggregator.finish(fold_all(aggregator, spec, still), adapter)
    assert same_bits(adapter, start)


def test_hand_out_plus_update_is_where_the_device_stands():
    rng, spec = np.random.default_rng(11), make_spec("mqa")
    adapter, keep_set = trained_adapter(spec, rng), random_keep_set(spec, rng, sparsity=0.5)
    update, aggregator = make_update(spec, rng, "only", rank=4, keep_set=keep_set), FactorMean()
    after, _ = aggregator.finish(fold_all(aggregator, spec, [update]), adapter)
    before_held = restrict(spec, adapter, rank=4, keep_set=keep_set)
    after_held = restrict(spec, after, rank=4, keep_set=keep_set)
    for name, value in after_held.items():
        np.testing.assert_allclose(value, before_held[name] + update.tensors[name], rtol=2e-7, atol=1e-7)


def test_server_rank_is_the_largest():
    assert FactorMean().server_rank(16) == 16
