"""Low-rank adapters on a classifier: attach, load and read by canonical names, change rank, merge.

The layers are peft's own, injected in place without a PeftModel around them. On the wire B carries the LoRA
scale s = alpha / r (`fedcore.core.model.adapter`); in the layer it does not, so local B = wire B / s.

Source: Hu et al., "LoRA: Low-rank adaptation of large language models", 2021, arXiv 2106.09685.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from fedcore.core.errors import ModelError
from fedcore.core.seeds import generator
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.quantized import whole

ADAPTER = "default"  # peft's name of the only adapter
IDLE = 1e-7  # share of the largest singular value under which a component carries nothing


def attach(classifier: Classifier, *, rank: int, scale: float, targets: tuple[str, ...], seed: int = 0) -> None:
    """Put LoRA layers of `rank` on every `targets` module of every layer: A random from `seed`, B = 0, no dropout.

    The factors are float32, also on a bfloat16 base. Base weights are frozen, the head stays trainable. Raises
    ModelError where adapters are attached already or a target is not one of the model's modules.
    """
    geometry = classifier.geometry
    unknown = sorted(set(targets) - set(geometry.modules))
    if unknown or not targets or rank < 1:
        raise ModelError(f"LoRA rank {rank} on {targets}: expected rank >= 1 and some of {geometry.modules}")
    if next(adapted(classifier), None) is not None:
        raise ModelError("adapters are attached already; use load_adapter or set_rank to change them")
    paths = [classifier.path(layer, module) for layer in classifier.layers for module in targets]
    alpha: Any = scale * rank  # peft's annotation says int, its arithmetic takes any number
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=paths, lora_dropout=0.0, bias="none")
    inject_adapter_in_model(config, classifier.backbone, adapter_name=ADAPTER)
    if next(adapted(classifier), None) is None:
        raise ModelError(f"peft put no adapter on any of {paths[:3]}; install the versions of constraints.txt")
    for key, layer in adapted(classifier):
        layer.scaling[ADAPTER] = scale  # exactly, whatever alpha / rank rounds to
        a, b = factors(layer)
        a.data = _random_a(key, rank, a.shape[1], seed).to(a.device)
        b.data = b.data.float()
    for parameter in classifier.head_parameters().values():
        parameter.requires_grad_(True)  # peft freezes all of the backbone, a stock pooler included


def adapted(classifier: Classifier) -> Iterator[tuple[str, LoraLayer]]:
    """Yield ("layers.{i}.{module}", LoRA layer) of every adapted linear layer, in canonical order; i is dense."""
    for index in classifier.layers:
        for module in classifier.geometry.modules:
            layer = classifier.linear(index, module)
            if isinstance(layer, LoraLayer):
                yield f"layers.{index}.{module}", layer


def factors(layer: LoraLayer) -> tuple[nn.Parameter, nn.Parameter]:
    """Return A (rank, in) and B (out, rank) of one LoRA layer; the scale is not in B."""
    a, b = _linears(layer)
    return cast(nn.Parameter, a.weight), cast(nn.Parameter, b.weight)


def scale_of(layer: LoraLayer) -> float:
    """Return the LoRA scale s = alpha / r of one LoRA layer."""
    return float(layer.scaling[ADAPTER])


def trainable_parameters(classifier: Classifier) -> dict[str, nn.Parameter]:
    """Return factors and head by canonical name, layers first, in canonical order."""
    parameters: dict[str, nn.Parameter] = {}
    for key, layer in adapted(classifier):
        parameters[f"{key}.A"], parameters[f"{key}.B"] = factors(layer)
    return parameters | classifier.head_parameters()


def read_adapter(classifier: Classifier) -> dict[str, NDArray[np.float32]]:
    """Return copies of factors and head in device coordinates, the scale folded into B."""
    tensors: dict[str, NDArray[np.float32]] = {}
    for key, layer in adapted(classifier):
        a, b = factors(layer)
        tensors[f"{key}.A"], tensors[f"{key}.B"] = _array(a), _array(b) * np.float32(scale_of(layer))
    return tensors | {name: _array(parameter) for name, parameter in classifier.head_parameters().items()}


def load_adapter(classifier: Classifier, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Put factors and head in, in device coordinates and by canonical name; the rank becomes that of `tensors`.

    Raises ModelError where names or shapes do not fit the attached adapters. A parameter whose shape stays keeps
    its identity; one that changes is new: make the optimizer anew then.
    """
    known = set(trainable_parameters(classifier))
    if known != set(tensors):
        missing, extra = sorted(known - set(tensors))[:3], sorted(set(tensors) - known)[:3]
        raise ModelError(f"adapter does not fit the model: missing {missing}, unexpected {extra}; attach it first")
    for key, layer in adapted(classifier):
        a, b = _tensor(tensors[f"{key}.A"]), _tensor(tensors[f"{key}.B"]) / scale_of(layer)
        _put(key, layer, a, b)
    with torch.no_grad():
        for name, parameter in classifier.head_parameters().items():
            if parameter.shape != tensors[name].shape:
                raise ModelError(f"{name} has shape {tensors[name].shape}, the model's is {tuple(parameter.shape)}")
            parameter.copy_(_tensor(tensors[name]))


def merge(classifier: Classifier) -> None:
    """Add every adapter to its base weight, in float32, and remove the adapters: plain linear layers remain."""
    layers = list(adapted(classifier))
    if not layers:
        return
    for _, layer in layers:
        whole(layer.get_base_layer(), "merge an adapter into")
    classifier.model.float()
    for key, layer in layers:
        _, index, module = key.split(".")
        path = classifier.path(int(index), module)
        a, b = factors(layer)
        base = classifier.base_linear(int(index), module)
        with torch.no_grad():
            base.weight.add_(b.float() @ a.float(), alpha=scale_of(layer))
        parent, _, name = path.rpartition(".")
        setattr(classifier.backbone.get_submodule(parent), name, base)
    if hasattr(classifier.backbone, "peft_config"):
        del classifier.backbone.peft_config


def _put(key: str, layer: LoraLayer, a: torch.Tensor, b: torch.Tensor) -> None:
    """Set both factors; parameters are replaced only where a shape changes."""
    rank = a.shape[0]
    old_a, old_b = factors(layer)
    if (rank, old_a.shape[1]) != tuple(a.shape) or tuple(b.shape) != (old_b.shape[0], rank):
        expected = f"(r, {old_a.shape[1]}) and ({old_b.shape[0]}, r)"
        raise ModelError(f"{key}: factors have shapes {tuple(a.shape)} and {tuple(b.shape)}, expected {expected}")
    with torch.no_grad():
        if old_a.shape == a.shape:
            old_a.copy_(a)
            old_b.copy_(b)
            return
    down, up = _linears(layer)
    down.weight, up.weight = nn.Parameter(a.to(old_a.device)), nn.Parameter(b.to(old_b.device))
    down.out_features = up.in_features = rank
    layer.r[ADAPTER], layer.lora_alpha[ADAPTER] = rank, scale_of(layer) * rank


def _linears(layer: LoraLayer) -> tuple[nn.Linear, nn.Linear]:
    return cast(nn.Linear, layer.lora_A[ADAPTER]), cast(nn.Linear, layer.lora_B[ADAPTER])


def _random_a(key: str, rank: int, width: int, seed: int) -> torch.Tensor:
    """Return A (rank, width) from U(-1/sqrt(width), 1/sqrt(width)); a smaller rank gives a prefix of a larger."""
    bound = 1.0 / float(np.sqrt(width))
    return _tensor(generator(seed, "lora", key).uniform(-bound, bound, (rank, width)))


def _array(parameter: torch.Tensor) -> NDArray[np.float32]:
    return parameter.detach().to("cpu", torch.float32, copy=True).numpy()


def _tensor(values: NDArray[np.floating[Any]]) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))  # a copy: the source may be read-only
