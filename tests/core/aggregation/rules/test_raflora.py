import numpy as np

from fedcore.core.aggregation.rules.raflora import mean_over_holders
from tests.core.aggregation.numbers import A_1, A_2, B_1, B_2, A, B, device_update, layer


def test_a_component_is_averaged_over_its_holders():
    new = mean_over_holders(layer())
    shared = 0.25 * B_1 @ A_1 + 0.75 * B_2[:, :1] @ A_2[:1]
    np.testing.assert_allclose(new.b @ new.a, shared + B_2[:, 1:] @ A_2[1:], atol=1e-12)


def test_a_component_nobody_held_stays():
    new = mean_over_holders(layer(device_update(B_1, A_1, 1.0)))
    np.testing.assert_allclose(new.b @ new.a, B_1 @ A_1 + B[:, 1:] @ A[1:], atol=1e-12)


def test_equal_ranks_are_flexlora():
    both = layer(device_update(B_2, A_2, 0.5), device_update(B, A, 0.5))
    new = mean_over_holders(both)
    np.testing.assert_allclose(new.b @ new.a, 0.5 * (B_2 @ A_2 + B @ A), atol=1e-12)
