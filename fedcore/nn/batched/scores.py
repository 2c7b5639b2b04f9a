"""Group scores of many devices at once, equal to those of the criteria in `fedcore/nn/criteria` device by device.

A device's weight gradient is as large as the weight. It is formed for a block of rows at a time, and the block shrinks
as the number of devices grows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.model.geometry import Cut
from fedcore.core.model.keep_set import KeepSet
from fedcore.nn.batched.lora import StackedLora
from fedcore.nn.criteria.group_scores import joined, of_all_layers, unit_norm
from fedcore.nn.criteria.lora_taylor import DECAY
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.scorer import GroupState

BLOCK_VALUES = 1 << 20  # of all devices' gradients that exist at once

StackedVectors = dict[tuple[int, str], torch.Tensor]  # (layer, module) -> (devices, groups)


@contextmanager
def observed(classifier: Classifier, vectors: StackedVectors) -> Iterator[None]:
    """Make every backward pass over packed rows write |gradient x weight| per device and group to `vectors`."""
    handles = []
    for layer in classifier.layers:
        for module in classifier.geometry.modules:
            cut = classifier.geometry.cut(module)
            if cut is not None:
                hook = _Hook((layer, module), cut, vectors)
                handles.append(classifier.linear(layer, module).register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Hook:
    """Forward hook of one linear layer: scores its groups when the gradient of its output arrives."""

    def __init__(self, key: tuple[int, str], cut: Cut, vectors: StackedVectors) -> None:
        self.key, self.cut, self.vectors = key, cut, vectors

    def __call__(self, module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        inputs = args[0].detach()  # (devices, slots, in)
        if not output.requires_grad:  # nothing below is trainable: the gradient ends here
            output.requires_grad_()

        def score(output_gradient: torch.Tensor) -> None:
            upstream = output_gradient.detach()  # (devices, slots, out)

            def gradient(rows: slice) -> torch.Tensor:
                return torch.bmm(upstream[:, :, rows].mT.float(), inputs.float())

            self.vectors[self.key] = stacked_group_sums(module, self.cut, len(inputs), gradient)

        output.register_hook(score)  # type: ignore[no-untyped-call]


def lora_vectors(
    classifier: Classifier, layers: Mapping[str, StackedLora], gradients: Mapping[str, torch.Tensor]
) -> StackedVectors:
    """Return the vectors of one training step, as `LoraTaylorScorer` forms them; `gradients` by canonical name."""
    vectors: StackedVectors = {}
    for key, layer in layers.items():
        _, index, module = key.split(".")
        cut = classifier.geometry.cut(module)
        if cut is None or layer.a is None or layer.b is None:
            continue
        a, b = layer.a.detach(), layer.b.detach()
        of_a, of_b = gradients.get(f"{key}.A"), gradients.get(f"{key}.B")
        pairs = [(left, right) for left, right in ((of_b, a), (b, of_a)) if left is not None and right is not None]
        if pairs:
            gradient = partial(_weight_gradient, pairs)
            vectors[int(index), module] = stacked_group_sums(layer, cut, len(a), gradient)
    return vectors


def _weight_gradient(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], rows: slice) -> torch.Tensor:
    """Return the sum of the products, dB A + B dA, for these rows: (devices, rows, in)."""
    product, *others = pairs
    gradient = torch.bmm(product[0][:, rows], product[1])
    for left, right in others:
        gradient.baddbmm_(left[:, rows], right)
    return gradient


@torch.no_grad()
def stacked_group_sums(
    layer: nn.Module, cut: Cut, devices: int, gradient: Callable[[slice], torch.Tensor]
) -> torch.Tensor:
    """Return |gradient x effective weight| summed per group, (devices, groups).

    `gradient(rows)` is every device's gradient of these rows of the weight, (devices, rows, in).
    """
    base = layer.base_layer if isinstance(layer, StackedLora) else layer
    weight = cast(torch.Tensor, base.weight)
    block = max(1, BLOCK_VALUES // (devices * weight.shape[1]))
    sums: list[torch.Tensor] = []
    columns = weight.new_zeros((devices, weight.shape[1]), dtype=torch.float32)
    for start in range(0, weight.shape[0], block):
        rows = slice(start, start + block)
        effective = weight[rows].float()  # (block, in), then (devices, block, in)
        if isinstance(layer, StackedLora) and layer.a is not None and layer.b is not None:
            effective = torch.baddbmm(effective, layer.b[:, rows], layer.a, alpha=layer.scale)
        product = gradient(rows).mul_(effective).abs_()  # (devices, block, in)
        if cut.side == "out":
            sums.append(product.sum(dim=2))
        else:
            columns += product.sum(dim=1)
    return (torch.cat(sums, dim=1) if cut.side == "out" else columns).view(devices, -1, cut.width).sum(dim=2)


def group_scores(vectors: StackedVectors, classifier: Classifier) -> list[GroupScores]:
    """Return every device's scores, each layer's at L2 norm 1."""
    sums = joined(vectors, classifier.geometry, classifier.layers)
    heads, channels = ([unit_norm(vector.cpu().numpy()) for vector in kind] for kind in sums)
    return _per_device(heads, channels, classifier.keep_set)


class StackedAverages:
    """The running averages of `LoraTaylorScorer`, of many devices, in dense coordinates."""

    def __init__(self, classifier: Classifier, states: Sequence[GroupState | None]) -> None:
        self._geometry, self._keep = classifier.geometry, classifier.keep_set
        initial = [state or GroupState.full(classifier.geometry) for state in states]
        self._heads = np.stack([state.heads for state in initial])  # (devices, layers, head units)
        self._channels = np.stack([state.channels for state in initial])  # (devices, layers, ffn)

    def observe(self, devices: Sequence[int], vectors: StackedVectors, *, first_layer: int = 0) -> None:
        """Average one step's vectors in; a device whose vectors hold NaN or infinity is left out.

        Layers before `first_layer` do not train and keep their averages.
        """
        layers = [layer for layer in self._keep.layers if layer >= first_layer]
        sums = joined(vectors, self._geometry, layers)
        heads, channels = ([vector.cpu().numpy() for vector in kind] for kind in sums)
        if not heads:
            return
        finite = np.all([np.isfinite(vector).all(axis=1) for vector in (*heads, *channels)], axis=0)
        chosen = np.asarray(devices)[finite][:, None]
        for target, kept, fresh in (
            (self._heads, self._keep.heads, heads),
            (self._channels, self._keep.channels, channels),
        ):
            for layer, new in zip(layers, fresh, strict=True):
                index = (chosen, layer, np.asarray(kept[layer]))
                target[index] = DECAY * target[index] + (1 - DECAY) * new[finite]

    def scores(self) -> list[GroupScores]:
        """Return the averages of the kept groups of every device, each layer's at L2 norm 1."""
        return _per_device(
            [unit_norm(self._heads[:, layer, list(self._keep.heads[layer])]) for layer in self._keep.layers],
            [unit_norm(self._channels[:, layer, list(self._keep.channels[layer])]) for layer in self._keep.layers],
            self._keep,
        )

    def states(self) -> tuple[GroupState, ...]:
        """Return the averages of every device."""
        pairs = zip(self._heads, self._channels, strict=True)
        return tuple(GroupState(heads=heads, channels=channels) for heads, channels in pairs)


def _per_device(
    heads: list[NDArray[np.float32]], channels: list[NDArray[np.float32]], keep_set: KeepSet
) -> list[GroupScores]:
    return [
        of_all_layers([layer[device] for layer in heads], [layer[device] for layer in channels], keep_set)
        for device in range(len(heads[0]))
    ]
