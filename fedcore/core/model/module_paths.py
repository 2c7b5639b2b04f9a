"""The paths of the prunable linear layers in a Hugging Face backbone, by canonical name.

A fused layer of a checkpoint becomes one linear layer a module while a device holds the model, so that groups, adapters
and quantisation need not know of it: `qkv_proj` has the children `qkv_proj.q`, `qkv_proj.k` and `qkv_proj.v`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.core.model.families import Fused, Layout, family_of
from fedcore.core.model.geometry import Counts, Geometry


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Where a checkpoint of transformers has the weight of a module: which rows of which layer's weight."""

    path: str
    shape: tuple[int, int]  # of the whole layer as (out, in), before it is transposed
    rows: NDArray[np.int64] | None  # None: all of them
    transposed: bool  # whether the checkpoint has (in, out)


def layout_of(geometry: Geometry) -> Layout:
    """Return where the layers of a model lie."""
    return family_of(geometry.model_type).layout


def module_path(geometry: Geometry, layer: int, module: str) -> str:
    """Return the dotted path of a canonical module in block `layer` of the loaded backbone (LlamaModel, ...).

    Raises KeyError for a module that the family does not have.
    """
    layout = layout_of(geometry)
    fused = layout.fused_with(module)
    return (layout.paths[module] if fused is None else f"{fused.path}.{module}").format(layer)


def attention_path(geometry: Geometry, layer: int) -> str:
    """Return the dotted path of the attention block that holds head counts as attributes."""
    return layout_of(geometry).attention.format(layer)


def stored_in(geometry: Geometry, layer: int, module: str) -> Stored:
    """Return where a checkpoint of the dense model has the weight of a module.

    Raises KeyError for a module that the family does not have.
    """
    layout = layout_of(geometry)
    fused = layout.fused_with(module)
    if fused is None:
        path, shape, rows = layout.paths[module], geometry.shape(module), None
    else:
        order = fused_rows(geometry, fused)
        path, shape, rows = fused.path, (sum(map(len, order.values())), geometry.hidden), order[module]
    return Stored(path=path.format(layer), shape=shape, rows=rows, transposed=layout.transposed)


def fused_rows(geometry: Geometry, fused: Fused, kept: Counts | None = None) -> dict[str, NDArray[np.int64]]:
    """Return the rows of a fused layer that each of its modules has, in the order of the module's own rows.

    `kept` are the groups that a layer keeps; None keeps all.
    """
    sizes = {module: geometry.shape(module, kept)[0] for module in fused.parts}
    order = np.arange(sum(sizes.values()), dtype=np.int64)
    if fused.by_head:
        heads = order.reshape(-1, len(fused.parts), geometry.head_dim)  # (heads, modules, head_dim)
        return {module: heads[:, place].reshape(-1) for place, module in enumerate(fused.parts)}
    ends = np.cumsum(list(sizes.values()))
    return dict(zip(sizes, np.split(order, ends[:-1]), strict=True))


def blocks_path(geometry: Geometry) -> str:
    """Return the dotted path of the list of transformer blocks inside the backbone."""
    return module_path(geometry, 0, "q").partition(".0.")[0]
