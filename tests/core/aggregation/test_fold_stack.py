"""Folding a stack is folding its updates one by one, bit by bit, in any order and mix of the two."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.aggregation.sums.fixed_point import BLOCK_VALUES, add_biased_rows, unbias, weighted_integers
from fedcore.core.aggregation.table import AGGREGATORS, make_aggregator
from fedcore.core.contract.update import verify_update
from fedcore.core.contract.update_stack import UpdateStack, verify_stack
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.keep_set import KeepSet
from tests.core.aggregation.cohort import fold_all, make_spec, make_update, random_keep_set, same_bits, trained_adapter

NAMES = pytest.mark.parametrize("name", AGGREGATORS)
SEEDS = st.integers(0, 2**32 - 1)


def stacked(updates):
    """Stacks of those among `updates` that share rank and keep-set."""
    groups = defaultdict(list)
    for update in updates:
        groups[update.rank, update.keep_set.blob_id].append(update)
    return [
        UpdateStack(
            round=1,
            devices=tuple(each.device for each in group),
            weights=tuple(each.weight for each in group),
            rank=group[0].rank,
            keep_set=group[0].keep_set,
            tensors={name: np.stack([each.tensors[name] for each in group]) for name in group[0].tensors},
        )
        for group in groups.values()
    ]


def some_updates(spec, rng):
    kept = [KeepSet.full(spec.geometry), *(random_keep_set(spec, rng, sparsity=0.5) for _ in range(2))]
    updates = [
        make_update(
            spec, rng, f"d{number}", rank=int(rng.choice([2, 8])), keep_set=kept[int(rng.integers(3))], size=1e-6
        )
        for number in range(12)
    ]
    return [verify_update(each, spec) for each in updates]


@NAMES
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_a_stack_gives_the_bits_of_its_updates(name, seed):
    rng, spec = np.random.default_rng(seed), make_spec()
    adapter, updates = trained_adapter(spec, rng), some_updates(spec, rng)
    aggregator = make_aggregator(name, seed=3)
    plain, report = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    apart = [updates[index] for index in rng.permutation(12)]
    cut = int(rng.integers(13))
    work = [*apart[:cut], *(verify_stack(each, spec)[0] for each in stacked(apart[cut:]))]
    partial = aggregator.start(spec)
    for index in rng.permutation(len(work)):
        each = work[index]
        partial = (
            aggregator.fold_stack(partial, each) if isinstance(each, UpdateStack) else aggregator.fold(partial, each)
        )
    mixed, mixed_report = aggregator.finish(partial, adapter)
    assert same_bits(plain, mixed) and report == mixed_report


@NAMES
def test_a_refused_stack_leaves_the_sum_whole(name):
    rng, spec = np.random.default_rng(0), make_spec()
    adapter, updates = trained_adapter(spec, rng), some_updates(spec, rng)
    stacks = [verify_stack(each, spec)[0] for each in stacked(updates)]
    aggregator = make_aggregator(name, seed=3)
    partial = aggregator.start(spec, adapter)
    for each in stacks:
        partial = aggregator.fold_stack(partial, each)
    twice, heavy = stacks[0], replace(stacks[1], round=2, weights=(2**24,) * len(stacks[1]))
    light = replace(stacks[2], round=2, weights=(0,) * len(stacks[2]))
    for stack, words in ((twice, "already folded"), (heavy, "at most 16777216"), (light, "a weight of at least 1")):
        with pytest.raises(UpdateRejected, match=words):
            aggregator.fold_stack(partial, stack)
    with pytest.raises(UpdateRejected, match="already folded"):
        aggregator.fold_stack(partial, replace(twice, round=2, devices=("same",) * len(twice)))
    plain, _ = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    assert same_bits(plain, aggregator.finish(partial, adapter)[0])


@NAMES
def test_an_empty_stack_changes_nothing(name):
    rng, spec = np.random.default_rng(1), make_spec()
    adapter, updates = trained_adapter(spec, rng), some_updates(spec, rng)
    aggregator = make_aggregator(name)
    empty = verify_stack(stacked(updates)[0].select(()), spec)[0]
    after, report = aggregator.finish(aggregator.fold_stack(aggregator.start(spec), empty), adapter)
    assert same_bits(after, adapter) and (report.weight, report.updates) == (0, 0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (BLOCK_VALUES + 5, 3), (70, 1030)])
def test_rows_add_up_as_one_by_one(shape):
    rng = np.random.default_rng(shape[1])
    rows = (rng.standard_normal(shape) * 10.0 ** rng.uniform(-12, 1, shape)).clip(-63, 63).astype(np.float32)
    weights = rng.integers(1, 50, shape[0])
    total = np.zeros(shape[1], dtype=np.int64)
    add_biased_rows(total, rows, weights)
    unbias(total, int(weights.sum()))
    expected = sum(weighted_integers(row, int(weight)) for row, weight in zip(rows, weights, strict=True))
    np.testing.assert_array_equal(total, expected)


def test_the_largest_values_and_weights_do_not_overflow():
    rows = np.full((4, 2), np.nextafter(np.float32(64), np.float32(0)))
    rows[:, 1] *= -1
    total = np.zeros(2, dtype=np.int64)
    add_biased_rows(total, rows, np.full(4, 2**22))
    unbias(total, 2**24)
    assert total.tolist() == [2**63 - 2**39, -(2**63 - 2**39)]
