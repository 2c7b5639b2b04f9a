import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from fedcore.core.aggregation.sums.fixed_point import MAX_INTEGER
from fedcore.core.aggregation.sums.narrow_sums import NarrowSums, accumulator, add_sums, outlines_of, plane, width_of
from fedcore.core.codec.container import opening, unpack
from fedcore.core.errors import UpdateRejected

EDGES = [0, 1, -1, 2**31 - 1, -(2**31), 2**31, 2**39 - 1, -(2**39), 2**39, 2**47 - 1, -(2**47), 2**47, -(2**63) + 2**39]


def packed(sums):
    outlines, parts = {}, []
    for name, total in sums.items():
        mine = outlines_of(name, total.shape, width_of(total))
        outlines |= mine
        parts += [bytes(block) for wire, each in mine.items() for block in plane(total, wire, each.tag)]
    return opening(outlines, {}) + b"".join(parts)


def received(sums, *, weight=2**24, shapes=None):
    shapes = shapes or {name: total.shape for name, total in sums.items()}
    return NarrowSums(unpack(packed(sums))[0], shapes, weight=weight)


@pytest.mark.parametrize(
    ("value", "width"),
    [
        (0, 4),
        (2**31 - 1, 4),
        (-(2**31), 4),
        (2**31, 5),
        (-(2**31) - 1, 5),
        (2**39 - 1, 5),
        (-(2**39), 5),
        (2**39, 6),
        (-(2**47), 6),
        (2**47, 8),
        (-(2**63), 8),
    ],
)
def test_the_fewest_bytes_that_hold_it(value, width):
    assert width_of(np.array([0, value])) == width


def test_nothing_to_hold_takes_the_narrowest():
    assert width_of(np.zeros((0, 3), dtype=np.int64)) == 4


@settings(max_examples=60)
@given(st.lists(st.sampled_from(EDGES) | st.integers(-(2**40), 2**40), min_size=1, max_size=40))
def test_every_integer_comes_back(values):
    total = np.array(values, dtype=np.int64)
    assert np.array_equal(received({"x": total})["x"], total)


@pytest.mark.parametrize("limit", [2**30, 2**38, 2**46, 2**60])
def test_many_blocks_come_back_and_add_up(limit):
    total = np.random.default_rng(0).integers(-limit, limit, (300, 501))
    sums = received({"x": total, "y": np.array(5)})
    assert np.array_equal(sums["x"], total) and list(sums) == ["x", "y"] and len(sums) == 2
    into = {"x": np.ones_like(total), "y": np.array(1)}
    add_sums(into, sums)
    assert np.array_equal(into["x"], total + 1) and into["y"] == 6


def test_ordinary_tools_read_both_planes():
    planes = load(packed({"x": np.array([-1, 2**35 + 7])}))
    assert (planes["x/high"].astype(np.int64) * 2**32 + planes["x/low"]).tolist() == [-1, 2**35 + 7]


def test_an_accumulator_is_itself_or_widened():
    arrays = {"x": np.array([2**40, -1])}
    assert accumulator(arrays) is arrays
    widened = accumulator(received(arrays))
    widened["x"] += 1
    assert widened["x"].tolist() == [2**40 + 1, 0]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_its_weight_is_refused(sign):
    limit = 3 * MAX_INTEGER
    assert received({"x": np.array([0, sign * limit])}, weight=3)["x"][1] == sign * limit
    with pytest.raises(UpdateRejected, match="x holds a sum its weight cannot reach"):
        received({"x": np.array([0, sign * (limit + 1)])}, weight=3)


def test_without_weight_everything_must_be_zero():
    assert not received({"x": np.zeros(3, dtype=np.int64)}, weight=0)["x"].any()
    with pytest.raises(UpdateRejected, match="cannot reach"):
        received({"x": np.array([0, 0, 1])}, weight=0)


def test_missing_misshapen_and_mistyped_sums_are_refused():
    sums = {"x": np.array([1, 2**33])}
    with pytest.raises(UpdateRejected, match=r"expected integer sums y of \[2\]"):
        received(sums, shapes={"y": (2,)})
    with pytest.raises(UpdateRejected, match=r"x has shape \[2\], expected \[1, 2\]"):
        received(sums, shapes={"x": (1, 2)})
    entries = unpack(packed(sums))[0]
    del entries["x/high"]
    with pytest.raises(UpdateRejected, match="expected integer sums x"):
        NarrowSums(entries, {"x": (2,)}, weight=1)


def test_names_what_it_read():
    assert received({"x": np.array([2**33]), "y": np.array([1])}).wire_names == {"x/low", "x/high", "y"}
