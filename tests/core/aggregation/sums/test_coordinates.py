import numpy as np

from fedcore.core.aggregation.sums.coordinates import placement
from fedcore.core.model.keep_set import KeepSet
from tests.core.aggregation.cohort import make_spec

SPARSE = KeepSet(heads=((1,), (0,)), channels=((2, 5), (0, 1)))


def test_a_full_keep_set_needs_no_indices():
    spec = make_spec("gqa")
    for layer, module in spec.modules():
        at = placement(spec, KeepSet.full(spec.geometry), layer, module)
        assert at.a_columns is None and at.b_rows is None


def test_output_side_modules_keep_rows_of_b():
    at = placement(make_spec("bert"), SPARSE, 0, "up")
    assert at.b_rows is not None and at.b_rows.tolist() == [2, 5] and at.a_columns is None


def test_input_side_modules_keep_columns_of_a():
    at = placement(make_spec("bert"), SPARSE, 1, "down")
    assert at.a_columns is not None and at.a_columns.tolist() == [0, 1] and at.b_rows is None


def test_a_grouped_unit_takes_its_query_heads_along():
    spec = make_spec("gqa")  # 9 query heads of 4 rows, 3 key/value heads
    queries, keys = placement(spec, SPARSE, 0, "q").b_rows, placement(spec, SPARSE, 0, "k").b_rows
    assert np.array_equal(queries, np.arange(12, 24)) and np.array_equal(keys, np.arange(4, 8))


def test_the_only_key_value_head_is_never_cut():
    at = placement(make_spec("mqa"), SPARSE, 0, "k")
    assert at.b_rows is None and at.a_columns is None
    assert placement(make_spec("mqa"), SPARSE, 0, "q").b_rows is not None
