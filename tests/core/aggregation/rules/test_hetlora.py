import numpy as np
import pytest

from fedcore.core.aggregation.rules.hetlora import hetlora, norm_weighted_mean, product_norm
from tests.core.aggregation.numbers import A_1, A_2, B_1, B_2, A, B, device_update, layer


def test_factors_are_padded_and_weighted_by_the_norm_of_their_product():
    norms = [np.linalg.norm(B_1 @ A_1), np.linalg.norm(B_2 @ A_2)]
    q = np.array(norms) / sum(norms)
    new = norm_weighted_mean(layer())
    padded_b, padded_a = np.pad(B_1, ((0, 0), (0, 1))), np.pad(A_1, ((0, 1), (0, 0)))
    np.testing.assert_allclose(new.b, q[0] * padded_b + q[1] * B_2, atol=1e-12)
    np.testing.assert_allclose(new.a, q[0] * padded_a + q[1] * A_2, atol=1e-12)


def test_norms_come_from_the_factors():
    assert product_norm(B_1, A_1) == pytest.approx(np.sqrt(10), rel=1e-12)  # [[2, 2], [0, 0], [1, 1]]


def test_without_any_learning_examples_weigh():
    still = layer(device_update(0 * B_1, A_1, 0.25), device_update(0 * B_2, A_2, 0.75))
    np.testing.assert_allclose(norm_weighted_mean(still).a[:1], 0.25 * A_1 + 0.75 * A_2[:1], atol=1e-12)


def test_a_server_rate_goes_part_of_the_way():
    whole, half = norm_weighted_mean(layer()), norm_weighted_mean(layer(server_lr=0.5))
    np.testing.assert_allclose(half.b, 0.5 * B + 0.5 * whole.b, atol=1e-12)
    np.testing.assert_allclose(half.a, 0.5 * A + 0.5 * whole.a, atol=1e-12)


def test_coordinates_persist():
    assert hetlora().server_rank(8) == 8
