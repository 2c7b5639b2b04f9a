"""Classifiers with an adapter that does something, a batch for them, and scores by the plainest means."""

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.model.geometry import Geometry
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import adapted, attach, factors
from tests.tiny_classifiers import tiny_classifier
from tests.tiny_models import tiny_batch

MEMBERS = {"heads": ("q", "k", "v", "o"), "channels": ("gate", "up", "down")}


def adapted_classifier(family: str, targets: tuple[str, ...] = ()) -> Classifier:
    classifier = tiny_classifier(family)
    attach(classifier, rank=3, scale=2.0, targets=targets or classifier.geometry.modules)
    draw = torch.Generator().manual_seed(1)
    for _, layer in adapted(classifier):
        b = factors(layer)[1]
        b.data = torch.randn(b.shape, generator=draw) * 0.1
    return classifier.model.eval() and classifier


def labelled_batch() -> dict[str, torch.Tensor]:
    batch = tiny_batch()
    return batch | {"labels": torch.arange(len(batch["input_ids"])) % 2}


def loss_of(classifier: Classifier) -> torch.Tensor:
    batch = labelled_batch()
    labels = batch.pop("labels")
    return torch.nn.functional.cross_entropy(classifier.model(**batch).logits, labels)


def grouped(geometry: Geometry, module: str, product: np.ndarray) -> np.ndarray:
    """|product| (out, in) summed per group by the plainest means."""
    cut = geometry.cut(module)
    assert cut is not None
    lines = product if cut.side == "out" else product.T
    return np.array([np.abs(lines[i : i + cut.width]).sum() for i in range(0, len(lines), cut.width)])


def joined(geometry: Geometry, vectors: dict[tuple[int, str], np.ndarray], kind: str, layer: int) -> np.ndarray:
    members = [vectors[layer, module] for module in MEMBERS[kind] if (layer, module) in vectors]
    total = sum(each / np.linalg.norm(each) for each in members)
    return total / np.linalg.norm(total)


def assert_scores(scores: GroupScores, geometry: Geometry, vectors: dict[tuple[int, str], np.ndarray]) -> None:
    for kind in ("heads", "channels"):
        for layer, got in enumerate(getattr(scores, kind)):
            np.testing.assert_allclose(got, joined(geometry, vectors, kind, layer), rtol=2e-4, atol=1e-6)
            assert got.dtype == np.float32


def effective(classifier: Classifier, layer: int, module: str) -> np.ndarray:
    """W + s B A (out, in), formed whole."""
    found = classifier.linear(layer, module)
    weight = classifier.base_linear(layer, module).weight.detach().double()
    if hasattr(found, "base_layer"):
        a, b = (each.detach().double() for each in factors(found))
        weight = weight + found.scaling["default"] * b @ a
    return weight.numpy()


class LargestTensor(TorchDispatchMode):
    """Records the shapes of all new tensors, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        views = {"aten::t", "aten::view", "aten::detach", "aten::transpose.int", "aten::alias", "aten::permute"}
        if func.name() not in views:
            self.shapes |= {tuple(leaf.shape) for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        return result
