"""A loaded sequence classifier and its keep-set: the one mutable object that devices and evaluators share."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fedcore.core.model.geometry import Geometry
from fedcore.core.model.head import HeadSpec
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.module_paths import layout_of, module_path
from fedcore.core.precision import FLOAT32
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.task import Task


@dataclass(slots=True, kw_only=True)
class Classifier:
    """A model with frozen base weights and a trainable head.

    `model(input_ids, attention_mask, token_type_ids=None)` returns an output with `.logits` (batch, labels).
    `geometry` is that of the dense base model; `keep_set` has the groups left in it, in dense coordinates, and changes
    only through `fedcore.nn.model.surgery`. LoRA layers are injected in place: `model` is never wrapped.
    """

    model: nn.Module
    geometry: Geometry
    keep_set: KeepSet
    head: HeadSpec
    labels: tuple[str, ...]
    folder: Path  # where the base model came from
    task: Task = CLASSIFICATION
    precision: str = FLOAT32  # of the arithmetic, see fedcore.core.precision

    @property
    def outputs(self) -> int:
        """Width of the head's output."""
        return self.task.outputs(self.labels)

    @property
    def backbone(self) -> nn.Module:
        """The transformer without its head (BertModel, RobertaModel, LlamaModel, ...)."""
        return self.model.get_submodule(layout_of(self.geometry).backbone)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.model.parameters()).device

    def word_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits (..., words) that a language model's own output layer makes of its states."""
        logits: torch.Tensor = self.model.get_submodule("lm_head")(states)
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return logits if not cap else torch.tanh(logits / cap) * cap

    @property
    def head_module(self) -> nn.Module:
        """The task head; a module without parameters where the model's own output layer serves."""
        if self.head.kind == "none":
            return nn.Identity()
        return self.model.get_submodule("classifier" if self.geometry.family == "bert" else "score")

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are left, in dense coordinates; block i of the backbone is that of `layers[i]`."""
        return self.keep_set.layers

    def path(self, layer: int, module: str) -> str:
        """Return the dotted path of a module of a layer (dense coordinates) inside the backbone as it is now.

        Raises ValueError for a layer that is removed.
        """
        return module_path(self.geometry, self.layers.index(layer), module)

    def linear(self, layer: int, module: str) -> nn.Module:
        """Return a prunable linear layer: an nn.Linear, or the peft LoRA layer around it."""
        return self.backbone.get_submodule(self.path(layer, module))

    def base_linear(self, layer: int, module: str) -> nn.Linear:
        """Return the nn.Linear itself, also where a LoRA layer is around it."""
        linear = self.linear(layer, module)
        base = getattr(linear, "base_layer", linear)
        if not isinstance(base, nn.Linear):
            raise TypeError(f"layer {layer} {module}: expected nn.Linear, got {type(base).__name__}")
        return base

    def head_parameters(self) -> dict[str, nn.Parameter]:
        """Return the head's parameters by canonical name ("head.weight", ...), sorted."""
        return {f"head.{name}": parameter for name, parameter in sorted(self.head_module.named_parameters())}

    def count_parameters(self) -> int:
        """Number of parameters of the model with its head, adapters not counted."""
        return sum(parameter.numel() for name, parameter in self.model.named_parameters() if ".lora_" not in name)
