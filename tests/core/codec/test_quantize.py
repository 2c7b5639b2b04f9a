import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedcore.core.codec.formats import layout_bytes
from fedcore.core.codec.quantize import LARGEST, Quantizer

BITS = pytest.mark.parametrize("bits", [8, 4])
ANY_BITS = arrays(np.uint32, st.integers(0, 70), elements=st.integers(0, 2**32 - 1)).map(lambda it: it.view(np.float32))
FINITE = arrays(np.float32, st.integers(0, 70), elements=st.floats(-LARGEST, LARGEST, width=32))


def f32(*values):
    return np.array(values, dtype=np.float32)


def there_and_back(values, bits, block=8):
    quantizer = Quantizer(bits=bits, block=block)
    stored = quantizer.store(values)
    assert [(each.dtype.str.strip("|"), each.size) for each in stored] == list(quantizer.layout(values.size))
    return stored, quantizer.load(stored, values.size)


def in_blocks(values, block=8):
    padded = np.zeros(-(-values.size // block) * block, dtype=np.float64)
    padded[: values.size] = values
    return padded.reshape(-1, block)


def test_known_integers():
    (codes, scales), back = there_and_back(f32(127, -127, 63.5, 62.5, 0, -0.4, -0.0, 1, 254), 8)
    assert codes.tolist() == [127, -127, 64, 62, 0, 0, 0, 1, 127]  # ties to even
    assert scales.tolist() == [1, 2]
    assert back.tolist() == [127, -127, 64, 62, 0, 0, 0, 1, 254]


def test_known_nibbles():
    (packed, scales), back = there_and_back(f32(7, -7, 1, -1, 2.5, 3.5, 0, 0, 14), 4)
    assert packed.tolist() == [0x97, 0xF1, 0x42, 0x00, 0x07] and scales.tolist() == [1, 2]
    assert back.tolist() == [7, -7, 1, -1, 2, 4, 0, 0, 14]


@BITS
@given(values=FINITE)
def test_the_error_is_half_a_scale(bits, values):
    (_, scales), back = there_and_back(values, bits)
    top = (1 << (bits - 1)) - 1
    exact, rounded, steps = in_blocks(values), in_blocks(back), scales.astype(np.float64)[:, None]
    assert np.all(np.abs(exact - rounded) <= steps * (0.5 + 2.0**-16))
    peaks = np.abs(exact).max(axis=1, initial=0, keepdims=True)
    # the smallest float32 that reaches the peak: no more than one step above peak / top
    assert np.all(top * steps >= peaks * (1 - 2.0**-23))
    assert np.all(np.nextafter(scales, f32(0)).astype(np.float64)[:, None] * top <= peaks * (1 + 2.0**-23))
    assert np.all(back[values == 0] == 0)


@BITS
@given(values=ANY_BITS)
def test_a_block_with_a_broken_value_is_broken_as_a_whole(bits, values):
    _, back = there_and_back(values, bits)
    with np.errstate(invalid="ignore"):
        sound = (np.abs(in_blocks(values)) <= LARGEST).all(axis=1)
    expected = np.repeat(~sound, 8)[: values.size]
    assert np.array_equal(np.isnan(back), expected) and not np.isinf(back).any()


@BITS
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.float32(LARGEST) * np.float32(1.001)])
def test_no_broken_value_turns_finite(bits, value):
    values = np.ones(20, dtype=np.float32)
    values[9] = value
    _, back = there_and_back(values, bits)
    assert (
        np.isnan(back[8:16]).all() and np.array_equal(back[:8], values[:8]) and np.array_equal(back[16:], values[16:])
    )


@BITS
@pytest.mark.parametrize("size", [1, 3, 1000, (1 << 22)])
def test_the_smallest_numbers_keep_the_bound(bits, size):
    tiny = np.arange(size, size + 16, dtype=np.uint32).view(np.float32)
    (_, scales), back = there_and_back(tiny, bits)
    assert np.all(np.abs(in_blocks(tiny) - in_blocks(back)) <= scales.astype(np.float64)[:, None] * 0.5001)


@BITS
def test_the_largest_number_survives(bits):
    _, back = there_and_back(f32(LARGEST, -LARGEST, 0), bits)
    assert np.allclose(back, [LARGEST, -LARGEST, 0], rtol=1e-6)


@BITS
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 130, 40_001])
@pytest.mark.parametrize("block", [8, 100])
def test_any_length_is_worked_on_block_by_block(bits, count, block):
    values = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    stored, back = there_and_back(values, bits, block)
    assert sum(each.nbytes for each in stored) == layout_bytes(Quantizer(bits=bits, block=block).layout(count))
    for low in range(0, count, 29 * block):
        _, piece = there_and_back(values[low : low + block], bits, block)
        assert np.array_equal(back[low : low + block], piece)


@BITS
@settings(max_examples=50)
@given(data=st.data(), count=st.integers(0, 40))
def test_any_stored_bits_are_read_without_a_warning(bits, data, count):
    quantizer = Quantizer(bits=bits, block=8)
    stored = [
        np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), dtype=dtype)
        for dtype, number in quantizer.layout(count)
        for size in [np.dtype(dtype).itemsize * number]
    ]
    assert quantizer.load(stored, count).shape == (count,)
