import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.codec.chain import encode
from fedcore.core.codec.container import Entry, pack
from fedcore.core.codec.delta import DELTA, apply_delta, make_delta
from fedcore.core.errors import BlobCorrupt, ProtocolError

PAIRS = st.integers(0, 80).flatmap(
    lambda size: st.tuples(st.binary(min_size=size, max_size=size), st.binary(min_size=size, max_size=size))
)


def adapter(seed=0, *, moved=0.0):
    values = np.random.default_rng(seed).standard_normal((16, 4000)).astype(np.float32)
    steps = np.random.default_rng(seed + 1).standard_normal(values.shape).astype(np.float32)
    return encode({"layers.0.q.A": values + np.float32(moved) * values * steps}, "identity")


def facts_of(old, **changes):
    return {"old": hashlib.sha256(old).hexdigest(), "new": "", "planes": [1, 1, 1, 1]} | changes


def container(facts, size=4, name="delta"):
    return pack({name: Entry(tag="U8", shape=(size,), data=memoryview(bytes(size)))}, {DELTA: json.dumps(facts)})


@given(PAIRS)
def test_any_bytes_come_back(pair):
    old, new = pair
    delta = make_delta(old, new)
    assert apply_delta(old, delta) == new
    assert apply_delta(memoryview(old), memoryview(delta)) == new


def test_extreme_differences_come_back():
    words = np.array([0, 1, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF], dtype=np.uint32)
    old, new = np.repeat(words, words.size).tobytes(), np.tile(words, words.size).tobytes()
    assert apply_delta(old, make_delta(old, new)) == new


def test_the_smaller_the_step_the_smaller_the_delta():
    old = adapter()
    sizes = [len(make_delta(old, adapter(moved=moved))) / len(old) for moved in (0.0, 1e-4, 1e-2, 0.3)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 0.01 and sizes[1] < 0.45 and sizes[2] < 0.75 and sizes[3] < 1.0


def test_equal_blobs_give_equal_deltas():
    assert make_delta(adapter(), adapter(moved=0.1)) == make_delta(adapter(), adapter(moved=0.1))


def test_blobs_of_other_lengths_have_no_delta():
    with pytest.raises(ValueError, match="equal length, got 3 and 4 bytes"):
        make_delta(b"abc", b"abcd")


def test_a_delta_against_another_blob_is_refused():
    with pytest.raises(ProtocolError, match="but the blob here is"):
        apply_delta(adapter(1), make_delta(adapter(), adapter(moved=0.1)))


def test_other_bytes_than_announced_are_refused():
    old = b"12345678"
    with pytest.raises(BlobCorrupt, match="fetch it whole"):
        apply_delta(old, container(facts_of(old, planes=[2, 2, 2, 2]), size=8))


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        (b"", "cut off"),
        (pack({}, {}), "delta is not valid JSON"),
        (container([]), "expected a JSON object"),
        (container(facts_of(b"1234"), name="x"), "one array of bytes called 'delta'"),
        (container(facts_of(b"1234", planes=3)), "expected a list of plane sizes"),
        (container(facts_of(b"1234", planes=[True, 1, 1, 1])), "expected a list of plane sizes"),
        (container(facts_of(b"1234", planes=[1, 1, 2])), "expected 4 sizes"),
        (container(facts_of(b"1234", planes=[2, 1, 1, 0])), "at most 1 bytes"),
    ],
)
def test_malformed_deltas_are_refused(delta, message):
    with pytest.raises(ProtocolError, match=message):
        apply_delta(b"1234", delta)


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_delta_gives_the_right_bytes_or_a_refusal(data):
    old, new = adapter()[:2000], adapter(moved=0.01)[:2000]
    delta = bytearray(make_delta(old, new))
    for _ in range(data.draw(st.integers(1, 4))):
        delta[data.draw(st.integers(0, len(delta) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert len(apply_delta(old, bytes(delta))) == len(old)
    except ProtocolError as refusal:
        str(refusal).encode()
