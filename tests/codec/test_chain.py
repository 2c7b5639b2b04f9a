import json
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load

from fedcore.codec.chain import FREE_BYTES, PLANES, check_codec, decode, encode, encoded_bytes_bound
from fedcore.codec.container import Entry, pack
from fedcore.errors import ConfigError, FedcoreError, ProtocolError, UpdateRejected

CODECS = ("identity", "bf16", "fp16", "zstd", "identity+zstd", "bf16+zstd", "fp16+zstd")
ALL = pytest.mark.parametrize("codec", CODECS)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda name: name != "__metadata__")
# every bit pattern of float32, in every shape from scalar over empty to three axes
FLOATS = arrays(np.uint32, st.just(()) | array_shapes(max_dims=3, min_side=0, max_side=6)).map(
    lambda bits: bits.view(np.float32)
)
TENSORS = st.dictionaries(NAMES, FLOATS, max_size=4)


def gaussian(*shape):
    return (0.01 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


@ALL
def test_known_codecs(codec):
    check_codec(codec)


@pytest.mark.parametrize(
    "name", ["", "int8", "bf16+", "+zstd", "zstd+bf16", "bf16+fp16", "zstd+zstd", "bf16+zstd+zstd"]
)
def test_unknown_codecs_list_the_known_parts(name):
    with pytest.raises(ConfigError, match="out of identity, bf16, fp16, zstd; got"):
        check_codec(name)
    with pytest.raises(ConfigError):
        encode({}, name)


@pytest.mark.parametrize("codec", ["identity", "zstd", "identity+zstd"])
@settings(max_examples=40)
@given(tensors=TENSORS)
def test_lossless_codecs_keep_every_bit(codec, tensors):
    decoded = decode(encode(tensors, codec))
    assert set(decoded) == set(tensors) and len(decoded) == len(tensors)
    for name, value in tensors.items():
        assert decoded[name].dtype == np.float32 and decoded[name].shape == value.shape
        assert decoded[name].tobytes() == value.tobytes()


@ALL
@settings(max_examples=25)
@given(tensors=TENSORS)
def test_the_bound_holds_and_compression_changes_nothing(codec, tensors):
    encoded = encode(tensors, codec)
    shapes = {name: value.shape for name, value in tensors.items()}
    assert len(encoded) <= encoded_bytes_bound(shapes, codec)
    plain = decode(encode(tensors, codec.partition("+")[0] if codec != "zstd" else "identity"))
    for name, value in decode(encoded, shapes=shapes).items():
        assert value.tobytes() == plain[name].tobytes()


@pytest.mark.parametrize(("codec", "bound"), [("bf16", 2.0**-8), ("fp16", 2.0**-11)])
def test_casts_stay_within_their_relative_error(codec, bound):
    values = gaussian(64, 9)
    values = values[np.abs(values) >= 2.0**-14]
    back = decode(encode({"x": values}, codec))["x"]
    assert np.all(np.abs(back.astype(np.float64) - values) <= bound * np.abs(values))


def test_sizes_fall_as_promised():
    tensors = {f"layers.{i}.q.A": gaussian(8, 384) for i in range(24)}
    plain = len(encode(tensors, "identity"))
    shares = {codec: len(encode(tensors, codec)) / plain for codec in CODECS}
    assert shares["bf16"] < 0.52 and shares["fp16"] < 0.52
    assert shares["zstd"] < 0.9
    assert shares["bf16+zstd"] < 0.4


@pytest.mark.parametrize("codec", ["identity", "fp16", "bf16+zstd"])
def test_ordinary_tools_open_every_container(codec):
    assert load(encode({"x": gaussian(4, 5)}, codec))["x"].size > 0


def test_strided_tensors_and_any_order_encode_alike():
    wide = gaussian(6, 10)
    left = encode({"a": wide[:, :4], "b": wide[::2].T}, "bf16+zstd")
    right = encode({"b": np.array(wide[::2].T), "a": np.array(wide[:, :4])}, "bf16+zstd")
    assert left == right


def test_other_dtypes_are_not_encoded():
    with pytest.raises(ValueError, match="'x': expected float32, got float64"):
        encode({"x": np.zeros(3)}, "bf16")


def test_decoding_is_lazy_and_identity_is_a_view():
    encoded = encode({"x": gaussian(50, 50), "y": gaussian(3)}, "identity")
    decoded = decode(memoryview(encoded))
    assert np.shares_memory(decoded["x"], np.frombuffer(encoded, dtype=np.uint8))
    assert decoded["x"] is not decoded["x"]
    with pytest.raises(KeyError):
        decoded["z"]


def test_a_big_buffer_is_not_copied():
    encoded = encode({"x": gaussian(1_000_000)}, "identity")
    assert _peak(lambda: decode(encoded)["x"]) < 100_000


@ALL
def test_every_truncation_is_refused(codec):
    encoded = encode({"a": gaussian(20, 3), "b": gaussian(7)}, codec)
    for size in range(0, len(encoded), 7):
        with pytest.raises(ProtocolError):
            dict(decode(encoded[:size]))


@ALL
@settings(max_examples=60)
@given(data=st.data())
def test_corruption_never_escapes_as_another_error(codec, data):
    encoded = bytearray(encode({"a": gaussian(20, 3), "b": np.zeros(40, dtype=np.float32)}, codec))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    _survives(bytes(encoded))


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_noise_never_escapes_as_another_error(noise):
    _survives(noise)
    _survives(len(noise).to_bytes(8, "little") + noise)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60)
@given(JSON, JSON, JSON)
def test_hostile_descriptions_never_escape_as_another_error(dtype, shape, sizes):
    for fields in ({"dtype": dtype}, {"shape": shape}, {"planes": sizes}, {"shape": shape, "planes": sizes}):
        described = {"dtype": "BF16", "shape": [5], "planes": [5, 5]} | fields
        _survives(_compressed(10, described))
    _survives(_compressed(10, shape))


def _compressed(size, described, body=None):
    entry = Entry(tag="U8", shape=(size,), data=memoryview(body or bytes(size)))
    return pack({"x": entry}, {PLANES: json.dumps({"x": described})})


def test_a_bomb_is_refused_before_it_grows():
    count = 1 << 30
    plane = zstandard.ZstdCompressor().compress(bytes(1 << 20))
    described = {"dtype": "F32", "shape": [count], "planes": [len(plane)] * 4}
    bomb = _compressed(4 * len(plane), described, plane * 4)

    def attack():
        with pytest.raises(ProtocolError, match="refused as a bomb"):
            decode(bomb)
        with pytest.raises(UpdateRejected, match=r"'x' has shape \(1073741824,\), expected \(8,\)"):
            decode(bomb, shapes={"x": (8,)})

    assert _peak(attack) < 1 << 20


def test_a_small_bomb_gets_no_more_than_its_declared_shape():
    plane = zstandard.ZstdCompressor().compress(bytes(1 << 24))
    described = {"dtype": "BF16", "shape": [1000], "planes": [len(plane), len(plane)]}
    bomb = _compressed(2 * len(plane), described, plane * 2)

    def attack():
        with pytest.raises(ProtocolError, match="tensor 'x': "):
            decode(bomb)["x"]

    assert _peak(attack) < 1 << 20


def test_well_compressed_tensors_are_not_bombs():
    zeros = {"x": np.zeros(FREE_BYTES // 4, dtype=np.float32)}
    encoded = encode(zeros, "zstd")
    assert len(encoded) < 20_000 and decode(encoded)["x"].size == FREE_BYTES // 4
    beyond = {"x": np.zeros(FREE_BYTES // 4 + 1, dtype=np.float32)}
    encoded = encode(beyond, "zstd")
    with pytest.raises(ProtocolError, match="bomb"):
        decode(encoded)
    assert decode(encoded, shapes={"x": beyond["x"].shape})["x"].size == beyond["x"].size


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"x": (2, 3)}, r"'x' has shape \(3, 2\), expected \(2, 3\)"),
        ({"y": (3, 2)}, r"missing tensors \['y'\], unexpected \['x'\]"),
        ({}, r"missing tensors \[\], unexpected \['x'\]"),
    ],
)
def test_expected_names_and_shapes_are_enforced(shapes, message):
    with pytest.raises(UpdateRejected, match=message):
        decode(encode({"x": gaussian(3, 2)}, "bf16"), shapes=shapes)


def test_plain_bytes_without_a_description_are_refused():
    with pytest.raises(ProtocolError, match="expected a float dtype, got U8"):
        decode(pack({"x": Entry(tag="U8", shape=(2,), data=memoryview(b"ab"))}, {}))


def test_a_description_of_other_tensors_is_refused():
    with pytest.raises(ProtocolError, match="names other tensors"):
        decode(pack({"x": Entry(tag="U8", shape=(2,), data=memoryview(b"ab"))}, {PLANES: "{}"}))


def _survives(buffer):
    try:
        dict(decode(buffer))
    except FedcoreError as refusal:
        str(refusal).encode()  # a message that cannot be printed would be a crash later


def _peak(action) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
