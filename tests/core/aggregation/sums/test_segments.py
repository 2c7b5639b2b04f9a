import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.aggregation.sums.fixed_point import unbias, weighted_integers
from fedcore.core.aggregation.sums.segments import add_biased, empty_segments
from fedcore.core.errors import UpdateRejected


def folded(shapes, updates, *, verified=False):
    segments = empty_segments(shapes)
    for tensors, weight in updates:
        add_biased(segments, tensors, weight, verified=verified)
    for segment in segments:
        unbias(segment.sums, sum(weight for _, weight in updates))
    return {name: total for segment in segments for name, total in segment.tensors()}


def test_small_tensors_share_an_array_and_large_ones_have_their_own():
    segments = empty_segments({"a": (3, 4), "b": (), "large": (2000, 1000), "c": (5,), "d": (1 << 20,)})
    assert [list(segment.shapes) for segment in segments] == [["a", "b"], ["large"], ["c"], ["d"]]
    assert [segment.sums.size for segment in segments] == [13, 2_000_000, 5, 1 << 20]


def test_no_tensors_need_no_array():
    assert empty_segments({}) == []


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 70_000), min_size=1, max_size=5), seed=st.integers(0, 2**32 - 1))
def test_equals_the_sum_of_weighted_integers(sizes, seed):
    rng = np.random.default_rng(seed)
    shapes = {f"t{i}": (size,) for i, size in enumerate(sizes)}
    updates = [
        ({name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}, weight)
        for weight in (1, 5, 2**20)
    ]
    totals = folded(shapes, updates)
    for name in shapes:
        assert np.array_equal(totals[name], sum(weighted_integers(each[name], weight) for each, weight in updates))


def test_the_largest_values_at_the_largest_weight():
    largest = np.nextafter(np.float32(64), np.float32(0))
    tensors = {"x": np.array([largest, -largest, 0.0], dtype=np.float32)}
    totals = folded({"x": (3,)}, [(tensors, 2**23), (tensors, 2**23)])
    assert totals["x"].tolist() == [2**63 - 2**39, -(2**63) + 2**39, 0]


def test_strided_tensors_are_read_in_order():
    value = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert np.array_equal(folded({"x": (4, 3)}, [({"x": value}, 1)])["x"], weighted_integers(value, 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 64.0])
def test_values_are_looked_at_unless_known(bad):
    tensors = {"x": np.array([0.0, bad], dtype=np.float32)}
    with pytest.raises(UpdateRejected, match="finite increments below 64"):
        folded({"x": (2,)}, [(tensors, 1)])
    assert folded({"x": (2,)}, [(tensors, 1)], verified=True)["x"][0] == 0


def test_another_shape_is_refused():
    with pytest.raises(UpdateRejected, match=r"x has shape \(3,\), expected \(2,\)"):
        folded({"x": (2,)}, [({"x": np.zeros(3, dtype=np.float32)}, 1)])
