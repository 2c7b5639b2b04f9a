from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.aggregation.rules.delta_stack import delta_stack
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.adapter import initial_adapter
from fedcore.core.model.keep_set import KeepSet
from tests.core.aggregation.cohort import (
    dense_products,
    expand,
    fold_all,
    fold_tree,
    make_cohort,
    make_spec,
    make_update,
    product,
    random_keep_set,
    same_bits,
    trained_adapter,
)

SEEDS = st.integers(0, 2**32 - 1)
FAMILIES = pytest.mark.parametrize("family", ["bert", "gqa", "mqa"])


def relative_error(spec, after, expected):
    return max(
        np.linalg.norm(product(after, layer, module) - expected[layer, module])
        / np.linalg.norm(expected[layer, module])
        for layer, module in spec.modules()
    )


@FAMILIES
@settings(max_examples=5)
@given(seed=SEEDS)
def test_equals_the_dense_formula_where_the_server_rank_suffices(family, seed):
    rng, spec = np.random.default_rng(seed), make_spec(family, rank=36)
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng)
    aggregator = delta_stack(server_lr=0.7)
    after, report = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    assert relative_error(spec, after, dense_products(spec, adapter, updates, server_lr=0.7)) <= 1e-6
    assert report.dropped_energy <= 1e-12 and report.updates == 4
    assert report.weight == sum(update.weight for update in updates)
    assert all(value.dtype == np.float32 for value in after.values())


@FAMILIES
def test_truncation_drops_what_it_reports(family):
    rng, spec = np.random.default_rng(0), make_spec(family, rank=8)
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng)
    aggregator = delta_stack()
    after, report = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    expected = dense_products(spec, adapter, updates)
    energy = sum(np.sum(value**2) for value in expected.values())
    lost = sum(np.sum((product(after, *at) - value) ** 2) for at, value in expected.items())
    assert report.dropped_energy == pytest.approx(lost / energy, rel=1e-4)
    assert 0.01 < report.dropped_energy < 0.5
    for at, value in expected.items():
        tail = np.linalg.svd(value, compute_uv=False)[8:]
        assert np.sum((product(after, *at) - value) ** 2) == pytest.approx(np.sum(tail**2), rel=1e-3)


@FAMILIES
@settings(max_examples=5)
@given(seed=SEEDS)
def test_same_bits_for_every_order_and_tree(family, seed):
    rng, spec = np.random.default_rng(seed), make_spec(family)
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng, ranks=(8, 2, 4, 8, 2))
    aggregator = delta_stack()
    flat, _ = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    tree, _ = aggregator.finish(fold_tree(aggregator, spec, updates, rng), adapter)
    assert same_bits(flat, tree)


def test_heads_take_the_integer_path():
    rng, spec = np.random.default_rng(1), make_spec()
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng)
    results = [
        aggregator.finish(fold_all(aggregator, spec, updates), adapter)[0]
        for aggregator in (delta_stack(), FactorMean())
    ]
    for name, _ in spec.head:
        assert results[0][name].tobytes() == results[1][name].tobytes()
        assert np.any(results[0][name] != adapter[name])


@FAMILIES
def test_what_nobody_held_stays_unchanged(family):
    rng, spec = np.random.default_rng(2), make_spec(family, rank=36)
    adapter, keep_set = trained_adapter(spec, rng), random_keep_set(spec, rng, sparsity=0.5)
    updates = [make_update(spec, rng, f"d{i}", rank=4, keep_set=keep_set) for i in range(3)]
    aggregator = delta_stack()
    after, _ = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    for layer, module in spec.modules():
        cut, kept = spec.geometry.cut(module), keep_set.indices(spec.geometry, layer, module)
        if cut is None:
            continue
        axis = 0 if cut.side == "out" else 1
        before, now = product(adapter, layer, module), product(after, layer, module)
        np.testing.assert_allclose(
            np.delete(now, kept, axis=axis), np.delete(before, kept, axis=axis), atol=2e-6 * np.abs(now).max()
        )


def test_a_lone_full_device_gets_what_it_trained():
    rng, spec = np.random.default_rng(3), make_spec("gqa", rank=16)
    adapter, keep_set = trained_adapter(spec, rng), KeepSet.full(spec.geometry)
    update, aggregator = make_update(spec, rng, "only", rank=16, keep_set=keep_set), delta_stack()
    after, _ = aggregator.finish(fold_all(aggregator, spec, [update]), adapter)
    trained = {name: adapter[name] + value for name, value in update.tensors.items()}
    expected = {at: product(trained, *at) for at in spec.modules()}
    assert relative_error(spec, after, expected) <= 1e-6


def test_first_round_from_the_initial_adapter():
    rng, spec = np.random.default_rng(4), make_spec(rank=16)
    adapter, aggregator = initial_adapter(spec, rng), delta_stack(seed=5)
    full = KeepSet.full(spec.geometry)
    updates = [make_update(spec, rng, f"d{i}", rank=4, keep_set=full) for i in range(2)]
    after, _ = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    assert relative_error(spec, after, dense_products(spec, adapter, updates)) <= 1e-6
    b, a = after["layers.0.q.B"], after["layers.0.q.A"]
    assert np.all(np.linalg.norm(b[:, :8], axis=0) > 0), "two devices of rank 4 fill eight components"
    assert not b[:, 8:].any() and np.all(np.linalg.norm(a[8:], axis=1) > 0.1), "the rest can still learn"


def test_no_learning_from_the_initial_adapter_updates_a_valid_start():
    spec, aggregator = make_spec(), delta_stack()
    adapter = initial_adapter(spec, np.random.default_rng(5))
    still = _still(spec, ranks=(2, 4), round_=1)
    after, report = aggregator.finish(fold_all(aggregator, spec, still), adapter)
    assert report.dropped_energy == 0.0
    for layer, module in spec.modules():
        assert not after[f"layers.{layer}.{module}.B"].any()
        assert after[f"layers.{layer}.{module}.A"].all()


def test_restarted_rows_follow_seed_and_round():
    spec = make_spec()
    adapter = initial_adapter(spec, np.random.default_rng(6))

    def row(seed: int, round_: int) -> bytes:
        aggregator = delta_stack(seed=seed)
        still = _still(spec, ranks=(2,), round_=round_)
        return aggregator.finish(fold_all(aggregator, spec, still), adapter)[0]["layers.1.up.A"].tobytes()

    assert row(1, 1) == row(1, 1)
    assert len({row(1, 1), row(2, 1), row(1, 2)}) == 3


def test_no_rank_collapse_over_twenty_rounds_without_learning():
    spec, aggregator = make_spec(rank=32), delta_stack()
    adapter = trained_adapter(spec, np.random.default_rng(7))
    start = {at: product(adapter, *at) for at in spec.modules()}
    for round_ in range(1, 21):
        still = _still(spec, ranks=(2, 4, 8), round_=round_)
        adapter, _ = aggregator.finish(fold_all(aggregator, spec, still), adapter)
    assert relative_error(spec, adapter, start) <= 1e-5
    for at, before in start.items():
        assert _energy_above(product(adapter, *at), 2) == pytest.approx(_energy_above(before, 2), rel=1e-5)


def test_duplicates_and_overlaps_are_refused_by_key():
    rng, spec, aggregator = np.random.default_rng(8), make_spec(), delta_stack()
    updates = make_cohort(spec, rng)
    partial = fold_all(aggregator, spec, updates[:2])
    with pytest.raises(UpdateRejected, match="device-1 for round 1 is already folded"):
        aggregator.fold(partial, updates[1])
    with pytest.raises(UpdateRejected, match=r"device-1 \(round 1\) counted on both sides"):
        aggregator.merge(partial, fold_all(aggregator, spec, updates[1:]))
    with pytest.raises(UpdateRejected, match="different adapters"):
        aggregator.merge(partial, aggregator.start(make_spec(rank=4)))


def test_the_bundle_keeps_no_reference_to_the_upload():
    rng, spec, aggregator = np.random.default_rng(9), make_spec(), delta_stack()
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng)
    expected, _ = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    partial = fold_all(aggregator, spec, updates)
    for update in updates:
        for value in update.tensors.values():
            value.fill(9)
    assert same_bits(aggregator.finish(partial, adapter)[0], expected)


def test_nobody_came_returns_an_equal_copy_in_the_same_basis():
    spec, aggregator = make_spec(), delta_stack()
    adapter = trained_adapter(spec, np.random.default_rng(10))
    after, report = aggregator.finish(aggregator.start(spec), adapter)
    assert same_bits(after, adapter) and report.weight == 0


def test_server_rank_is_four_times_the_largest():
    assert delta_stack().server_rank(16) == 64


def test_expand_writes_kept_rows_only():
    spec = make_spec()
    keep_set = KeepSet(heads=((0,), (1,)), channels=((1,), (2,)))
    full = expand(spec, keep_set, 0, "up", np.ones((1, 24)))
    assert full.sum() == 24 and full[1].all()


def _still(spec, *, ranks, round_):
    full, rng = KeepSet.full(spec.geometry), np.random.default_rng(0)
    updates = [make_update(spec, rng, f"d{rank}", rank=rank, keep_set=full) for rank in ranks]
    return [
        replace(u, round=round_, tensors={name: np.zeros_like(value) for name, value in u.tensors.items()})
        for u in updates
    ]


def _energy_above(matrix, rank):
    values = np.linalg.svd(matrix, compute_uv=False) ** 2
    return float(values[rank:].sum() / values.sum())
