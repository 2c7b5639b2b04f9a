from dataclasses import replace

import numpy as np
import pytest

from fedcore.core.aggregation.sums.fixed_point import weighted_integers
from fedcore.core.aggregation.sums.rank_groups import RankGroup, place, place_update
from fedcore.core.contract.update import verify_update
from fedcore.core.errors import UpdateRejected
from tests.core.aggregation.cohort import make_spec, make_update, random_keep_set

FAMILIES = pytest.mark.parametrize("family", ["bert", "gqa", "mqa"])


def sums_of(group):
    return {name: total.copy() for segment in group.exact() for name, total in segment.tensors()}


def some_update(spec, *, rank=4, sparsity=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return make_update(spec, rng, f"d{seed}", rank=rank, keep_set=random_keep_set(spec, rng, sparsity=sparsity))


@FAMILIES
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
@pytest.mark.parametrize("rank", [3, 8])
def test_placed_at_once_or_by_way_of_a_group(family, rank, sparsity):
    spec = make_spec(family)
    update = some_update(spec, rank=rank, sparsity=sparsity)
    group = RankGroup(rank=rank, keep_set=update.keep_set)
    one, other = RankGroup.whole(spec), RankGroup.whole(spec)
    group.add(update, spec)
    place(group, one, spec)
    place_update(update, other, spec)
    left, right = sums_of(one), sums_of(other)
    assert all(np.array_equal(left[name], right[name]) for name in spec.shapes())
    assert group.segments == []
    moved = sum(int(np.count_nonzero(total)) for total in left.values())
    assert moved == sum(int(np.count_nonzero(weighted_integers(v, 1))) for v in update.tensors.values())


def test_bias_goes_once_and_adding_goes_on():
    spec = make_spec()
    update, group = some_update(spec, rank=8, sparsity=0.0), RankGroup.whole(spec)
    group.add(update, spec)
    first = sums_of(group)
    assert np.array_equal(first["layers.0.q.A"], weighted_integers(update.tensors["layers.0.q.A"], update.weight))
    group.add(update, spec)
    assert all(np.array_equal(total, 2 * first[name]) for name, total in sums_of(group).items())


def test_joining_adds_biased_and_exact_sums_alike():
    spec = make_spec()
    update, left, right = some_update(spec, rank=8, sparsity=0.0), RankGroup.whole(spec), RankGroup.whole(spec)
    for group in (left, right):
        group.add(update, spec)
    right.exact()
    left.join(right, spec)
    left.join(RankGroup.whole(spec), spec)
    alone = RankGroup.whole(spec)
    alone.add(update, spec)
    expected = sums_of(alone)
    assert all(np.array_equal(total, 2 * expected[name]) for name, total in sums_of(left).items())


def test_an_untouched_group_holds_no_arrays():
    assert RankGroup.whole(make_spec()).segments == [] and RankGroup.whole(make_spec()).exact() == []


def test_what_was_verified_is_relied_upon():
    spec = make_spec()
    update = verify_update(some_update(spec), spec)
    update.tensors["layers.0.q.A"][0, 0] = 100.0  # against the promise not to change it
    RankGroup(rank=4, keep_set=update.keep_set).add(update, spec)
    with pytest.raises(UpdateRejected, match="below 64"):
        RankGroup(rank=4, keep_set=update.keep_set).add(replace(update, verified=False), spec)
