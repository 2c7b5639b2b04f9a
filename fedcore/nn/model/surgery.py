"""Remove attention heads, FFN channels and whole layers for real: smaller dense matrices and fewer blocks, not masks.

Every linear layer is cut on one side (`fedcore.core.model.geometry.Cut`), and so is the LoRA layer around it: rows of B
where rows of the weight go, columns of A where columns go. The pruned model computes exactly what the dense one
computes with the removed heads and channels masked to zero, and with a removed block's output replaced by its input.
The blocks that are left are numbered anew, in the model, its config and its cache.
"""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedcore.core.errors import ProtocolError
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.module_paths import attention_path, blocks_path, layout_of
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.config_keys import BY_LAYER
from fedcore.nn.model.quantized import whole

Side = Literal["out", "in"]


def shrink(classifier: Classifier, keep_set: KeepSet) -> None:
    """Cut the model down to `keep_set` (dense coordinates), in place.

    Parameters that change are new objects: the old storage is freed once nothing else refers to it, and gradients
    are dropped: make the optimizer anew.
    Raises ProtocolError, and changes nothing, unless `keep_set` is legal and within the current one.
    """
    geometry, current = classifier.geometry, classifier.keep_set
    keep_set.validate(geometry)
    if not keep_set.is_subset_of(current):
        raise ProtocolError(
            f"keep-set {keep_set.blob_id[:19]} holds groups that are pruned already ({current.blob_id[:19]} is in"
            " force); pruning never goes back: reload the base model to start from another set"
        )
    for layer in keep_set.layers:
        for module in geometry.modules:
            kept = positions(geometry, current, keep_set, layer, module)
            cut = geometry.cut(module)
            if kept is not None and cut is not None:
                _cut_layer(classifier.linear(layer, module), cut.side, torch.from_numpy(kept))
        _set_head_count(classifier, layer, len(keep_set.heads[layer]))
    if keep_set.layers != current.layers:
        _drop_blocks(classifier, [current.layers.index(layer) for layer in keep_set.layers])
    classifier.keep_set = keep_set


def positions(geometry: Geometry, old: KeepSet, new: KeepSet, layer: int, module: str) -> NDArray[np.int64] | None:
    """Return where the rows or columns kept in `new` lie among those of `old`; None where nothing is cut.

    `new` must be a subset of `old`.
    """
    before, after = old.indices(geometry, layer, module), new.indices(geometry, layer, module)
    if before is None or after is None or len(before) == len(after):
        return None
    return np.searchsorted(before, after).astype(np.int64)


def _cut_layer(layer: Any, side: Side, kept: torch.Tensor) -> None:
    """Cut an nn.Linear, or the base and every adapter of a LoRA layer around one."""
    if isinstance(layer, nn.Linear):
        _cut_linear(layer, side, kept)
        return
    _cut_linear(layer.base_layer, side, kept)
    for factor in (layer.lora_B if side == "out" else layer.lora_A).values():
        _cut_linear(factor, side, kept)
    layer.in_features, layer.out_features = layer.base_layer.in_features, layer.base_layer.out_features


def _cut_linear(linear: nn.Linear, side: Side, kept: torch.Tensor) -> None:
    whole(linear, "cut")
    axis = 0 if side == "out" else 1
    linear.weight = _cut_parameter(linear.weight, axis, kept)
    if side == "out" and linear.bias is not None:
        linear.bias = _cut_parameter(linear.bias, 0, kept)
    linear.out_features, linear.in_features = linear.weight.shape


def _cut_parameter(old: torch.Tensor, axis: int, kept: torch.Tensor) -> nn.Parameter:
    """Return a new, smaller parameter."""
    index = kept.to(old.device)
    new = nn.Parameter(old.detach().index_select(axis, index), requires_grad=old.requires_grad)
    return new


def _set_head_count(classifier: Classifier, layer: int, units: int) -> None:
    """Set what an attention block knows of its heads; most derive their number from the shapes."""
    geometry = classifier.geometry
    place = classifier.layers.index(layer)
    attention: Any = classifier.backbone.get_submodule(attention_path(geometry, place))
    queries = units * geometry.queries_per_unit
    keys = units * geometry.kv_per_unit or geometry.kv_heads
    values = {
        "num_attention_heads": queries,
        "all_head_size": queries * geometry.head_dim,
        "num_key_value_groups": queries // keys,
        "num_key_value_heads": keys,
        "num_heads": queries,
        "split_size": queries * geometry.head_dim,
    }
    for name, value in values.items():
        if hasattr(attention, name):
            setattr(attention, name, value)
    if layout_of(geometry).fused and geometry.gated:  # Phi-3 asks its config where the keys begin
        attention.config.head_dim, attention.config.num_attention_heads = geometry.head_dim, queries


def _drop_blocks(classifier: Classifier, places: list[int]) -> None:
    """Leave the blocks at `places` alone, in order, and say so in whatever counts or numbers them."""
    path = blocks_path(classifier.geometry)
    blocks: Any = classifier.backbone.get_submodule(path)
    left = nn.ModuleList(blocks[place] for place in places)
    parent, _, name = path.rpartition(".")
    setattr(classifier.backbone.get_submodule(parent), name, left)
    for number, block in enumerate(left):
        for module in block.modules():
            if hasattr(module, "layer_idx"):  # by which attention finds its keys and values in the cache
                setattr(module, "layer_idx", number)  # noqa: B010
    for config in _configs(classifier):
        config.num_hidden_layers = len(left)
        for key in BY_LAYER:
            if getattr(config, key, None):
                setattr(config, key, [getattr(config, key)[place] for place in places])


def _configs(classifier: Classifier) -> list[Any]:
    """Return every config object of the model, each once: backbone and blocks may have their own."""
    configs = (getattr(module, "config", None) for module in classifier.model.modules())
    return list({id(config): config for config in configs if hasattr(config, "num_hidden_layers")}.values())
