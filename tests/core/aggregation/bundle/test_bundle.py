from dataclasses import replace

import numpy as np
import pytest

from fedcore.core.aggregation.bundle.bundle import join_bundles, turn_dense_if_due, with_adapter
from fedcore.core.aggregation.bundle.densify import dense_bytes
from fedcore.core.aggregation.rules.delta_stack import delta_stack
from fedcore.core.codec.cast import from_bf16, to_bf16
from fedcore.core.errors import UpdateRejected
from tests.core.aggregation.cohort import (
    dense_products,
    fold_all,
    make_cohort,
    make_spec,
    product,
    same_bits,
    trained_adapter,
)

STACK = delta_stack()


def case(devices, *, rank=8, spec_rank=8):
    rng, spec = np.random.default_rng(0), make_spec(rank=spec_rank)
    return spec, trained_adapter(spec, rng), make_cohort(spec, rng, ranks=(rank,) * devices)


def folded(spec, adapter, updates):
    partial = STACK.start(spec, adapter)
    for update in updates:
        partial = STACK.fold(partial, update)
    return partial


def test_it_turns_dense_exactly_when_its_bytes_reach_the_dense_ones():
    spec, adapter, updates = case(8)
    partial, forms = STACK.start(spec, adapter), []
    for update in updates:
        partial = STACK.fold(partial, update)
        held = sum(value.nbytes for bundled in partial.updates.values() for value in bundled.tensors.values())
        assert held < dense_bytes(spec)
        forms.append((partial.bytes_stacked >= dense_bytes(spec), bool(partial.dense), bool(partial.updates)))
    assert set(forms) == {(False, False, True), (True, True, False)}


def test_without_the_adapter_it_stays_stacked_until_the_end():
    spec, adapter, updates = case(8)
    partial = fold_all(STACK, spec, updates)
    assert len(partial.updates) == 8 and not partial.dense and turn_dense_if_due(partial) is partial
    assert same_bits(STACK.finish(partial, adapter)[0], STACK.finish(folded(spec, adapter, updates), adapter)[0])


def test_the_dense_form_equals_the_dense_formula():
    spec, adapter, updates = case(8, spec_rank=36)
    aggregator = delta_stack(server_lr=0.7)
    partial = folded(spec, adapter, updates)
    assert partial.dense
    after, report = aggregator.finish(partial, adapter)
    for at, wanted in dense_products(spec, adapter, updates, server_lr=0.7).items():
        assert np.linalg.norm(product(after, *at) - wanted) <= 1e-6 * np.linalg.norm(wanted)
    assert report.updates == 8 and report.dropped_energy <= 1e-12


def test_stacks_and_dense_sums_join():
    spec, adapter, updates = case(9)
    dense, few = folded(spec, adapter, updates[:8]), folded(spec, None, updates[8:])
    assert dense.dense and few.updates
    both = join_bundles(few, dense)
    assert both.dense and not both.updates and len(both.members.keys) == 9
    assert same_bits(STACK.finish(both, adapter)[0], STACK.finish(folded(spec, adapter, updates), adapter)[0])


def test_stacks_beside_dense_sums_travel_and_finish_as_they_are():
    spec, adapter, updates = case(10)
    dense = STACK.unpack(b"".join(STACK.pack(folded(spec, adapter, updates[:8]))), spec)
    both = join_bundles(folded(spec, None, updates[8:]), dense)
    assert both.dense and len(both.updates) == 2, "no tier knew the adapter"
    arrived = STACK.unpack(b"".join(STACK.pack(both)), spec)
    assert same_bits(STACK.finish(arrived, adapter)[0], STACK.finish(folded(spec, adapter, updates), adapter)[0])


def test_a_refused_join_leaves_both_sides_whole():
    spec, adapter, updates = case(3)
    left, right = folded(spec, adapter, updates[:2]), folded(spec, adapter, updates[1:])
    with pytest.raises(UpdateRejected, match=r"device-1 \(round 1\)"):
        join_bundles(left, right)
    wild = make_wild(updates[2])
    with pytest.raises(UpdateRejected, match="device-2 for round 1: its product"):
        join_bundles(left, fold_all(STACK, spec, [wild]))
    assert same_bits(STACK.finish(left, adapter)[0], STACK.finish(folded(spec, adapter, updates[:2]), adapter)[0])


def test_a_product_too_large_is_refused_before_anything_is_counted():
    spec, adapter, updates = case(2)
    partial = folded(spec, adapter, updates[:1])
    wild = make_wild(updates[1])
    for refuse in (STACK.check, STACK.fold):
        with pytest.raises(UpdateRejected, match=r"its product at layers\.0\.q moved by"):
            refuse(partial, wild)
    STACK.check(STACK.start(spec), wild)  # cannot be known without the adapter
    with pytest.raises(UpdateRejected, match="its product"):
        with_adapter(fold_all(STACK, spec, [wild]), adapter)
    with pytest.raises(UpdateRejected, match="its product"):
        STACK.unpack(b"".join(STACK.pack(fold_all(STACK, spec, [wild]))), spec, adapter)
    STACK.check(partial, updates[1])
    whole = STACK.finish(STACK.fold(partial, updates[1]), adapter)[0]
    assert same_bits(whole, STACK.finish(folded(spec, adapter, updates), adapter)[0])


def first_ranks(adapter, rank):
    """The adapter as known to a tier of devices that hold at most `rank`."""
    cut = {".A": lambda value: value[:rank], ".B": lambda value: value[:, :rank]}
    return {name: cut.get(name[-2:], lambda value: value)(value) for name, value in adapter.items()}


def test_who_knows_the_first_ranks_alone_leaves_wider_leaves_to_others():
    rng, spec = np.random.default_rng(1), make_spec()
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng, ranks=(2,) * 4 + (8,) * 10)
    whole = folded(spec, adapter, updates)
    narrow = folded(spec, first_ranks(adapter, 2), updates)
    assert whole.dense and len(narrow.updates) == 14 and not narrow.dense
    learned = join_bundles(STACK.start(spec, adapter), folded(spec, first_ranks(adapter, 2), updates))
    assert learned.dense and not learned.updates, "with all ranks known it has_dense_form"
    expected = STACK.finish(whole, adapter)[0]
    assert same_bits(STACK.finish(narrow, adapter)[0], expected)
    assert same_bits(STACK.finish(learned, adapter)[0], expected)


def test_who_knows_all_the_ranks_there_are_settles():
    rng, spec = np.random.default_rng(2), make_spec()
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng, ranks=(2,) * 40)
    narrow = folded(spec, first_ranks(adapter, 2), updates)
    assert narrow.dense and not narrow.updates
    assert same_bits(STACK.finish(narrow, adapter)[0], STACK.finish(folded(spec, adapter, updates), adapter)[0])


def test_a_wide_product_is_judged_once_its_ranks_are_known():
    spec, adapter, updates = case(2)
    narrow, wild = first_ranks(adapter, 2), make_wild(updates[1])
    partial = STACK.fold(STACK.start(spec, narrow), wild)
    with pytest.raises(UpdateRejected, match="its product"):
        join_bundles(STACK.start(spec, adapter), partial)


def test_dense_sums_keep_to_the_adapter_that_was_handed_out():
    """The coordinator goes on from unrounded factors; what devices moved began at the rounded ones."""
    spec, exact, updates = case(8, spec_rank=36)
    rounded = {name: from_bf16(to_bf16(value)) for name, value in exact.items()}
    after, _ = STACK.finish(folded(spec, rounded, updates), exact)
    for at, moved in dense_products(spec, rounded, updates).items():
        wanted = product(exact, *at) + moved - product(rounded, *at)
        assert np.linalg.norm(product(after, *at) - wanted) <= 1e-6 * np.linalg.norm(wanted)


def make_wild(update):
    tensors = {name: np.full_like(value, 30.0) for name, value in update.tensors.items()}
    return replace(update, tensors=tensors)
