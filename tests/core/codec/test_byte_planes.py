from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedcore.core.codec.byte_planes import join_planes, split_planes
from fedcore.core.codec.cast import to_bf16
from fedcore.core.errors import ProtocolError


def joined(parts, count, dtype):
    return join_planes(memoryview(b"".join(parts)), [len(part) for part in parts], count=count, dtype=dtype)


def increments(count, seed=0):
    """Values as training leaves them: normal, of a scale that differs from row to row."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(count) * 10.0 ** rng.uniform(-4, -2, count)).astype("<f4")


def entropy_bytes(plane):
    counts = np.bincount(plane, minlength=256)
    shares = counts[counts > 0] / plane.size
    return -(shares * np.log2(shares)).sum() * plane.size / 8


@pytest.mark.parametrize("dtype", ["i1", "u1", "<u2", "<f2", "<u4", "<f4"])
@settings(max_examples=40)
@given(data=st.data())
def test_round_trip_is_bit_exact(dtype, data):
    values = data.draw(arrays(f"<u{np.dtype(dtype).itemsize}", st.integers(0, 200))).view(dtype)
    parts = split_planes(values)
    assert all(len(part) <= values.size for part in parts)
    found = joined(parts, values.size, dtype)
    assert found.dtype == np.dtype(dtype) and found.tobytes() == values.tobytes()


@pytest.mark.parametrize("count", [32767, 32768, 32769, 131_072, 200_001])
@pytest.mark.parametrize("narrow", [to_bf16, np.array])
def test_pieces_and_blocks_leave_no_seam(count, narrow):
    values = narrow(increments(count))
    assert joined(split_planes(values), count, values.dtype.str).tobytes() == values.tobytes()


def test_exponents_compress_and_mantissas_stay_raw():
    sizes = [len(part) for part in split_planes(increments(20_000))]
    assert sizes[:3] == [20_000] * 3
    assert sizes[3] < 0.5 * 20_000


def test_the_top_plane_is_the_exponent_and_the_bottom_bit_the_sign():
    parts = split_planes(to_bf16(np.array([1.0, -1.0, 2.0, -0.0], dtype="<f4")))
    assert parts == [bytes([0, 1, 0, 1]), bytes([127, 127, 128, 0])]
    parts = split_planes(np.array([-1.5], dtype="<f4"))
    assert parts == [b"\x01", b"\x00", b"\x80", bytes([127])]


@pytest.mark.parametrize("count", [6144, 24_576, 400_000])
def test_exponents_come_within_three_percent_of_their_entropy(count):
    """Beyond what the frame and its table of code lengths take: 48 bytes for every block of 128 KiB."""
    bits = to_bf16(increments(count))
    bound = entropy_bytes(((bits >> 7) & 0xFF).astype(np.uint8))
    _, exponents = split_planes(bits)
    assert bound < len(exponents) < 1.03 * bound + 48 * (1 + count // 131_072)


def test_constant_values_nearly_vanish():
    assert sum(len(part) for part in split_planes(np.zeros(100_000, dtype="<f4"))) < 200


def test_bytes_do_not_depend_on_what_was_coded_before():
    values, other = increments(50_000), np.tile(increments(777, seed=1), 100)
    with ThreadPoolExecutor(1) as fresh:
        expected = fresh.submit(split_planes, values).result()
    split_planes(other)
    assert split_planes(values) == expected
    split_planes(values[:10])
    assert split_planes(values) == expected


def test_threads_may_code_at_once():
    arrays_ = [increments(60_000, seed) for seed in range(4)] * 4
    with ThreadPoolExecutor(4) as pool:
        coded = list(pool.map(split_planes, arrays_))
        back = list(pool.map(lambda parts: joined(parts, 60_000, "<f4"), coded))
    assert all(np.array_equal(value, found) for value, found in zip(arrays_, back, strict=True))


@pytest.mark.parametrize("sizes", [[4], [4, 4, 4], [4, 5], [8, 0], [-1, 9], [4, 3]])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ProtocolError, match="expected 2 sizes of at most 4 bytes adding up to 8"):
        join_planes(memoryview(bytes(8)), sizes, count=4, dtype="<u2")


@pytest.mark.parametrize("declared", [99, 101, 1 << 40])
def test_a_frame_that_declares_another_length_is_refused_before_decompression(declared):
    frame = zstandard.ZstdCompressor().compress(bytes(min(declared, 101)))
    if declared > 101:  # forge the declared content size: an 8-byte field, no dictionary, single segment
        frame = b"\x28\xb5\x2f\xfd\xe0" + declared.to_bytes(8, "little") + b"\x03\x00\x00\x00"
    with pytest.raises(ProtocolError, match=f"declares {declared} bytes where 100 were expected"):
        joined([frame, bytes(100)], 100, "<u2")


def test_a_frame_without_a_length_is_refused():
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    with pytest.raises(ProtocolError, match="where 100 were expected"):
        joined([frame, bytes(100)], 100, "<u2")


def test_damaged_frames_are_refused_and_leave_the_coder_usable():
    good = zstandard.ZstdCompressor().compress(bytes(range(100)) * 10)
    for frame in (good[:-3], good + b"tail", b"\x00" * 20, good[:9] + b"\xff" * 8 + good[17:]):
        with pytest.raises(ProtocolError, match=r"zstd frame|byte planes"):
            joined([frame, bytes(1000)], 1000, "<u2")
        values = increments(1000)
        assert np.array_equal(joined(split_planes(values), 1000, "<f4"), values)


@settings(max_examples=60)
@given(data=st.data(), count=st.integers(0, 300), dtype=st.sampled_from(["u1", "<u2", "<f4"]))
def test_any_bytes_give_values_or_a_protocol_error(data, count, dtype):
    """Real frames with bytes overwritten, and noise, cut into arbitrary planes."""
    width = np.dtype(dtype).itemsize
    parts = split_planes(np.full(count, 1, dtype=dtype))
    stored = bytearray(b"".join(parts) if data.draw(st.booleans()) else data.draw(st.binary(max_size=200)))
    for place in data.draw(st.lists(st.integers(0, max(0, len(stored) - 1)), max_size=4)) if stored else []:
        stored[place] = data.draw(st.integers(0, 255))
    true = [len(part) for part in parts]
    sizes = (
        true if sum(true) == len(stored) else data.draw(st.lists(st.integers(0, 300), min_size=width, max_size=width))
    )
    try:
        found = join_planes(memoryview(bytes(stored)), sizes, count=count, dtype=dtype)
    except ProtocolError:
        return
    assert found.size == count and found.dtype == np.dtype(dtype)
