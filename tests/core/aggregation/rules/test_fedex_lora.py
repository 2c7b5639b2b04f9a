import numpy as np

from fedcore.core.aggregation.rules.fedex_lora import fedex_lora, mean_and_residual
from fedcore.core.model.base_shift import after_step, shift_of
from fedcore.core.model.keep_set import KeepSet
from tests.core.aggregation.cohort import (
    dense_products,
    fold_all,
    make_spec,
    make_update,
    product,
    same_bits,
    trained_adapter,
)
from tests.core.aggregation.numbers import A_2, B_2, A, B, device_update, layer

EQUAL = device_update(B_2, A_2, 0.5), device_update(B, 3 * A, 0.5)


def test_factors_are_averaged_and_the_base_takes_the_residual():
    new = mean_and_residual(layer(*EQUAL))
    np.testing.assert_allclose(new.b, 0.5 * (B_2 + B))
    np.testing.assert_allclose(new.a, 0.5 * (A_2 + 3 * A))
    b, a = new.step
    mean = 0.5 * B_2 @ A_2 + 1.5 * B @ A
    np.testing.assert_allclose(b @ a, mean - new.b @ new.a, atol=1e-12)
    assert np.abs(b @ a).max() > 0.1 and a.shape[0] == 6, "rank: the devices', and that of the mean"


def test_a_server_rate_goes_part_of_the_way_exactly():
    new = mean_and_residual(layer(*EQUAL, server_lr=0.5))
    b, a = new.step
    wanted = 0.5 * B @ A + 0.5 * (0.5 * B_2 @ A_2 + 1.5 * B @ A)
    np.testing.assert_allclose(b @ a + new.b @ new.a, wanted, atol=1e-12)


def test_base_and_adapter_together_are_the_dense_mean():
    rng, spec, aggregator = np.random.default_rng(0), make_spec(), fedex_lora()
    tensors, full = trained_adapter(spec, rng), KeepSet.full(spec.geometry)
    wanted = {at: product(tensors, *at) for at in spec.modules()}
    for _ in range(2):
        updates = [make_update(spec, rng, f"d{i}", rank=8, keep_set=full) for i in range(3)]
        before = shift_of(tensors)
        held = {at: product(tensors, *at) for at in wanted}
        moved = dense_products(spec, tensors, updates)
        wanted = {at: wanted[at] - held[at] + moved[at] for at in wanted}
        tensors, report = aggregator.finish(fold_all(aggregator, spec, updates), tensors)
        assert same_bits(after_step(before, report.step), shift_of(tensors))
        for at, value in wanted.items():
            together = tensors[f"layers.{at[0]}.{at[1]}.W"] + product(tensors, *at)
            np.testing.assert_allclose(together, value, atol=1e-5)
