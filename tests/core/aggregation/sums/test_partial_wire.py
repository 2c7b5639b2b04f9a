import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load

from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.aggregation.rules.delta_stack import delta_stack
from fedcore.core.aggregation.sums.members import Members
from fedcore.core.aggregation.sums.partial_wire import (
    MANIFEST,
    keys_of,
    members_of,
    members_record,
    pack_partial,
    unpack_partial,
)
from fedcore.core.codec.container import Entry, Outline, opening, pack, unpack
from fedcore.core.errors import ProtocolError, UpdateRejected
from tests.core.aggregation.cohort import fold_all, make_cohort, make_spec

SPEC = make_spec()
MEAN = FactorMean()


def blob_of(count=3):
    return b"".join(MEAN.pack(fold_all(MEAN, SPEC, make_cohort(SPEC, np.random.default_rng(0))[:count])))


def forged(blob, *, drop=(), add=None, **changes):
    """The blob with other tensors and other fields of its manifest."""
    entries, _ = unpack(blob)
    manifest = json.loads(bytes(entries[MANIFEST].data)) | changes
    text = json.dumps(manifest).encode()
    entries[MANIFEST] = Entry(tag="U8", shape=(len(text),), data=memoryview(text))
    return pack({name: each for name, each in entries.items() if name not in drop} | (add or {}), {})


def test_it_comes_in_pieces_that_are_the_blob():
    partial = fold_all(MEAN, SPEC, make_cohort(SPEC, np.random.default_rng(0)))
    pieces = list(MEAN.pack(partial))
    assert len(pieces) > len(SPEC.shapes()) and b"".join(pieces) == b"".join(MEAN.pack(partial))


def test_large_tensors_come_in_small_pieces():
    total = np.arange(1_000_000).reshape(1000, 1000) << 12
    pieces = [memoryview(piece).nbytes for piece in pack_partial({"aggregator": "x"}, {"t": total}, {})]
    assert max(pieces) <= 1 << 19 and sum(pieces) > 5_000_000


def test_ordinary_tools_open_it():
    tensors = load(blob_of())
    assert json.loads(tensors[MANIFEST].tobytes())["aggregator"] == "factor-mean"
    assert {name.split("/")[0] for name in tensors} == {MANIFEST, *SPEC.shapes()}


def test_wider_tensors_come_first():
    blob = blob_of()
    body = 8 + int.from_bytes(blob[:8], "little")
    entries, widths = unpack(blob)[0], {"U8": 1, "I8": 1, "U32": 4, "I32": 4, "I16": 2, "I64": 8}
    base = np.frombuffer(blob, dtype=np.uint8).ctypes.data
    for entry in entries.values():
        at = np.frombuffer(entry.data, dtype=np.uint8).ctypes.data - base
        assert (at - body) % widths[entry.tag] == 0 and body % 8 == 0


def test_members_come_back():
    members = Members(keys=frozenset({("b", 2), ("a", 10), ("a", 9)}), weight=7)
    record = members_record(members)
    assert record == {"members": [["a", 9], ["a", 10], ["b", 2]], "weight": 7}
    assert members_of(json.loads(json.dumps(record))) == members


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"aggregator": "delta-stack"}, UpdateRejected, "expected one of aggregator factor-mean, got 'delta-stack'"),
        ({"aggregator": None}, UpdateRejected, "got 'None'"),
        ({"members": "ab"}, ProtocolError, "expected a list of members"),
        ({"members": [["b", 1], ["a", 1]]}, ProtocolError, "sorted by device and round, each once"),
        ({"members": [["a", 1], ["a", 1]]}, ProtocolError, "each once"),
        ({"members": [["a"]]}, ProtocolError, r"expected \[device, round\]"),
        ({"members": [[1, "a"]]}, ProtocolError, r"expected \[device, round\]"),
        ({"members": [["a" * 64, 1]]}, ProtocolError, r"expected \[device, round\]"),
        ({"members": [["a", -1]]}, ProtocolError, "expected a round as a count"),
        ({"members": [["a", True]]}, ProtocolError, "expected a round as a count"),
        ({"weight": "3"}, ProtocolError, "expected weight as a count"),
        ({"weight": 2}, UpdateRejected, "partial of 3 members: expected a total weight"),
        ({"weight": 2**24 + 1}, UpdateRejected, "got 16777217"),
        ({"members": []}, UpdateRejected, "without any member"),
        ({"members": [], "weight": 0}, UpdateRejected, "its weight cannot reach"),
    ],
)
def test_a_false_manifest_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        MEAN.unpack(forged(blob_of(), **changes), SPEC)


def test_false_tensors_are_refused():
    one = Entry(tag="I32", shape=(1,), data=memoryview(bytes(4)))
    with pytest.raises(UpdateRejected, match=r"unexpected tensors \['extra'\]"):
        MEAN.unpack(forged(blob_of(), add={"extra": one}), SPEC)
    with pytest.raises(UpdateRejected, match=r"expected integer sums layers\.0\.q\.A"):
        MEAN.unpack(forged(blob_of(), drop=("layers.0.q.A/high", "layers.0.q.A")), SPEC)
    with pytest.raises(UpdateRejected, match=r"head.bias has shape \[1\], expected \[3\]"):
        MEAN.unpack(forged(blob_of(), drop=("head.bias/low", "head.bias/high"), add={"head.bias": one}), SPEC)
    with pytest.raises(UpdateRejected, match="has shape"):
        MEAN.unpack(blob_of(), make_spec(rank=4))


@pytest.mark.parametrize("aggregator", [MEAN, delta_stack()], ids=lambda each: each.name)
@pytest.mark.parametrize("change", [b"", b"\x00" * 7, b"no partial at all"])
def test_what_is_no_container_is_a_protocol_error(aggregator, change):
    with pytest.raises(ProtocolError):
        aggregator.unpack(change, SPEC)


@pytest.mark.parametrize("cut", [9, 100, -1])
def test_a_blob_cut_off_is_a_protocol_error(cut):
    with pytest.raises(ProtocolError):
        MEAN.unpack(blob_of()[:cut], SPEC)


def test_without_a_manifest_it_is_no_partial():
    with pytest.raises(ProtocolError, match="expected a U8 tensor 'partial'"):
        unpack_partial(pack({}, {}), "factor-mean")
    text = b"[]"
    with pytest.raises(ProtocolError, match="partial's manifest: expected a JSON object"):
        unpack_partial(opening({MANIFEST: Outline(tag="U8", shape=(2,))}, {}) + text, "factor-mean")


@pytest.mark.parametrize("aggregator", [MEAN, delta_stack()], ids=lambda each: each.name)
@pytest.mark.parametrize("on_the_left", [False, True])
def test_the_buffer_may_go_once_it_is_merged(aggregator, on_the_left):
    updates = make_cohort(SPEC, np.random.default_rng(1))
    blob = bytearray(b"".join(aggregator.pack(fold_all(aggregator, SPEC, updates))))
    expected = b"".join(aggregator.pack(fold_all(aggregator, SPEC, updates)))
    sides = aggregator.start(SPEC), aggregator.unpack(memoryview(blob), SPEC)
    merged = aggregator.merge(*(reversed(sides) if on_the_left else sides))
    del sides
    blob[:] = bytes(len(blob))
    blob.clear()  # raises BufferError while anything still looks into it
    assert b"".join(aggregator.pack(merged)) == expected


def test_the_bound_holds_for_the_longest_names_and_widest_sums():
    updates = [
        replace(update, device="d" * 61 + f"{index:02}", round=2**63 - 1, weight=2**21)
        for index, update in enumerate(make_cohort(SPEC, np.random.default_rng(2)))
    ]
    for aggregator in (MEAN, delta_stack()):
        blob = b"".join(aggregator.pack(fold_all(aggregator, SPEC, updates)))
        assert len(blob) <= aggregator.packed_bytes_bound(SPEC, len(updates))


def test_rows_may_carry_more_than_the_key():
    assert keys_of([["a", 1, 5], ["a", 2, 6]]) == [("a", 1), ("a", 2)]
