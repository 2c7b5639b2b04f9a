import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from fedcore.core.codec.bundle import pack_bundle, unpack_bundle
from fedcore.core.codec.container import MAX_HEADER_BYTES, Entry, pack, unpack
from fedcore.core.codec.frames import text_frame
from fedcore.core.errors import ProtocolError

PARTS = {"b": (b"xyz", {"shape": [3]}), "a": (b"", {}), "c": (b"12", {"format": "int8"})}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def entries(about, body=b"", tag="U8"):
    parts = {"about": about, "tensors": body}
    return {name: Entry(tag=tag, shape=(len(data),), data=memoryview(data)) for name, data in parts.items()}


@given(st.dictionaries(st.text(max_size=5), st.tuples(st.binary(max_size=20), st.just({"shape": [1]})), max_size=4))
def test_round_trip(parts):
    found, metadata = unpack(pack_bundle(parts, {"key": "value"}))
    assert metadata == {"key": "value"}
    back = unpack_bundle(found)
    assert {name: (bytes(data), about) for name, (data, about) in back.items()} == parts


def test_bytes_do_not_depend_on_the_order_of_names():
    assert pack_bundle(PARTS, {}) == pack_bundle(dict(reversed(PARTS.items())), {})


def test_ordinary_tools_see_two_tensors():
    held = load(pack_bundle(PARTS, {}))
    assert held["tensors"].tobytes() == b"xyz12" and held["about"].size < 120


def test_many_small_tensors_take_a_few_bytes_each():
    parts = {
        f"layers.{layer}.{module}.{factor}": (bytes(7), {"shape": [4, 384], "format": "bf16", "planes": [[1536, 460]]})
        for layer in range(6)
        for module in ("q", "k", "v", "o", "up", "down")
        for factor in "AB"
    }
    assert len(pack_bundle(parts, {})) - 7 * 72 < 7 * 72


def test_too_many_descriptions_are_not_written():
    with pytest.raises(ValueError, match=f"the limit is {MAX_HEADER_BYTES}"):
        pack_bundle({"x" * (MAX_HEADER_BYTES + 1): (b"", {})}, {})


@pytest.mark.parametrize(
    ("about", "body", "message"),
    [
        ({"x": {"bytes": 3}}, b"ab", "'x' has 3 of 2 bytes left"),
        ({"x": {"bytes": 1}, "y": {"bytes": 2}}, b"ab", "'y' has 2 of 1 bytes left"),
        ({"x": {"bytes": -1}}, b"ab", "'x' has -1 of 2"),
        ({"x": {"bytes": True}}, b"ab", "'x' has True of 2"),
        ({"x": {}}, b"ab", "'x' has None of 2"),
        ({"x": [2]}, b"ab", "'x' has None of 2"),
        ({"x": {"bytes": 1}}, b"ab", "1 bytes follow the last tensor"),
        ([], b"", "bundle: expected a JSON object"),
    ],
)
def test_descriptions_that_do_not_fit_the_bytes_are_refused(about, body, message):
    with pytest.raises(ProtocolError, match=message):
        unpack_bundle(entries(text_frame(json.dumps(about).encode()), body))


def test_a_description_that_would_grow_is_refused_unopened():
    for frame in (text_frame(bytes(MAX_HEADER_BYTES + 1)), text_frame(b"{}")[:3]):
        with pytest.raises(ProtocolError, match=r"the limit is 1048576|damaged zstd frame"):
            unpack_bundle(entries(frame))


def test_other_entries_are_refused():
    frame = text_frame(b"{}")
    assert unpack_bundle(entries(frame)) == {}
    for wrong in ({}, {"about": entries(frame)["about"]}, entries(frame, tag="I8")):
        with pytest.raises(ProtocolError, match="expected the U8 tensors"):
            unpack_bundle(wrong)


@settings(max_examples=60)
@given(JSON, JSON, st.binary(max_size=6))
def test_hostile_descriptions_never_escape_as_another_error(about, size, body):
    for described in (about, {"x": about}, {"x": {"bytes": size}}):
        try:
            unpack_bundle(unpack(pack(entries(text_frame(json.dumps(described).encode()), body), {}))[0])
        except ProtocolError as refusal:
            str(refusal).encode()
