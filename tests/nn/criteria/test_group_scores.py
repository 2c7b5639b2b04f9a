"""Sums per group in exact numbers, and how the members of a layer are joined."""

import numpy as np
import pytest
import torch

from fedcore.core.errors import ConfigError
from fedcore.core.model.geometry import Cut
from fedcore.nn.criteria.group_scores import column_sums, combine, effective_weight, group_sums, row_sums, unit_norm
from tests.scored import adapted_classifier, effective
from tests.tiny_classifiers import tiny_classifier

ROWS, COLUMNS = Cut(unit="head", side="out", width=2), Cut(unit="head", side="in", width=3)
WEIGHT = torch.tensor([[1.0, -2.0, 0.0], [0.0, 1.0, 3.0], [2.0, 0.0, 1.0], [-1.0, 1.0, 0.0]])  # (out, in)


def layer() -> torch.nn.Linear:
    linear = torch.nn.Linear(3, 4, bias=False)
    linear.weight.data = WEIGHT.clone()
    return linear


@pytest.mark.parametrize("block_rows", [1, 3, 64])
def test_sums_do_not_depend_on_the_size_of_a_block(block_rows: int) -> None:
    assert row_sums(layer(), torch.abs, block_rows).tolist() == [3, 4, 3, 2]
    assert column_sums(layer(), torch.square, block_rows).tolist() == [6, 6, 10]
    gradient = torch.tensor([[1.0, 1.0, 1.0], [5.0, -1.0, 0.0], [0.5, 7.0, 2.0], [1.0, 0.0, 9.0]])
    # |gradient x weight|: rows sum to 3, 1, 3, 1
    assert group_sums(layer(), ROWS, lambda rows: gradient[rows].clone(), block_rows).tolist() == [4, 4]
    assert group_sums(layer(), COLUMNS, lambda rows: gradient[rows].clone(), block_rows).tolist() == [8]


@pytest.mark.parametrize("family", ["bert", "llama-gqa"])
def test_an_effective_weight_has_its_adapter_in_every_part(family: str) -> None:
    classifier = adapted_classifier(family)
    expected = effective(classifier, 0, "up")
    part = effective_weight(classifier.linear(0, "up"), slice(3, 9), slice(2, 7))
    np.testing.assert_allclose(part.numpy(), expected[3:9, 2:7], rtol=1e-5, atol=1e-6)


def test_unit_norm_makes_a_zero_vector_uniform() -> None:
    scaled = unit_norm(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [[0.6, 0.8], [2**-0.5, 2**-0.5]], rtol=1e-6)


def test_a_layer_without_a_member_is_refused_unless_it_does_not_train() -> None:
    geometry = tiny_classifier("bert").geometry
    vectors = {(1, "q"): torch.ones(geometry.head_units), (1, "up"): torch.ones(geometry.ffn)}
    with pytest.raises(ConfigError, match="no adapter touches the heads of layer 0"):
        combine(vectors, geometry, layers=range(geometry.layers))
    scores = combine(vectors, geometry, layers=range(1, geometry.layers))
    assert [len(row) for row in (*scores.heads, *scores.channels)] == [0, geometry.head_units, 0, geometry.ffn]
    np.testing.assert_allclose(scores.heads[1], np.full(geometry.head_units, geometry.head_units**-0.5), rtol=1e-6)


def test_members_count_alike_whatever_their_size() -> None:
    geometry = tiny_classifier("bert").geometry
    one, two = torch.arange(1.0, 1 + geometry.head_units), torch.ones(geometry.ffn)
    vectors = {
        (i, m): (one if geometry.cut(m).unit == "head" else two)
        for i in range(geometry.layers)
        for m in geometry.modules
    }
    scaled = {key: value * (1000.0 if key[1] == "q" else 1.0) for key, value in vectors.items()}
    layers = range(geometry.layers)
    of_all, of_scaled = (combine(each, geometry, layers=layers).heads for each in (vectors, scaled))
    for left, right in zip(of_all, of_scaled, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6)
