"""The same bits for any order, tree, split, retry and transport: what semantics.md promises, over random trees."""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.aggregation.bundle.densify import dense_bytes
from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.aggregation.sums.fixed_point import MAX_TOTAL_WEIGHT, MEAN_ERROR_BOUND, SCALE
from fedcore.core.aggregation.table import AGGREGATORS, make_aggregator
from fedcore.core.contract.update import verify_update
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.keep_set import KeepSet
from tests.core.aggregation.cohort import fold_all, make_spec, make_update, random_keep_set, same_bits, trained_adapter

SEEDS = st.integers(0, 2**32 - 1)
FAMILIES = st.sampled_from(["bert", "gqa", "mqa"])
LARGEST = float(np.nextafter(np.float32(64), np.float32(0)))


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A spec, its adapter and a cohort in which some devices share rank and keep-set."""

    spec: object
    adapter: dict
    updates: list


def make_fleet(seed, *, family="bert", devices=8):
    rng, spec = np.random.default_rng(seed), make_spec(family)
    keep_sets = [KeepSet.full(spec.geometry), *(random_keep_set(spec, rng, sparsity=s) for s in (0.3, 0.5, 0.7))]
    updates = []
    for index in range(devices):
        rank, keep_set = int(rng.choice([2, 4, 8])), keep_sets[int(rng.integers(4))]
        update = make_update(spec, rng, f"d{index}", rank=rank, keep_set=keep_set, size=0.05)
        updates.append(verify_update(update, spec) if rng.integers(2) else update)
    return Fleet(spec=spec, adapter=trained_adapter(spec, rng), updates=updates)


def grown(aggregator, fleet, updates, rng, *, adapter):
    """Aggregate in a random tree of any depth: every node folds some itself, merges the rest, and may be sent."""
    partial = aggregator.start(fleet.spec, adapter)
    order = [updates[i] for i in rng.permutation(len(updates))]
    here = int(rng.integers(len(order) + 1)) if len(order) > 1 else len(order)
    children = np.array_split(np.arange(here, len(order)), int(rng.integers(1, 4)))
    jobs = [[order[i]] for i in range(here)] + [[order[i] for i in child] for child in children if len(child)]
    for index in rng.permutation(len(jobs)):
        job = jobs[index]
        if len(job) == 1:
            partial = aggregator.fold(partial, job[0])
        else:
            child = sent(aggregator, fleet, grown(aggregator, fleet, job, rng, adapter=adapter), rng)
            partial = aggregator.merge(*((partial, child) if rng.integers(2) else (child, partial)))
    return partial


def sent(aggregator, fleet, partial, rng):
    """Pass a partial on, in memory or over the wire, and over the wire perhaps through one that only passes it on."""
    for _ in range(int(rng.integers(3))):
        blob = b"".join(aggregator.pack(partial))
        assert len(blob) <= aggregator.packed_bytes_bound(fleet.spec, len(partial.members.keys))
        partial = aggregator.unpack(blob, fleet.spec, fleet.adapter if rng.integers(2) else None)
        assert b"".join(aggregator.pack(partial)) == blob
    return partial


def finished(aggregator, fleet, partial):
    return aggregator.finish(partial, fleet.adapter)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, family=FAMILIES, group_bytes=st.sampled_from([0, 32 << 20]))
def test_factor_mean_over_any_tree(seed, family, group_bytes):
    rng, fleet = np.random.default_rng(seed), make_fleet(seed, family=family)
    flat, report = finished(FactorMean(), fleet, fold_all(FactorMean(), fleet.spec, fleet.updates))
    aggregator = FactorMean(group_bytes=group_bytes)
    tree = grown(aggregator, fleet, fleet.updates, rng, adapter=None)
    after, tree_report = finished(aggregator, fleet, sent(aggregator, fleet, tree, rng))
    assert same_bits(flat, after) and report == tree_report


@pytest.mark.parametrize("name", [name for name in AGGREGATORS if make_aggregator(name).kind == "bundling"])
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, family=FAMILIES, devices=st.sampled_from([3, 6, 14]), known=st.booleans())
def test_bundles_over_any_tree_below_and_above_the_limit(name, seed, family, devices, known):
    rng, fleet = np.random.default_rng(seed), make_fleet(seed, family=family, devices=devices)
    aggregator = make_aggregator(name)
    flat_partial = aggregator.start(fleet.spec, fleet.adapter)
    for update in fleet.updates:
        flat_partial = aggregator.fold(flat_partial, update)
    large = flat_partial.bytes_stacked >= dense_bytes(fleet.spec)
    assert bool(flat_partial.dense) == (large and aggregator.has_dense_form)
    assert aggregator.has_dense_form or len(flat_partial.updates) == devices
    flat, report = finished(aggregator, fleet, flat_partial)
    # a tier may lack the adapter: the root turns dense what no tier below did
    tree = grown(aggregator, fleet, fleet.updates, rng, adapter=fleet.adapter if known else None)
    after, tree_report = finished(aggregator, fleet, tree)
    assert same_bits(flat, after) and report == tree_report


@pytest.mark.parametrize("name", AGGREGATORS)
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_retries_and_refolds_count_once(name, seed):
    rng, fleet, aggregator = np.random.default_rng(seed), make_fleet(seed), make_aggregator(name)
    adapter, updates = fleet.adapter, fleet.updates
    cut, shared = int(rng.integers(1, len(updates))), int(rng.integers(0, len(updates)))
    root = grown(aggregator, fleet, updates[:cut], rng, adapter=adapter)
    for update in updates[:cut]:
        with pytest.raises(UpdateRejected, match="already folded"):
            aggregator.fold(root, update)
    edge = [*updates[cut:], *([updates[shared]] if shared < cut else [])]
    late = sent(aggregator, fleet, grown(aggregator, fleet, edge, rng, adapter=adapter), rng)
    if shared < cut:
        with pytest.raises(UpdateRejected, match=rf"overlap: d{shared} \(round 1\) counted on both sides"):
            aggregator.merge(root, late)
        without = [update for update in edge if update.key not in root.members.keys]
        late = sent(aggregator, fleet, grown(aggregator, fleet, without, rng, adapter=adapter), rng)
    root = aggregator.merge(root, late)
    with pytest.raises(UpdateRejected, match="overlap"):
        aggregator.merge(root, grown(aggregator, fleet, updates[:1], rng, adapter=adapter))
    flat = grown(aggregator, fleet, updates, rng, adapter=adapter)
    assert same_bits(finished(aggregator, fleet, root)[0], finished(aggregator, fleet, flat)[0])


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, server_lr=st.sampled_from([1.0, 0.3]))
def test_factor_mean_stays_within_the_stated_error(seed, server_lr):
    fleet, aggregator = make_fleet(seed), FactorMean(server_lr=server_lr)
    after, _ = finished(aggregator, fleet, fold_all(aggregator, fleet.spec, fleet.updates))
    total = sum(update.weight for update in fleet.updates)
    name, at = "layers.0.q.A", (1, 2)  # row 1 of A: within every rank; q's A is never cut
    exact = sum(Fraction(float(u.tensors[name][at])) * u.weight for u in fleet.updates) / total
    wanted = Fraction(float(fleet.adapter[name][at])) + Fraction(server_lr) * exact
    rounding = Fraction(float(np.spacing(np.abs(after[name][at])))) / 2 + Fraction(2.0**-45)  # to float32, by float64
    assert abs(Fraction(float(after[name][at])) - wanted) <= Fraction(MEAN_ERROR_BOUND) * 1 + rounding


@pytest.mark.parametrize("weights", [(2**24,), (2**23, 2**23), (1, 2**24 - 3, 2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_no_overflow_at_the_largest_values_and_weight(weights, sign):
    spec, aggregator = make_spec(rank=2), FactorMean()
    full, rng = KeepSet.full(spec.geometry), np.random.default_rng(0)
    partial = aggregator.start(spec)
    for index, weight in enumerate(weights):
        update = replace(make_update(spec, rng, f"d{index}", rank=2, keep_set=full), weight=weight)
        extreme = {
            name: np.full(value.shape, sign * LARGEST, dtype=np.float32) for name, value in update.tensors.items()
        }
        folded = aggregator.fold(aggregator.start(spec), verify_update(replace(update, tensors=extreme), spec))
        partial = aggregator.merge(partial, aggregator.unpack(b"".join(aggregator.pack(folded)), spec))
    assert partial.members.weight == MAX_TOTAL_WEIGHT
    sums = {name: total for segment in partial.whole.exact() for name, total in segment.tensors()}
    assert all(np.all(total == sign * MAX_TOTAL_WEIGHT * int(LARGEST * SCALE)) for total in sums.values())
    zeros = {name: np.zeros(shape, dtype=np.float32) for name, shape in spec.shapes().items()}
    after, _ = aggregator.finish(partial, zeros)
    assert all(np.all(value == np.float32(sign * LARGEST)) for value in after.values())
