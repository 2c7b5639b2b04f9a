import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedcore.core.codec.container import MAX_HEADER_BYTES, Entry, checked_shape, pack, parse_object, unpack
from fedcore.core.errors import ProtocolError


def entry(values):
    return Entry(tag="F32", shape=values.shape, data=memoryview(values.tobytes()))


def forge(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def described(**changes):
    return {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes


TENSORS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array(7, dtype=np.float32)}


def test_ordinary_tools_open_it():
    packed = pack({name: entry(value) for name, value in TENSORS.items()}, {"note": "x"})
    loaded = load(packed)
    assert set(loaded) == {"a", "b"}
    assert all(np.array_equal(loaded[name], value) for name, value in TENSORS.items())


def test_it_opens_what_ordinary_tools_write():
    entries, metadata = unpack(save(TENSORS, metadata={"note": "x"}))
    assert metadata == {"note": "x"}
    assert entries["b"].shape == (2, 3) and bytes(entries["b"].data) == TENSORS["b"].tobytes()


def test_order_of_the_mapping_does_not_change_the_bytes():
    entries = {name: entry(value) for name, value in TENSORS.items()}
    assert pack(entries, {}) == pack(dict(reversed(entries.items())), {})


def test_a_header_seen_before_is_held_against_its_own_body_again():
    header = {"x": described(), "__metadata__": {"note": "x"}}
    for body in (b"1234", b"5678"):
        entries, metadata = unpack(forge(header, body))
        assert bytes(entries["x"].data) == body and metadata == {"note": "x"}
        metadata["note"] = entries["y"] = None  # the caller's own
    for body in (b"123", b"12345"):
        with pytest.raises(ProtocolError, match=r"cut off or damaged|follow the last tensor"):
            unpack(forge(header, body))


def test_data_is_aligned_and_not_copied():
    packed = pack({"x": entry(np.ones(3, dtype=np.float32))}, {})
    assert int.from_bytes(packed[:8], "little") % 8 == 0
    assert unpack(packed)[0]["x"].data.obj is packed


def test_no_tensors_is_a_container_too():
    assert unpack(pack({}, {})) == ({}, {})


def test_reserved_names_and_giant_headers_are_not_written():
    with pytest.raises(ValueError, match="__metadata__"):
        pack({"__metadata__": entry(np.ones(1, dtype=np.float32))}, {})
    with pytest.raises(ValueError, match="limit"):
        pack({}, {"x": "y" * MAX_HEADER_BYTES})


@pytest.mark.parametrize(
    ("buffer", "message"),
    [
        (b"", "at least 8 bytes, got 0"),
        (b"\x01\x02", "at least 8 bytes, got 2"),
        (b"\xff" * 8, "announces a header of 18446744073709551615"),
        ((100).to_bytes(8, "little") + b"{}", "announces a header of 100"),
        (forge(b"{"), "not valid JSON"),
        (forge(b"\xff\xfe"), "not valid JSON"),
        (forge(b"[" * 100_000), "not valid JSON"),
        (forge(b"9" * 10_000), "not valid JSON"),
        (forge(b"[]"), "expected a JSON object, got list"),
        (forge(b'{"a":1,"a":2}'), "a key is repeated"),
        (forge({"__metadata__": {"a": 1}}), "strings to strings"),
        (forge({"__metadata__": []}), "strings to strings"),
        (forge({"x": 3}), "expected dtype, shape and data_offsets"),
        (
            forge({"x": described(dtype="F64")}, bytes(4)),
            "expected a dtype of F32, BF16, F16, U8, I8, I16, I32, U32, I64, got 'F64'",
        ),
        (forge({"x": described(dtype=["F32"])}, bytes(4)), "expected a dtype of"),
        (forge({"x": described(shape=[-1])}, bytes(4)), "counts"),
        (forge({"x": described(shape=[True])}, bytes(4)), "counts"),
        (forge({"x": described(shape=[1.0])}, bytes(4)), "counts"),
        (forge({"x": described(shape="1")}, bytes(4)), "counts"),
        (forge({"x": described(shape=[1] * 9)}, bytes(4)), "at most 8 counts"),
        (forge({"x": described(shape=[0, 2**62], data_offsets=[0, 0])}), "at most 1099511627776 values"),
        (forge({"x": described(data_offsets=[0])}, bytes(4)), "two counts"),
        (forge({"x": described(data_offsets=[4, 0])}, bytes(4)), "ends before it starts"),
        (forge({"x": described(data_offsets=[0, 8])}, bytes(8)), "needs 4 bytes"),
        (forge({"x": described()}, bytes(3)), "cut off or damaged"),
        (forge({"x": described()}, bytes(5)), "1 bytes follow the last tensor"),
        (forge({"x": described(data_offsets=[1, 5])}, bytes(5)), "gap at byte 0"),
        (forge({"x": described(), "y": described()}, bytes(4)), "overlap"),
    ],
)
def test_malformed_buffers_are_refused_by_name(buffer, message):
    with pytest.raises(ProtocolError, match=message):
        unpack(buffer)


def test_shapes_and_objects_stand_alone():
    assert checked_shape([2, 3], "x") == (2, 3)
    assert parse_object('{"a":[1]}', "thing") == {"a": [1]}
    with pytest.raises(ProtocolError, match="thing is not valid JSON"):
        parse_object("{", "thing")
