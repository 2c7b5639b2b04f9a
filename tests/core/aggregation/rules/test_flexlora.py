import numpy as np

from fedcore.core.aggregation.rules.flexlora import flexlora, mean_of_products
from tests.core.aggregation.numbers import A_1, A_2, B_1, B_2, layer

MEAN = 0.25 * B_1 @ A_1 + 0.75 * B_2 @ A_2


def test_it_holds_the_mean_of_the_returned_products():
    new = mean_of_products(layer())
    assert np.array_equal(MEAN, [[2.75, 2.0], [1.5, 0.0], [1.0, 0.25]])
    np.testing.assert_allclose(new.b @ new.a, MEAN, atol=1e-12)
    assert new.dropped <= 1e-24


def test_singular_values_are_bs_and_a_prefix_is_the_best_approximation():
    new = mean_of_products(layer())
    u, s, vt = np.linalg.svd(MEAN)
    np.testing.assert_allclose(np.linalg.norm(new.b, axis=0), s, atol=1e-12)
    np.testing.assert_allclose(new.a @ new.a.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(new.b[:, :1] @ new.a[:1], s[0] * np.outer(u[:, 0], vt[0]), atol=1e-12)


def test_what_it_needs_of_the_server():
    aggregator = flexlora()
    assert aggregator.server_rank(8) == 8 and not aggregator.has_dense_form
