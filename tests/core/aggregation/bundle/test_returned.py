import numpy as np

from fedcore.core.aggregation.bundle.returned import returned_factors, returned_product, stacked_mean
from fedcore.core.aggregation.sums.placing import Placement
from tests.core.aggregation.numbers import A_1, A_2, B_1, B_2, SHARES, A, B, device_update


def test_increments_give_back_the_factors_a_device_ended_with():
    for b_k, a_k in ((B_1, A_1), (B_2, A_2)):
        b, a = returned_factors(B, A, device_update(b_k, a_k, 0.5))
        assert np.array_equal(b, b_k) and np.array_equal(a, a_k)


def test_rows_and_columns_a_device_does_not_hold_stay_as_handed_out():
    b, a = returned_factors(B, A, device_update(B_1[[0, 2]], A_1, 0.5, at=Placement(b_rows=np.array([0, 2]))))
    assert np.array_equal(b, [[2.0], [0.0], [1.0]]) and b[1, 0] == B[1, 0]
    narrow = device_update(B_1, A[:1], 0.5)
    columns = Placement(a_columns=np.array([1]))
    b, a = returned_factors(B, A, type(narrow)(share=0.5, da=np.full((1, 1), 3, np.float32), db=narrow.db, at=columns))
    assert np.array_equal(a, [[1.0, 5.0]])


def test_the_stack_is_the_mean_of_products():
    returned = [(B_1, A_1), (B_2, A_2)]
    b, a = stacked_mean(B, A, returned, SHARES, server_lr=1.0)
    assert a.shape == (3, 2)
    np.testing.assert_allclose(b @ a, 0.25 * B_1 @ A_1 + 0.75 * B_2 @ A_2, atol=1e-15)


def test_a_server_rate_goes_part_of_the_way():
    returned = [(B_1, A_1), (B_2, A_2)]
    b, a = stacked_mean(B, A, returned, SHARES, server_lr=0.5)
    np.testing.assert_allclose(b @ a, 0.5 * B @ A + 0.5 * (0.25 * B_1 @ A_1 + 0.75 * B_2 @ A_2), atol=1e-15)


def test_a_product_moves_only_where_the_device_holds_it():
    rows = Placement(b_rows=np.array([0, 2]))
    b, a = returned_product(B, A, device_update(B_2[[0, 2]], A_2, 0.5, at=rows))
    wanted = B_2 @ A_2
    wanted[1] = (B @ A)[1]
    np.testing.assert_allclose(b @ a, wanted)
    narrow = device_update(B_2, A_2, 0.5)
    columns = type(narrow)(share=0.5, da=narrow.da[:, 1:], db=narrow.db, at=Placement(a_columns=np.array([1])))
    b, a = returned_product(B, A, columns)
    np.testing.assert_allclose(b @ a, np.stack([(B @ A)[:, 0], (B_2 @ A_2)[:, 1]], axis=1))
    assert returned_product(B, A, narrow)[0].shape == (3, 2), "one pair without a mask"
