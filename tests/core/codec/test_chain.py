import base64
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load

from fedcore.core.codec.cast import CASTS
from fedcore.core.codec.chain import CHAIN, FREE_BYTES, decode, encode, encoded_bytes_bound
from fedcore.core.codec.container import Entry, pack, unpack
from fedcore.core.codec.grammar import FORMATS
from fedcore.core.errors import ConfigError, FedcoreError, ProtocolError, UpdateRejected

OLD = ("identity", "bf16", "fp16", "zstd", "identity+zstd", "bf16+zstd", "fp16+zstd")
FORMS = (*FORMATS, "int8:8", "int4:100")
CODECS = (
    *OLD,
    *(f"{form}{rest}" for form in FORMS if form not in CASTS for rest in ("", "+zstd")),
    *(f"topk:{share}+{form}{rest}" for form in FORMS for share, rest in ((0.2, ""), (0.02, "+zstd"))),
    *("topk", "topk+zstd", "ef+int8+zstd", "ef+topk:0.3"),
)
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
    assert set(decode(encode({"x": gaussian(3)}, codec))) == {"x"}


def test_an_unknown_codec_is_refused_by_every_function():
    for refuse in (lambda name: encode({}, name), lambda name: encoded_bytes_bound({}, name)):
        with pytest.raises(ConfigError, match="out of ef, topk, identity, bf16, fp16, int8, int4, zstd; got 'x'"):
            refuse("x")


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
@settings(max_examples=10)
@given(tensors=TENSORS)
def test_the_bound_holds_and_compression_changes_nothing(codec, tensors):
    encoded = encode(tensors, codec)
    shapes = {name: value.shape for name, value in tensors.items()}
    assert len(encoded) <= encoded_bytes_bound(shapes, codec)
    plain = decode(encode(tensors, codec.removesuffix("+zstd") if codec != "zstd" else "identity"))
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
    assert shares["int8"] < 0.275 and shares["int4"] < 0.155
    assert shares["topk:0.2+int8"] < 0.11 and shares["topk:0.02+int8+zstd"] < 0.03


@pytest.mark.parametrize("codec", ["identity", "fp16", "bf16+zstd", "int8", "topk+int4+zstd"])
def test_ordinary_tools_open_every_container(codec):
    held = load(encode({"x": gaussian(4, 5)}, codec))
    assert set(held) == ({"x"} if codec in CASTS else {"about", "tensors"}) and all(each.size for each in held.values())


def test_strided_tensors_and_any_order_encode_alike():
    wide = gaussian(6, 10)
    for codec in ("bf16+zstd", "int8", "topk:0.3+int4"):
        left = encode({"a": wide[:, :4], "b": wide[::2].T}, codec)
        right = encode({"b": np.array(wide[::2].T), "a": np.array(wide[:, :4])}, codec)
        assert left == right


# containers of the first version, base 85: its bytes are understood for good
FIRST_VERSION = {
    "fp16": (
        "umAu600000dm>>XI(s5yba`-PB03^QF*YJBB6DbAaAhJoTQV>#GhHkqWMOn+UvFk+b7gdMB05_zEHN@LU41MfVj?<wB4l)VaAhJo"
        "B1SPbA}k_vXkl<=B05`LEFxrKbYWj_W@d9`baNs)TQM>)EHN@NU41MfV<I|xB4l)VaAhJoB1SPbA}k_vXkl<=B05_zEHYgzB4lB7"
        "VP9`%W^-k9b0RuhF)}hNF)}h;eSIJx0K5Ra0K5Ra0K5Ra0K5Ra0K5Ra0K5Ra0K5Ra0K5Ra0K5Ra0K5Ra00000000000000000000"
        "00000000000000000000000000000006YLZ06YLZ06YLZ06YLZ06YLZ06YLZ06YLZ06YLZ06YLZ06YLZ05|"
    ),
}


@pytest.mark.parametrize("codec", FIRST_VERSION)
def test_bytes_of_the_first_version_keep_decoding(codec):
    decoded = decode(base64.b85decode(FIRST_VERSION[codec]), shapes={"a": (20, 3), "b": (), "c": (0, 2)})
    assert np.array_equal(decoded["a"], (np.arange(60) // 20 - 1).reshape(20, 3))
    assert decoded["b"] == 0.5 and decoded["c"].size == 0


def test_uncompressed_casts_still_give_the_first_versions_bytes():
    tensors = {
        "a": (np.arange(60, dtype=np.float32) // 20 - 1).reshape(20, 3),
        "b": np.full((), 0.5, dtype=np.float32),
        "c": np.zeros((0, 2), dtype=np.float32),
    }
    assert encode(tensors, "fp16") == base64.b85decode(FIRST_VERSION["fp16"])


def test_a_chain_of_another_version_is_refused():
    entries, _ = unpack(encode({"x": gaussian(4)}, "int8"))
    with pytest.raises(ProtocolError, match="chain of version '2', expected '1'; update fedcore"):
        decode(pack(entries, {CHAIN: "2"}))


def test_error_feedback_changes_no_byte():
    assert encode({"x": gaussian(300)}, "ef+int8+zstd") == encode({"x": gaussian(300)}, "int8+zstd")


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
    for size in range(0, len(encoded), 23):
        with pytest.raises(ProtocolError):
            dict(decode(encoded[:size]))


@ALL
@settings(max_examples=25)
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


def test_well_compressed_tensors_are_not_bombs():
    zeros = {"x": np.zeros(FREE_BYTES // 4, dtype=np.float32)}
    encoded = encode(zeros, "zstd")
    assert len(encoded) < 20_000 and decode(encoded)["x"].size == FREE_BYTES // 4
    beyond = {"x": np.zeros(FREE_BYTES // 4 + 1, dtype=np.float32)}
    encoded = encode(beyond, "zstd")

    def attack():
        with pytest.raises(ProtocolError, match="refused as a bomb"):
            decode(encoded)
        with pytest.raises(UpdateRejected, match=r"'x' has shape \(16777217,\), expected \(8,\)"):
            decode(encoded, shapes={"x": (8,)})

    assert _peak(attack) < 1 << 20
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
