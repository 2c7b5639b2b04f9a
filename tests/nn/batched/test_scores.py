"""Stacked sums and running averages in exact numbers; whole scores are compared in test_train."""

import numpy as np
import pytest
import torch

from fedcore.core.model.geometry import Cut
from fedcore.nn.batched import scores
from fedcore.nn.batched.lora import StackedLora
from fedcore.nn.batched.scores import StackedAverages, group_scores, stacked_group_sums
from fedcore.nn.criteria.lora_taylor import DECAY
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.scorer import GroupState
from tests.tiny_classifiers import tiny_classifier
from tests.tiny_models import random_keep_set


@pytest.mark.parametrize("cut", [Cut(unit="head", side="out", width=2), Cut(unit="head", side="in", width=3)])
@pytest.mark.parametrize("block_values", [1, 17, 1 << 20])
def test_sums_equal_the_formula_for_every_device(cut: Cut, block_values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "BLOCK_VALUES", block_values)
    draw = torch.Generator().manual_seed(0)
    layer = StackedLora(torch.nn.Linear(6, 4), 2.0)
    layer.a, layer.b = torch.randn(3, 2, 6, generator=draw), torch.randn(3, 4, 2, generator=draw)
    gradient = torch.randn(3, 4, 6, generator=draw)
    got = stacked_group_sums(layer, cut, 3, lambda rows: gradient[:, rows].clone())
    product = (gradient * (layer.base_layer.weight.detach() + 2.0 * layer.b @ layer.a)).abs()
    lines = product.sum(dim=2 if cut.side == "out" else 1)
    torch.testing.assert_close(got, lines.view(3, -1, cut.width).sum(dim=2))


def test_averages_move_for_finite_devices_and_kept_groups_only() -> None:
    classifier = tiny_classifier("bert")
    geometry = classifier.geometry
    shrink(classifier, random_keep_set(classifier.keep_set, heads=2, channels=3))
    averages = StackedAverages(classifier, [None, GroupState.full(geometry, 1.0), None])
    ones = {(layer, module): torch.ones(2, 2 if module == "q" else 3) for layer in (0, 1) for module in ("q", "up")}
    ones[1, "up"][0, 0] = torch.nan
    averages.observe([0, 1], ones)
    first, second, third = averages.states()
    assert not first.heads.any() and not first.channels.any(), "a vector with NaN is left out"
    assert not third.heads.any(), "the device was not in the pass"
    kept = list(classifier.keep_set.heads[0])
    np.testing.assert_allclose(second.heads[0, kept], DECAY + (1 - DECAY) * 2**-0.5, rtol=1e-6)
    removed = sorted(set(range(geometry.head_units)) - set(kept))
    assert (second.heads[0, removed] == 1.0).all()
    for vector in (*averages.scores()[1].heads, *averages.scores()[1].channels):
        assert np.linalg.norm(vector) == pytest.approx(1.0, rel=1e-6)


def test_group_scores_are_split_by_device() -> None:
    classifier = tiny_classifier("bert")
    geometry = classifier.geometry
    units = {"q": geometry.head_units, "up": geometry.ffn}
    vectors = {
        (layer, module): torch.stack([torch.eye(count)[0], torch.eye(count)[1]])
        for layer in range(geometry.layers)
        for module, count in units.items()
    }
    for device, found in enumerate(group_scores(vectors, classifier)):
        for vector in (*found.heads, *found.channels):
            assert vector[device] == 1.0 and vector.sum() == 1.0
