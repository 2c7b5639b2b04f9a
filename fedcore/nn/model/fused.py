"""Fused layers of a checkpoint: one linear layer a module while a device holds the model, fused again for exports.

Phi-3 has q, k and v in one matrix, and gate and up in another; GPT-2 and GPT-NeoX have q, k and v in one. Cut, adapted
or quantised, every module is a linear layer as in other families.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fedcore.core.model.geometry import Counts, Geometry
from fedcore.core.model.module_paths import fused_rows, layout_of, stored_in


class Parted(nn.Module):
    """Linear layers in place of a fused one: the same outputs in the same order, however many rows each layer has.

    With `head_dim` every head has the outputs of all layers side by side.
    """

    def __init__(self, parts: Mapping[str, nn.Linear], head_dim: int | None) -> None:
        super().__init__()
        self.head_dim = head_dim
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (..., outputs of all layers) of x (..., in)."""
        outputs = [part(x) for part in self.children()]
        if self.head_dim is None:
            return torch.cat(outputs, dim=-1)
        by_head = [output.unflatten(-1, (-1, self.head_dim)) for output in outputs]  # (..., heads, head_dim) each
        return torch.stack(by_head, dim=-2).flatten(-3)


def part(backbone: nn.Module, geometry: Geometry) -> None:
    """Give every prunable module of a dense backbone a linear layer of its own, (out, in), at its `module_path`."""
    layout = layout_of(geometry)
    for layer in range(geometry.layers):
        for path in layout.paths.values() if layout.transposed else ():
            _put(backbone, path.format(layer), _linear(backbone.get_submodule(path.format(layer)), transposed=True))
        for fused in layout.fused:
            path = fused.path.format(layer)
            whole = _linear(backbone.get_submodule(path), transposed=layout.transposed)
            parts = {
                module: _rows(whole, torch.from_numpy(rows)) for module, rows in fused_rows(geometry, fused).items()
            }
            _put(backbone, path, Parted(parts, geometry.head_dim if fused.by_head else None))


def fuse(state: dict[str, torch.Tensor], geometry: Geometry, kept: Counts) -> None:
    """Turn the tensors of a model with `kept` groups a layer, in place, into those that transformers has for it."""
    layout = layout_of(geometry)
    for layer in range(geometry.layers - kept.removed_layers):
        for fused in layout.fused:
            path = f"{layout.backbone}.{fused.path.format(layer)}"
            rows = fused_rows(geometry, fused, kept)
            for kind in ("weight", "bias"):
                parts = {module: state.pop(f"{path}.{module}.{kind}", None) for module in rows}
                if all(tensor is not None for tensor in parts.values()):
                    joined = torch.cat([torch.as_tensor(parts[module]) for module in rows])
                    order = torch.cat([torch.from_numpy(rows[module]) for module in rows])
                    state[f"{path}.{kind}"] = torch.empty_like(joined).index_copy_(0, order, joined)
        if layout.transposed:
            for path in {stored_in(geometry, layer, module).path for module in geometry.modules}:
                name = f"{layout.backbone}.{path}.weight"
                state[name] = state[name].T.contiguous()


def _linear(layer: Any, *, transposed: bool) -> nn.Linear:
    """Return a linear layer with the weights of `layer`, which may be transformers' Conv1D."""
    if not transposed:
        linear: nn.Linear = layer
        return linear
    return _made(layer.weight.T.contiguous(), layer.bias)


def _rows(whole: nn.Linear, rows: torch.Tensor) -> nn.Linear:
    return _made(whole.weight[rows], None if whole.bias is None else whole.bias[rows])


def _made(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """Return a frozen linear layer that holds these tensors."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def _put(backbone: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(backbone.get_submodule(parent), name, module)
