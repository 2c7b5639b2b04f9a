import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.codec.chain import CHAIN, decode, encode
from fedcore.core.codec.container import Entry, pack
from fedcore.core.codec.formats import layout_bytes
from fedcore.core.codec.frames import text_frame
from fedcore.core.codec.grammar import FORMATS, parse_chain, parse_format
from fedcore.core.codec.packed import pack_tensor, packed, packed_bound
from fedcore.core.errors import FedcoreError, ProtocolError, UpdateRejected

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=5) | st.sampled_from(["gaps"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
VALUES = np.random.default_rng(0).standard_normal((20, 15)).astype(np.float32)


def container(described, size):
    about = text_frame(
        json.dumps({"x": described | {"bytes": size} if isinstance(described, dict) else described}).encode()
    )
    entries = {
        name: Entry(tag="U8", shape=(len(data),), data=memoryview(data))
        for name, data in (("about", about), ("tensors", bytes(size)))
    }
    return pack(entries, {CHAIN: "1"})


@pytest.mark.parametrize("word", FORMATS)
@pytest.mark.parametrize("count", [0, 1, 17, 300])
def test_every_format_stores_its_layout_within_the_bound(word, count):
    form = parse_format(word)
    values = VALUES.reshape(-1)[:count]
    stored = form.store(values)
    assert [(each.dtype, each.size) for each in stored] == [(np.dtype(d), size) for d, size in form.layout(count)]
    back = form.load(stored, count)
    assert back.dtype == np.float32 and back.shape == (count,)
    assert form.lossless == (np.array_equal(back, values) if count > 1 else form.lossless)
    data, _ = pack_tensor(values, parse_chain(word))
    assert len(data) == layout_bytes(form.layout(count)) == packed_bound((count,), parse_chain(word))


@pytest.mark.parametrize("codec", ["int8", "int4+zstd", "topk:0.05+fp16", "topk:0.9+int4:8+zstd"])
def test_a_tensor_comes_back_through_its_description(codec):
    data, described = pack_tensor(VALUES, parse_chain(codec))
    travelled = json.loads(json.dumps(described))
    back = packed("x", memoryview(data), travelled)
    assert back.shape == VALUES.shape
    assert np.array_equal(back.tensor(), decode(encode({"x": VALUES}, codec))["x"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shape": [2, 3]}, "30 kept values do not fit a tensor of 6"),
        ({"shape": [-1]}, "expected a shape"),
        ({"format": "int16"}, "expected one of identity"),
        ({"format": None}, "expected one of identity"),
        ({"format": "int8:1"}, "BLOCK needs"),
        ({"kept": [301, "gaps", 301]}, "do not fit a tensor of 300"),
        ({"kept": [-1, "gaps", 0]}, "do not fit a tensor of 300"),
        ({"kept": [30, "gaps", 29]}, "expected 30 to 31 bytes of positions, got 29"),
        ({"kept": [30, "bitmap", 39]}, "expected 38 to 38 bytes"),
        ({"kept": [30, "runs", 30]}, "expected number, bitmap or gaps"),
        ({"kept": [True, "gaps", 1]}, "do not fit"),
        ({"planes": [[30]]}, "plane sizes of 3 arrays"),
        ({"planes": [[30], [30], [1, 1, 1, 2]]}, "4 plane sizes of at most 1 bytes"),
        ({"planes": [[29], [30], [1, 1, 1, 1]]}, "expected 63 bytes, got 64"),
        ({"more": 1}, "expected a description of"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(changed, message):
    data, described = pack_tensor(VALUES, parse_chain("topk:0.1+int8"))
    assert len(data) == 30 + 30 + 4
    with pytest.raises(ProtocolError, match=message):
        packed("x", memoryview(data), described | {"kept": list(described["kept"]), "shape": [20, 15]} | changed)


@settings(max_examples=80)
@given(st.sampled_from(["shape", "format", "kept", "planes"]), JSON, st.integers(0, 70))
def test_hostile_descriptions_never_escape_as_another_error(key, value, size):
    sound = {"shape": [20, 15], "format": "int8:128", "kept": [30, "gaps", 30], "planes": [[30], [30], [1, 1, 1, 1]]}
    for described in (sound | {key: value}, {key: value}, value):
        try:
            dict(decode(container(described, size)))
        except FedcoreError as refusal:
            str(refusal).encode()


def test_damaged_positions_are_refused_on_access():
    with pytest.raises(ProtocolError, match="tensor 'x': positions: expected 2 below 300, got 0"):
        decode(container({"shape": [300], "format": "bf16", "kept": [2, "bitmap", 38]}, 42))["x"]


def test_a_sparse_bomb_is_refused_before_it_grows():
    bomb = container({"shape": [1 << 38], "format": "bf16", "kept": [0, "gaps", 0]}, 0)
    with pytest.raises(ProtocolError, match="refused as a bomb"):
        decode(bomb)
    with pytest.raises(UpdateRejected, match="expected \\(8,\\)"):
        decode(bomb, shapes={"x": (8,)})


@settings(max_examples=40)
@given(st.integers(0, 3000), st.floats(0.001, 1.0))
def test_the_bound_covers_every_share(size, share):
    chain = parse_chain(f"topk:{share:.3f}+int4")
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    data, described = pack_tensor(values, chain)
    assert len(data) <= packed_bound((size,), chain)
    assert math.prod(described["shape"]) == size
