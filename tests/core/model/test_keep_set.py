import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.errors import ProtocolError
from fedcore.core.model.geometry import Counts, Geometry, geometry_from_config
from fedcore.core.model.keep_set import KeepSet

SIZES = {"num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 6, "vocab_size": 20}
BERT = geometry_from_config(
    {"model_type": "bert", **SIZES, "num_attention_heads": 4, "max_position_embeddings": 16, "type_vocab_size": 2}
)
GQA = geometry_from_config(
    {"model_type": "llama", **SIZES, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 3}
)
MQA = geometry_from_config(
    {"model_type": "llama", **SIZES, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 3}
)
HALF = KeepSet(heads=((0, 3), (1, 2)), channels=((0, 2, 5), (1, 3, 4)))


def keep_sets(geometry: Geometry) -> st.SearchStrategy[KeepSet]:
    def rows(size: int, count: int) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
        one = st.permutations(range(size)).map(lambda order: tuple(sorted(order[:count])))
        return st.tuples(*[one] * geometry.layers)

    counts = st.tuples(st.integers(1, geometry.head_units), st.integers(1, geometry.ffn))
    return counts.flatmap(
        lambda count: st.builds(
            KeepSet, heads=rows(geometry.head_units, count[0]), channels=rows(geometry.ffn, count[1])
        )
    )


def test_the_full_set_removes_nothing() -> None:
    full = KeepSet.full(GQA)
    assert full.counts == Counts(2, 6)
    assert full.sparsity(GQA) == 0.0
    full.validate(GQA)


def test_counts_and_sparsity() -> None:
    assert HALF.counts == Counts(2, 3)
    assert HALF.sparsity(BERT) == 0.5


def test_layers_that_differ_have_no_counts() -> None:
    ragged = KeepSet(heads=((0,), (0, 1)), channels=((1,), (1,)))
    with pytest.raises(ProtocolError, match=r"not uniform over layers: .* \[\(1, 1\), \(2, 1\)\]"):
        _ = ragged.counts


def test_heads_and_channels_have_as_many_layers() -> None:
    with pytest.raises(ProtocolError, match="heads of 1 layers and channels of 2"):
        KeepSet(heads=((0,),), channels=((0,), (0,)))


def test_pruning_never_goes_back() -> None:
    full = KeepSet.full(BERT)
    assert HALF.is_subset_of(HALF) and HALF.is_subset_of(full) and not full.is_subset_of(HALF)
    moved = KeepSet(heads=((0, 2), (1, 2)), channels=HALF.channels)
    assert not moved.is_subset_of(HALF)
    assert not HALF.is_subset_of(KeepSet(heads=full.heads[:1], channels=full.channels[:1]))


def test_indices_follow_the_cut() -> None:
    assert np.array_equal(HALF.indices(BERT, 0, "q"), [0, 1, 6, 7])  # two rows per head
    assert np.array_equal(HALF.indices(BERT, 1, "o"), [2, 3, 4, 5])
    assert np.array_equal(HALF.indices(BERT, 1, "down"), [1, 3, 4])


def test_indices_of_grouped_heads_take_all_their_queries() -> None:
    kept = KeepSet(heads=((1,), (0,)), channels=((0,), (0,)))
    assert np.array_equal(kept.indices(GQA, 0, "q"), [6, 7, 8, 9, 10, 11])
    assert np.array_equal(kept.indices(GQA, 0, "k"), [3, 4, 5])
    assert kept.indices(MQA, 0, "k") is None
    assert np.array_equal(kept.indices(MQA, 0, "o"), [3, 4, 5])


BAD = [
    (KeepSet(heads=((0,),), channels=((0,),)), "keep-set has 1 layers, the model 2"),
    (KeepSet(heads=((0,), ()), channels=((0,), (0,))), r"layer 1: expected sorted head unit indices in \[0, 4\)"),
    (KeepSet(heads=((1, 0), (0, 1)), channels=((0,), (0,))), "layer 0: expected sorted head unit"),
    (KeepSet(heads=((0, 0), (0, 1)), channels=((0,), (0,))), "layer 0: expected sorted head unit"),
    (KeepSet(heads=((-1,), (0,)), channels=((0,), (0,))), "layer 0: expected sorted head unit"),
    (KeepSet(heads=((4,), (0,)), channels=((0,), (0,))), "layer 0: expected sorted head unit"),
    (KeepSet(heads=((0,), (0,)), channels=((0,), (6,))), r"layer 1: expected sorted channel indices in \[0, 6\)"),
    (KeepSet(heads=((0,), (0,)), channels=((0,), (0, 1))), "not uniform over layers"),
]


@pytest.mark.parametrize(("keep_set", "message"), BAD)
def test_an_illegal_set_is_refused(keep_set: KeepSet, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        keep_set.validate(BERT)


def test_the_bytes_are_canonical_and_name_the_blob() -> None:
    data = b'{"channels":[[0,2,5],[1,3,4]],"heads":[[0,3],[1,2]]}'
    assert HALF.to_bytes() == data
    assert HALF.blob_id == "sha256:" + hashlib.sha256(data).hexdigest()


NOT_KEEP_SETS = [
    b"",
    b"[]",
    b"3",
    b"null",
    b"\xff",
    b"{}",
    b'{"heads":[[0]]}',
    b'{"heads":[0],"channels":[[0]]}',
    b'{"heads":[["x"]],"channels":[[0]]}',
    b'{"channels":[[Infinity]],"heads":[[0]]}',
    b'{"channels":[[NaN]],"heads":[[0]]}',
    b'{"channels":[[0],[0]],"heads":[[0]]}',
    b'{"channels":[[0.0]],"heads":[[0]]}',
    b'{"channels":[[true]],"heads":[[0]]}',
    b'{"channels":[["0"]],"heads":[[0]]}',
    b'{"heads":[[0]],"channels":[[0]]}',  # another order of keys
    b'{"channels": [[0]], "heads": [[0]]}',
    b'{"channels":[[0]],"heads":[[0]],"more":1}',
    b'{"channels":' + b"[" * 100_000,
]


@pytest.mark.parametrize("data", NOT_KEEP_SETS, ids=range(len(NOT_KEEP_SETS)))
def test_other_bytes_are_no_keep_set(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="keep-set"):
        KeepSet.from_bytes(data)


@given(st.sampled_from([BERT, GQA, MQA]).flatmap(lambda geometry: st.tuples(st.just(geometry), keep_sets(geometry))))
def test_legal_sets_survive_their_bytes_and_nest_in_the_full_one(drawn: tuple[Geometry, KeepSet]) -> None:
    geometry, keep_set = drawn
    keep_set.validate(geometry)
    again = KeepSet.from_bytes(keep_set.to_bytes())
    assert again == keep_set and again.blob_id == keep_set.blob_id
    assert json.loads(keep_set.to_bytes())["heads"] == [list(row) for row in keep_set.heads]
    assert keep_set.is_subset_of(KeepSet.full(geometry))
    for module in geometry.modules:
        cut, kept = geometry.cut(module), keep_set.indices(geometry, 1, module)
        if cut is not None and kept is not None:
            out, into = geometry.shape(module, keep_set.counts)
            assert len(kept) == (out if cut.side == "out" else into)
            assert np.all(np.diff(kept) > 0)


@pytest.mark.parametrize("geometry", [BERT, GQA, MQA], ids=["bert", "gqa", "mqa"])
@given(data=st.data())
def test_bits_give_the_keep_set_back(geometry: Geometry, data: st.DataObject) -> None:
    kept = data.draw(keep_sets(geometry))
    again = KeepSet.from_bits(kept.to_bits(geometry))
    assert again == kept and again.blob_id == kept.blob_id
    assert len(kept.to_bits(geometry)) == 12 + -(-geometry.layers * (geometry.head_units + geometry.ffn) // 8)


PADDED = HALF.to_bits(BERT)[:-1] + bytes([HALF.to_bits(BERT)[-1] | 1])  # 20 groups in 24 bits


@pytest.mark.parametrize(
    "data", [b"", b"\x01\x00", bytes(12), bytes(40), HALF.to_bits(BERT)[:-1], HALF.to_bytes(), PADDED]
)
def test_bytes_that_are_no_packed_keep_set_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a packed keep-set"):
        KeepSet.from_bits(data)
