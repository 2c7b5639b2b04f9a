import numpy as np
import pytest
import zstandard

from fedcore.core.codec.frames import declared_bytes, huffman_frame, opened, text_frame
from fedcore.core.errors import ProtocolError

SKEWED = np.random.default_rng(0).geometric(0.3, 50_000).astype(np.uint8).tobytes()


@pytest.mark.parametrize("make", [huffman_frame, text_frame])
@pytest.mark.parametrize("data", [b"", b"a", b"ab" * 1000, SKEWED, bytes(300_000)])
def test_round_trip(make, data):
    frame = make(data)
    assert declared_bytes(memoryview(frame)) == len(data)
    assert opened(memoryview(frame), len(data)) == data


def test_the_huffman_stage_alone_is_smaller_where_order_means_nothing():
    assert len(huffman_frame(SKEWED)) < 0.97 * len(zstandard.ZstdCompressor(level=1).compress(SKEWED))


def test_text_that_repeats_is_matched():
    text = b"".join(b'{"shape":[4,%d],"format":"bf16"}' % count for count in range(200))
    assert len(text_frame(text)) < 0.2 * len(text)


def test_another_size_is_refused_before_anything_is_allocated():
    forged = b"\x28\xb5\x2f\xfd\xe0" + (1 << 60).to_bytes(8, "little") + b"\x03\x00\x00\x00"
    assert declared_bytes(memoryview(forged)) == 1 << 60
    with pytest.raises(ProtocolError, match=f"declares {1 << 60} bytes where 100 were expected"):
        opened(memoryview(forged), 100)


@pytest.mark.parametrize("frame", [b"", b"\x28\xb5\x2f\xfd", b"no frame at all"])
def test_what_is_no_frame_is_refused(frame):
    with pytest.raises(ProtocolError, match="damaged zstd frame"):
        declared_bytes(memoryview(frame))


def test_a_frame_without_a_size_never_fits():
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"abc")
    assert declared_bytes(memoryview(frame)) > 1 << 60
    with pytest.raises(ProtocolError, match="where 3 were expected"):
        opened(memoryview(frame), 3)


def test_a_cut_frame_is_refused_and_the_next_one_opens():
    frame = huffman_frame(SKEWED)
    with pytest.raises(ProtocolError, match="damaged zstd frame"):
        opened(memoryview(frame[:-10]), len(SKEWED))
    assert opened(memoryview(frame), len(SKEWED)) == SKEWED
