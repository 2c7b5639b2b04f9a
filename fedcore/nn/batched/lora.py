"""LoRA layers that hold the factors of many devices at once, over one frozen base weight.

y = x W^T + bias + s (x A_d^T) B_d^T for every device d: one product with W over the tokens of all devices,
then batched products with the small factors. Forward and backward are written out, because autograd would keep both
summands as tensors of the output's size.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedcore.core.model.trained_part import TrainedPart
from fedcore.nn.accelerator.precision import without_autocast
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import adapted, scale_of
from fedcore.nn.model.quantized import whole


class StackedLora(nn.Module):
    """Replaces a peft layer while many devices train. Set `a` (devices, rank, in) and `b` (devices, out, rank).

    `frozen` has the factors, by canonical name, that do not train and that all devices share.
    """

    def __init__(self, base: nn.Linear, scale: float) -> None:
        super().__init__()
        self.base_layer = base
        self.scale = scale
        self.a: torch.Tensor | None = None
        self.b: torch.Tensor | None = None
        self.frozen: dict[str, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (devices, slots, out) of x (devices, slots, in)."""
        base = self.base_layer
        with without_autocast(x.device):  # the product has its own mix of dtypes
            output: torch.Tensor = _StackedProduct.apply(  # type: ignore[no-untyped-call]
                x, base.weight, base.bias, self.a, self.b, self.scale
            )
        return output


@contextmanager
def stacked(classifier: Classifier) -> Iterator[dict[str, StackedLora]]:
    """Replace every LoRA layer by a StackedLora, yield these by "layers.{i}.{module}", and restore the layers."""
    layers: dict[str, StackedLora] = {}
    originals: list[tuple[nn.Module, str, nn.Module]] = []
    for key, layer in list(adapted(classifier)):
        _, index, module = key.split(".")
        parent, _, name = classifier.path(int(index), module).rpartition(".")
        holder = classifier.backbone.get_submodule(parent)
        layers[key] = StackedLora(
            whole(classifier.base_linear(int(index), module), "stack adapters on"), scale_of(layer)
        )
        originals.append((holder, name, cast(nn.Module, layer)))
    try:
        for (holder, name, _), stand_in in zip(originals, layers.values(), strict=True):
            setattr(holder, name, stand_in)
        yield layers
    finally:
        for holder, name, original in originals:
            setattr(holder, name, original)


def freeze(layers: Mapping[str, StackedLora], before: Mapping[str, NDArray[np.float32]], trains: TrainedPart) -> None:
    """Give every layer the factors that do not train, from the adapter `before`, by canonical name."""
    for key, layer in layers.items():
        for name, scale in ((f"{key}.A", 1.0), (f"{key}.B", layer.scale)):
            if not trains.has(name):
                factor = torch.from_numpy(np.array(before[name], dtype=np.float32)) / scale
                layer.frozen[name] = factor.to(layer.base_layer.weight.device)


def put_factors(layers: Mapping[str, StackedLora], values: Mapping[str, torch.Tensor]) -> None:
    """Give every layer its factors: from `values`, (devices, *shape) by canonical name, else the frozen ones."""
    devices = len(next(iter(values.values())))
    for key, layer in layers.items():
        layer.a, layer.b = (
            layer.frozen[name].expand(devices, -1, -1) if name in layer.frozen else values[name]
            for name in (f"{key}.A", f"{key}.B")
        )


class _StackedProduct(torch.autograd.Function):
    """The layer's product and its gradients; factors are float32, the base may be bfloat16."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        inner = torch.bmm(x.float(), a.mT)  # (devices, slots, rank)
        ctx.save_for_backward(x, weight, a, b, inner)
        ctx.scale = scale
        output = nn.functional.linear(x.to(weight.dtype), weight, bias).float()  # (devices, slots, out)
        return output.baddbmm_(inner, b.mT, alpha=scale).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, a, b, inner = ctx.saved_tensors
        of_output = gradients[0]  # (devices, slots, out), in the base's dtype
        upstream = of_output.float()
        inside = torch.bmm(upstream, b).mul_(ctx.scale)  # (devices, slots, rank)
        of_x = of_a = of_b = None
        if ctx.needs_input_grad[0]:
            of_x = torch.matmul(of_output, weight).float().baddbmm_(inside, a).to(x.dtype)  # (devices, slots, in)
        if ctx.needs_input_grad[3]:
            of_a = torch.bmm(inside.mT, x.float())  # (devices, rank, in)
        if ctx.needs_input_grad[4]:
            of_b = torch.bmm(upstream.mT, inner).mul_(ctx.scale)  # (devices, out, rank)
        return of_x, None, None, of_a, of_b, None
