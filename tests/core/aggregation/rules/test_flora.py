from dataclasses import replace

import numpy as np

from fedcore.core.aggregation.bundle.returned import returned_factors
from fedcore.core.aggregation.rules.flora import flora, stacked_into_base
from fedcore.core.model.adapter import initial_adapter
from fedcore.core.model.base_shift import after_step, shift_of
from tests.core.aggregation.cohort import dense_products, fold_all, make_cohort, make_spec, product, same_bits
from tests.core.aggregation.numbers import A_2, B_2, SHARES, A, B, device_update, layer


def test_the_step_is_the_mean_of_products_as_a_stack():
    handed = replace(layer(), b=np.zeros_like(B))  # so that the increments end at B_k - B
    ended = [returned_factors(handed.b, handed.a, each) for each in handed.updates]
    new = stacked_into_base(handed)
    b, a = new.step
    assert b.shape == (3, 3) and a.shape == (3, 2), "ranks 1 and 2"
    np.testing.assert_allclose(b @ a, sum(p * b_k @ a_k for p, (b_k, a_k) in zip(SHARES, ended, strict=True)))
    assert not new.b.any() and new.a.all() and not np.array_equal(new.a, A)


def test_a_lone_device_moves_the_base_by_what_it_learned():
    handed = replace(layer(device_update(B + B_2, A_2, 1.0)), b=np.zeros_like(B))
    b, a = stacked_into_base(handed).step
    np.testing.assert_allclose(b @ a, B_2 @ A_2, atol=1e-6)


def test_over_rounds_the_base_holds_the_dense_mean_for_any_ranks_and_masks():
    rng, spec, aggregator = np.random.default_rng(0), make_spec("gqa"), flora(seed=3)
    tensors = initial_adapter(spec, rng)
    wanted = {at: np.zeros(spec.geometry.shape(at[1])) for at in spec.modules()}
    for number in (1, 2):
        updates = [replace(each, round=number) for each in make_cohort(spec, rng)]
        moved = dense_products(spec, tensors, updates)
        wanted = {at: wanted[at] + moved[at] for at in wanted}
        before = shift_of(tensors)
        tensors, report = aggregator.finish(fold_all(aggregator, spec, updates), tensors)
        assert same_bits(after_step(before, report.step), shift_of(tensors)), "devices add what the server added"
        for at, value in wanted.items():
            np.testing.assert_allclose(tensors[f"layers.{at[0]}.{at[1]}.W"], value, atol=1e-5)
            assert not product(tensors, *at).any()


def test_fresh_factors_follow_seed_and_round():
    spec = make_spec()

    def drawn(seed, number):
        updates = [replace(each, round=number) for each in make_cohort(spec, np.random.default_rng(0))]
        adapter, aggregator = initial_adapter(spec, np.random.default_rng(1)), flora(seed=seed)
        return aggregator.finish(fold_all(aggregator, spec, updates), adapter)[0]["layers.0.q.A"].tobytes()

    assert drawn(0, 1) == drawn(0, 1)
    assert len({drawn(0, 1), drawn(1, 1), drawn(0, 2)}) == 3
