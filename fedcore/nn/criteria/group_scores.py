"""From weights and their gradients or inputs to one importance vector per layer and kind.

No buffer of a weight matrix's size exists: effective weights W + s B A are formed for a block of rows at a time. The
exception is a quantised layer, of which the whole weight is unpacked, one layer after the other.

Member matrices of a group (q, k, v, o; gate, up, down) give one vector each; each is divided by its L2 norm, then
they are summed, and a layer's sum is scaled to L2 norm 1. Where a cut leaves k and v whole (multi-query
attention) they do not count.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft.tuners.lora import LoraLayer
from torch import nn

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.errors import ConfigError
from fedcore.core.model.geometry import Cut, Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.nn.model.lora import factors, scale_of
from fedcore.nn.model.quantized import dense_weight

BLOCK_ROWS = 64

ALL = slice(None)

Elementwise = Callable[[torch.Tensor], torch.Tensor]
Vectors = Mapping[tuple[int, str], torch.Tensor]  # (layer, module) -> one score per kept group


class BlockGradient(Protocol):
    """The gradient of a weight, a few rows at a time."""

    def __call__(self, rows: slice) -> torch.Tensor:
        """Return the gradient of these rows of the weight, (rows, in)."""
        ...


@torch.no_grad()
def effective_weight(layer: nn.Module, rows: slice = ALL, columns: slice = ALL) -> torch.Tensor:
    """Return a part of the weight with its adapter, W + s B A, in float32."""
    return _effective(layer, dense_weight(_base(layer)), rows, columns)


@torch.no_grad()
def group_sums(layer: nn.Module, cut: Cut, gradient: BlockGradient, block_rows: int) -> torch.Tensor:
    """Return |gradient x effective weight| summed per group, (groups,)."""
    products = (gradient(rows).mul_(block).abs_() for rows, block in _blocks(layer, block_rows))
    if cut.side == "out":
        return per_group(torch.cat([product.sum(dim=1) for product in products]), cut)
    return per_group(functools.reduce(torch.add, (product.sum(dim=0) for product in products)), cut)


def row_sums(layer: nn.Module, of: Elementwise, block_rows: int = BLOCK_ROWS) -> torch.Tensor:
    """Return `of` the effective weights, summed over the inputs: (out,)."""
    return torch.cat([of(block).sum(dim=1) for _, block in _blocks(layer, block_rows)])


def column_sums(layer: nn.Module, of: Elementwise, block_rows: int = BLOCK_ROWS) -> torch.Tensor:
    """Return `of` the effective weights, summed over the outputs: (in,)."""
    return functools.reduce(torch.add, (of(block).sum(dim=0) for _, block in _blocks(layer, block_rows)))


def rows_of(layer: nn.Module) -> int:
    """Return the number of outputs of a layer as it is cut now."""
    return cast(int, _base(layer).out_features)


def per_group(lines: torch.Tensor, cut: Cut) -> torch.Tensor:
    """Sum the lines of every group: (groups * width,) -> (groups,)."""
    return lines.view(-1, cut.width).sum(dim=1)


def scores_of_layers(heads: Sequence[torch.Tensor], channels: Sequence[torch.Tensor], keep_set: KeepSet) -> GroupScores:
    """Return one vector per layer that is left and kind as scores of all layers, each at L2 norm 1."""
    of_heads, of_channels = ([unit_norm(vector.float().cpu().numpy()) for vector in kind] for kind in (heads, channels))
    return of_all_layers(of_heads, of_channels, keep_set)


def combine(vectors: Vectors, geometry: Geometry, *, layers: Sequence[int], normalise: bool = True) -> GroupScores:
    """Join the members' vectors into one per layer of `layers` and kind: each over its L2 norm, summed.

    With `normalise` the sums get L2 norm 1. All other layers have empty vectors. Raises ConfigError for a layer without
    any member of a kind.
    """
    heads, channels = ([vector.cpu().numpy() for vector in kind] for kind in joined(vectors, geometry, layers))
    if normalise:
        heads, channels = ([unit_norm(vector) for vector in kind] for kind in (heads, channels))
    return _padded(heads, channels, layers, geometry.layers)


def of_all_layers(
    heads: Sequence[NDArray[np.float32]], channels: Sequence[NDArray[np.float32]], keep_set: KeepSet
) -> GroupScores:
    """Return scores of the layers that are left as those of all layers: of the others, empty vectors."""
    return _padded(heads, channels, keep_set.layers, len(keep_set.heads))


def _padded(
    heads: Sequence[NDArray[np.float32]], channels: Sequence[NDArray[np.float32]], layers: Sequence[int], count: int
) -> GroupScores:
    none = np.empty(0, dtype=np.float32)
    full = (dict(zip(layers, kind, strict=True)) for kind in (heads, channels))
    of_heads, of_channels = (tuple(kind.get(layer, none) for layer in range(count)) for kind in full)
    return GroupScores(heads=of_heads, channels=of_channels)


def joined(
    vectors: Vectors, geometry: Geometry, layers: Sequence[int]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the members' sums per layer of `layers`, of heads and of channels; vectors may be (devices, groups).

    Raises ConfigError for a layer without any member of a kind.
    """
    heads: list[torch.Tensor] = []
    channels: list[torch.Tensor] = []
    for layer in layers:
        for unit, target in (("head", heads), ("channel", channels)):
            members = [
                _normed(vectors[layer, module])
                for module in geometry.modules
                if (layer, module) in vectors and (cut := geometry.cut(module)) is not None and cut.unit == unit
            ]
            if not members:
                raise ConfigError(
                    f"no adapter touches the {unit}s of layer {layer}, so LoRA gradients say nothing of them;"
                    ' add such modules to training.targets or set training.importance = "taylor"'
                )
            target.append(torch.stack(members).sum(dim=0))
    return heads, channels


def unit_norm(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors (..., groups) at L2 norm 1; a zero vector becomes uniform, since it ranks no group, none stays."""
    norm = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    scaled = np.where(norm > 0, vectors / np.where(norm > 0, norm, 1.0), max(1, vectors.shape[-1]) ** -0.5)
    return np.asarray(scaled, dtype=np.float32)


def _base(layer: nn.Module) -> nn.Module:
    return layer.get_base_layer() if isinstance(layer, LoraLayer) else layer


def _blocks(layer: nn.Module, size: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield a block of rows after the other, with its effective weights; a packed weight is unpacked once."""
    weight = dense_weight(_base(layer))
    for start in range(0, len(weight), size):
        rows = slice(start, start + size)
        yield rows, _effective(layer, weight, rows, ALL)


@torch.no_grad()
def _effective(layer: nn.Module, weight: torch.Tensor, rows: slice, columns: slice) -> torch.Tensor:
    effective = weight[rows, columns].float()  # (rows, columns)
    if isinstance(layer, LoraLayer):
        a, b = factors(layer)
        effective = torch.addmm(effective, b[rows], a[:, columns], alpha=scale_of(layer))
    return effective


def _normed(vectors: torch.Tensor) -> torch.Tensor:
    norm = vectors.norm(dim=-1, keepdim=True)
    return torch.where(norm > 0, vectors / norm, vectors)
