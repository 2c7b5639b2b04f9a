import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedcore.core.codec.chain import decode, encode
from fedcore.core.codec.sparsify import (
    BITMAP,
    GAPS,
    kept_count,
    largest,
    pack_positions,
    positions_bound,
    unpack_positions,
)
from fedcore.core.errors import ProtocolError

SIZES_AND_POSITIONS = st.integers(0, 1500).flatmap(
    lambda size: st.tuples(
        st.just(size),
        st.sets(st.integers(0, max(0, size - 1)), max_size=min(size, 60)).map(
            lambda found: np.array(sorted(found), dtype=np.int64)
        ),
    )
)
FEW_VALUES = arrays(np.float32, st.integers(1, 60), elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 1e-40]))


def f32(*values):
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize(
    ("size", "share", "count"), [(0, 0.1, 0), (1, 0.1, 1), (10, 0.1, 1), (100, 0.07, 7), (7, 1.0, 7), (1000, 1e-9, 1)]
)
def test_how_many_are_kept(size, share, count):
    assert kept_count(size, share) == count


def test_the_largest_by_absolute_value_and_the_earlier_of_equal_ones():
    values = f32(1, -3, 0.5, 3, -1, 1, 0)
    assert largest(values, 1).tolist() == [1]
    assert largest(values, 3).tolist() == [0, 1, 3]
    assert largest(values, 4).tolist() == [0, 1, 3, 4]
    assert largest(values, 7).tolist() == list(range(7))


@given(FEW_VALUES, st.data())
def test_the_largest_agree_with_a_stable_sort(values, data):
    count = data.draw(st.integers(1, values.size))
    order = np.argsort(-np.abs(values.astype(np.float64)), kind="stable")
    assert largest(values, count).tolist() == sorted(order[:count].tolist())


def test_a_broken_value_is_always_kept():
    values = np.full(1000, 1e30, dtype=np.float32)
    values[[500, 700]] = np.nan, np.inf
    assert largest(values, 1).tolist() == [500] and largest(values, 2).tolist() == [500, 700]


@given(SIZES_AND_POSITIONS)
def test_positions_come_back(drawn):
    size, positions = drawn
    coding, stored = pack_positions(positions, size)
    assert stored.size <= positions_bound(size, positions.size)
    back = unpack_positions(coding, stored, size=size, count=positions.size)
    assert np.array_equal(back, positions)


def test_the_smaller_coding_is_taken():
    few, many = np.arange(0, 8000, 100), np.arange(0, 8000, 4)
    assert (pack_positions(few, 8000)[0], pack_positions(few, 8000)[1].size) == (GAPS, 80)
    assert (pack_positions(many, 8000)[0], pack_positions(many, 8000)[1].size) == (BITMAP, 1000)
    assert pack_positions(np.array([255, 1000]), 8000)[1].tolist() == [255, 0, 255, 255, 744 - 510]


@pytest.mark.parametrize(
    ("coding", "stored", "message"),
    [
        (GAPS, [0, 0, 0], "expected 2 below 20, got 3"),
        (GAPS, [0], "expected 2 below 20, got 1"),
        (GAPS, [3, 16], "expected 2 below 20"),
        (GAPS, [0, 0, 255], "in the middle of a gap"),
        (BITMAP, [1, 1, 1], "got 3"),
        (BITMAP, [1, 0, 128], "expected 2 below 20"),
    ],
)
def test_positions_that_do_not_fit_are_refused(coding, stored, message):
    with pytest.raises(ProtocolError, match=message):
        unpack_positions(coding, np.array(stored, dtype=np.uint8), size=20, count=2)


@given(st.sampled_from([BITMAP, GAPS]), st.binary(max_size=9), st.integers(0, 9), st.integers(0, 60))
def test_noise_gives_sound_positions_or_a_refusal(coding, noise, count, size):
    try:
        positions = unpack_positions(coding, np.frombuffer(noise, dtype=np.uint8), size=size, count=count)
    except ProtocolError:
        return
    assert positions.size == count and (np.diff(positions) > 0).all() and (positions < max(size, 1)).all()


@pytest.mark.parametrize("form", ["identity", "bf16", "int8", "int4"])
def test_kept_values_are_as_the_inner_codec_gives_them_and_the_rest_is_zero(form):
    values = np.random.default_rng(3).standard_normal((40, 30)).astype(np.float32)
    back = decode(encode({"x": values}, f"topk:0.1+{form}+zstd"))["x"].reshape(-1)
    positions = largest(values.reshape(-1), 120)
    inner = decode(encode({"x": values.reshape(-1)[positions]}, form))["x"]
    assert np.array_equal(back[positions], inner)
    assert np.count_nonzero(np.delete(back, positions)) == 0
