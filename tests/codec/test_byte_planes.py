import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedcore.codec.byte_planes import join_planes, split_planes
from fedcore.errors import ProtocolError


def joined(parts, count, dtype):
    return join_planes(memoryview(b"".join(parts)), [len(part) for part in parts], count=count, dtype=dtype)


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
@settings(max_examples=50)
@given(data=st.data())
def test_round_trip_is_bit_exact(dtype, data):
    values = data.draw(arrays(dtype, st.integers(0, 200)))
    parts = split_planes(values)
    assert all(len(part) <= values.size for part in parts)
    assert np.array_equal(joined(parts, values.size, dtype), values)


def test_exponents_compress_and_mantissas_stay_raw():
    values = (0.01 * np.random.default_rng(0).standard_normal(20_000)).astype("<f4")
    sizes = [len(part) for part in split_planes(values)]
    assert sizes[0] == sizes[1] == 20_000
    assert sizes[3] < 0.5 * 20_000


def test_constant_values_nearly_vanish():
    assert sum(len(part) for part in split_planes(np.zeros(100_000, dtype="<f4"))) < 200


def test_planes_are_least_significant_first():
    assert split_planes(np.array([0x0102, 0x0304], dtype="<u2")) == [b"\x02\x04", b"\x01\x03"]


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


def test_damaged_frames_are_refused():
    good = zstandard.ZstdCompressor().compress(bytes(range(100)) * 10)
    for frame in (good[:-3], good + b"tail", b"\x00" * 20, good[:9] + b"\xff" * 8 + good[17:]):
        with pytest.raises(ProtocolError, match=r"zstd frame|byte planes"):
            joined([frame, bytes(1000)], 1000, "<u2")
