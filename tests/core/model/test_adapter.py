import itertools
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.errors import ConfigError, ModelError
from fedcore.core.model.adapter import AdapterSpec, initial_adapter, rank_blocks, restrict, tensor_reader
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.keep_set import KeepSet

BERT = geometry_from_config(
    {
        "model_type": "bert",
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "num_attention_heads": 4,
        "intermediate_size": 6,
        "vocab_size": 20,
        "max_position_embeddings": 16,
    }
)
HEAD = (("head.bias", (3,)), ("head.weight", (3, 8)))
SPEC = AdapterSpec(geometry=BERT, rank=4, targets=("q", "o", "down"), head=HEAD)
KEPT = KeepSet(heads=((0, 3), (1, 2)), channels=((0, 2, 5), (1, 3, 4)))


def test_shapes_of_the_whole_adapter() -> None:
    assert SPEC.shapes() == {
        "layers.0.q.A": (4, 8),
        "layers.0.q.B": (8, 4),
        "layers.0.o.A": (4, 8),
        "layers.0.o.B": (8, 4),
        "layers.0.down.A": (4, 6),
        "layers.0.down.B": (8, 4),
        "layers.1.q.A": (4, 8),
        "layers.1.q.B": (8, 4),
        "layers.1.o.A": (4, 8),
        "layers.1.o.B": (8, 4),
        "layers.1.down.A": (4, 6),
        "layers.1.down.B": (8, 4),
        "head.bias": (3,),
        "head.weight": (3, 8),
    }
    assert SPEC.num_values() == 2 * (4 * 16 + 4 * 16 + 4 * 14) + 3 + 24


def test_a_holder_has_a_prefix_of_the_rank_and_the_kept_side() -> None:
    shapes = SPEC.shapes(rank=2, keep_set=KEPT)
    assert shapes["layers.0.q.A"] == (2, 8) and shapes["layers.0.q.B"] == (4, 2)  # rows of B
    assert shapes["layers.0.o.A"] == (2, 4) and shapes["layers.0.o.B"] == (8, 2)  # columns of A
    assert shapes["layers.1.down.A"] == (2, 3) and shapes["head.weight"] == (3, 8)
    assert SPEC.num_values(rank=2, keep_set=KEPT) == 2 * 2 * (12 + 12 + 11) + 27


def test_modules_come_layer_by_layer_in_the_order_of_the_targets() -> None:
    assert list(SPEC.modules())[:4] == [(0, "q"), (0, "o"), (0, "down"), (1, "q")]


@pytest.mark.parametrize(
    ("rank", "targets", "message"),
    [
        (0, ("q",), "adapter rank must be at least 1, got 0"),
        (4, (), r"training.targets: expected some of .*; got none"),
        (4, ("q", "gate"), r"training.targets: expected some of q, k, v, o, up, down; got gate"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(rank: int, targets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdapterSpec(geometry=BERT, rank=rank, targets=targets, head=HEAD)


def test_the_first_adapter_changes_nothing_but_can_learn() -> None:
    tensors = initial_adapter(SPEC, np.random.default_rng(0))
    assert {name: value.shape for name, value in tensors.items()} == SPEC.shapes()
    for name, value in tensors.items():
        assert value.dtype == np.float32
        if name.endswith(".B") or name == "head.bias":
            assert not value.any()
    bound = 1 / np.sqrt(6)
    drawn = tensors["layers.0.down.A"]
    assert np.abs(drawn).max() <= bound and np.abs(drawn).mean() == pytest.approx(bound / 2, rel=0.3)
    assert tensors["head.weight"].std() == pytest.approx(0.02, rel=0.4)


def test_equal_generators_give_equal_adapters() -> None:
    one, two = (initial_adapter(SPEC, np.random.default_rng(7)) for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["layers.0.q.A"], one["layers.1.q.A"])


def test_a_checkpoint_s_head_is_taken_over() -> None:
    given_head = {"head.weight": np.full((3, 8), 0.5, dtype=np.float32)}
    tensors = initial_adapter(SPEC, np.random.default_rng(0), given_head)
    assert np.array_equal(tensors["head.weight"], given_head["head.weight"])
    assert tensors["head.weight"] is not given_head["head.weight"]
    assert not tensors["head.bias"].any()
    assert np.array_equal(
        tensors["layers.1.q.A"], initial_adapter(SPEC, np.random.default_rng(0), given_head)["layers.1.q.A"]
    )


def test_a_head_of_another_shape_is_refused() -> None:
    with pytest.raises(ModelError, match=r"head.weight of the checkpoint has shape \(2, 8\), expected \(3, 8\)"):
        initial_adapter(SPEC, np.random.default_rng(0), {"head.weight": np.zeros((2, 8), dtype=np.float32)})


def test_a_holder_sees_the_rows_it_keeps() -> None:
    tensors = {
        name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for name, shape in SPEC.shapes().items()
    }
    held = restrict(SPEC, tensors, rank=2, keep_set=KEPT)
    assert {name: value.shape for name, value in held.items()} == SPEC.shapes(rank=2, keep_set=KEPT)
    assert np.array_equal(held["layers.0.q.A"], tensors["layers.0.q.A"][:2])
    assert np.array_equal(held["layers.0.q.B"], tensors["layers.0.q.B"][[0, 1, 6, 7], :2])
    assert np.array_equal(held["layers.1.o.A"], tensors["layers.1.o.A"][:2][:, [2, 3, 4, 5]])
    assert np.array_equal(held["layers.1.down.A"], tensors["layers.1.down.A"][:2][:, [1, 3, 4]])
    assert np.array_equal(held["head.weight"], tensors["head.weight"])
    assert all(value.flags.c_contiguous for value in held.values())


@given(st.integers(1, 4), st.integers(1, 4))
def test_a_smaller_holder_s_adapter_is_a_prefix_of_a_larger_one_s(one: int, two: int) -> None:
    tensors = initial_adapter(SPEC, np.random.default_rng(1))
    small, large = sorted((one, two))
    narrow = restrict(SPEC, tensors, rank=small, keep_set=KEPT)
    wide = restrict(SPEC, tensors, rank=large, keep_set=KEPT)
    for layer, module in SPEC.modules():
        key = f"layers.{layer}.{module}"
        assert np.array_equal(narrow[f"{key}.A"], wide[f"{key}.A"][:small])
        assert np.array_equal(narrow[f"{key}.B"], wide[f"{key}.B"][:, :small])


@pytest.mark.parametrize(
    ("rank", "blocks"),
    [
        (1, ((0, 1),)),
        (4, ((0, 4),)),
        (5, ((0, 4), (4, 5))),
        (8, ((0, 4), (4, 8))),
        (16, ((0, 4), (4, 8), (8, 16))),
        (64, ((0, 4), (4, 8), (8, 16), (16, 64))),
        (0, ()),
    ],
)
def test_rank_blocks_end_at_the_asked_ranks(rank: int, blocks: tuple[tuple[int, int], ...]) -> None:
    assert rank_blocks(rank, (4, 8, 16)) == blocks


@given(st.integers(1, 5000), st.lists(st.integers(1, 5000), min_size=1, unique=True))
def test_rank_blocks_cover_the_ranks_and_bring_nobody_too_much(rank: int, asked: list[int]) -> None:
    blocks = rank_blocks(rank, asked)
    assert blocks[0][0] == 0 and blocks[-1][1] == rank
    assert all(left[1] == right[0] for left, right in itertools.pairwise(blocks))
    for held in asked:
        assert [block for block in blocks if block[0] < held][-1][1] == min(held, rank)


def test_shapes_are_the_callers_own_however_often_they_were_asked_for() -> None:
    first = SPEC.shapes(rank=2)
    first.clear()
    assert SPEC.shapes(rank=2)["layers.0.q.A"] == (2, BERT.hidden)
    assert SPEC.shapes(rank=3)["layers.0.q.A"] == (3, BERT.hidden)


def test_an_adapter_is_read_and_only_a_dict_can_be_consumed() -> None:
    value = np.ones(2, dtype=np.float32)
    adapter = {"head.bias": value}
    assert tensor_reader(MappingProxyType(adapter), consume=False)("head.bias") is value
    assert tensor_reader(adapter, consume=True)("head.bias") is value and adapter == {}
    with pytest.raises(ValueError, match="must be a dict, got mappingproxy"):
        tensor_reader(MappingProxyType({}), consume=True)
