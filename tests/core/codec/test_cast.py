import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedcore.core.codec.cast import CASTS, from_bf16, to_bf16, to_fp16
from fedcore.core.codec.container import TAG_BYTES

ANY_BITS = arrays(np.uint32, 50, elements=st.integers(0, 2**32 - 1))
BF16_MAX = float(from_bf16(np.array([0x7F7F], dtype=np.uint16))[0])


def f32(*values):
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize(
    ("bits", "half"),
    [
        (0x3F800000, 0x3F80),  # 1
        (0x3F808000, 0x3F80),  # a tie: down to even
        (0x3F818000, 0x3F82),  # a tie: up to even
        (0x3F808001, 0x3F81),  # just above a tie
        (0x80000000, 0x8000),  # -0
        (0x7F800000, 0x7F80),  # infinity
        (0xFF800000, 0xFF80),
        (0x7F7FFFFF, 0x7F80),  # the largest float32 rounds up to infinity
        (0x00000001, 0x0000),  # the smallest subnormal
        (0x7F800001, 0x7FC0),  # a NaN whose payload lies in the dropped half
        (0xFFFFFFFF, 0xFFFF),  # a NaN that a carry would turn into zero
    ],
)
def test_bf16_known_bits(bits, half):
    assert to_bf16(np.array([bits], dtype=np.uint32).view(np.float32)).tolist() == [half]


@given(ANY_BITS)
def test_bf16_error_is_within_its_bound(bits):
    values = bits.view(np.float32)
    back = from_bf16(to_bf16(values))
    assert np.array_equal(np.isnan(values), np.isnan(back))
    normal = np.isfinite(values) & (np.abs(values) >= 2.0**-126) & (np.abs(values) <= BF16_MAX)
    exact, rounded = values[normal].astype(np.float64), back[normal].astype(np.float64)
    assert np.all(np.abs(rounded - exact) <= 2.0**-8 * np.abs(exact))
    assert np.array_equal(np.signbit(values[~np.isnan(values)]), np.signbit(back[~np.isnan(values)]))


@given(arrays(np.uint16, 50, elements=st.integers(0, 2**16 - 1)))
def test_bf16_values_survive(halves):
    values = from_bf16(halves)
    back = to_bf16(values)
    nans = np.isnan(values)
    assert np.array_equal(back[~nans], halves[~nans])
    assert np.isnan(from_bf16(back[nans])).all()


@given(arrays(np.float32, 50, elements=st.floats(-65504, 65504, width=32)))
def test_fp16_error_is_within_its_bound(values):
    exact, rounded = values.astype(np.float64), to_fp16(values).astype(np.float64)
    bound = np.where(np.abs(exact) >= 2.0**-14, 2.0**-11 * np.abs(exact), 2.0**-25)
    assert np.all(np.abs(rounded - exact) <= bound)


def test_fp16_overflow_is_infinite_without_a_warning():
    assert np.array_equal(to_fp16(f32(65519, 65520, -1e30)), np.array([65504, np.inf, -np.inf], dtype=np.float16))


@pytest.mark.parametrize("name", CASTS)
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 3, 4)])
def test_every_cast_keeps_shapes_and_knows_its_size(name, shape):
    cast, values = CASTS[name], np.full(shape, 1.5, dtype=np.float32)
    stored = cast.narrow(values)
    back = cast.widen(stored)
    assert stored.dtype == np.dtype(cast.dtype) and stored.dtype.itemsize == TAG_BYTES[cast.tag]
    assert stored.shape == back.shape == shape and back.dtype == np.float32
    assert np.array_equal(back, values)


@pytest.mark.parametrize("name", CASTS)
def test_every_cast_keeps_special_values(name):
    values = f32(np.nan, np.inf, -np.inf, -0.0)
    back = CASTS[name].widen(CASTS[name].narrow(values))
    assert np.isnan(back[0]) and back[1:3].tolist() == [np.inf, -np.inf] and np.signbit(back[3])
