"""The language task as a rival runs it: MiniLM with peft's LoRA layers and a mean-pooled linear head.

The head and the scaling are fedcore's (fedcore/core/model/head.py, fedcore/core/model/adapter.py): B travels with the
LoRA scale folded in.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel

from benchmarks.simulation.language import HEAD_SCALE, RANK, SCALE
from benchmarks.simulation.task import Arrays, Batch, read_case

PATHS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}


class LoraModule(torch.nn.Module):
    """A frozen encoder with adapters, mean pooling, a linear head; in evaluation mode, for there is no dropout."""

    def __init__(self, folder: str, labels: int) -> None:
        super().__init__()
        backbone = AutoModel.from_pretrained(folder, add_pooling_layer=False)
        targets = [
            f"encoder.layer.{layer}.{path}"
            for layer in range(backbone.config.num_hidden_layers)
            for path in PATHS.values()
        ]
        config = LoraConfig(r=RANK, lora_alpha=int(SCALE * RANK), target_modules=targets, lora_dropout=0.0, bias="none")
        self.backbone = get_peft_model(backbone, config)
        self.head = torch.nn.Linear(backbone.config.hidden_size, labels)
        self.eval()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits (rows, labels) of token ids and mask (rows, tokens)."""
        hidden = self.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask[..., None].to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1)
        logits: torch.Tensor = self.head(normalize(mean, dim=-1) * HEAD_SCALE)
        return logits

    def loss(self, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of one batch."""
        return cross_entropy(self(ids, mask), labels)


class LoraLearner:
    """The task out of its folder."""

    def __init__(self, folder: Path) -> None:
        case = read_case(folder)
        with np.load(folder / "task.npz") as stored:
            ids, mask, labels = (torch.from_numpy(stored[name]) for name in ("ids", "mask", "labels"))
            first = {name: torch.from_numpy(stored[name]) for name in stored.files if "." in name}
        longest = mask.sum(-1).amax(-1)  # (clients,): every client is padded to its own longest row
        self._rows = [(ids[k, :, : longest[k]], mask[k, :, : longest[k]], labels[k]) for k in range(len(ids))]
        self._module = LoraModule(case.model, len(first["head.bias"]))
        self.module: torch.nn.Module = self._module
        with torch.no_grad():
            for name, parameter in self.trainable().items():
                parameter.copy_(first[name] / SCALE if name.endswith(".B") else first[name])

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """Factors and head."""
        base: Any = self._module.backbone.get_base_model()
        head = self._module.head
        found: dict[str, torch.nn.Parameter] = {}
        for layer in range(base.config.num_hidden_layers):
            for name, path in PATHS.items():
                adapted: Any = base.get_submodule(f"encoder.layer.{layer}.{path}")
                found[f"layers.{layer}.{name}.A"] = adapted.lora_A["default"].weight
                found[f"layers.{layer}.{name}.B"] = adapted.lora_B["default"].weight
        return found | {f"head.{name}": parameter for name, parameter in head.named_parameters()}

    def rows(self, client: int) -> Batch:
        """A client's (ids, mask, labels)."""
        return self._rows[client]

    def tensors(self) -> Arrays:
        """Factors, with the scale in B, and head."""
        return {
            name: parameter.detach().numpy() * np.float32(SCALE if name.endswith(".B") else 1.0)
            for name, parameter in self.trainable().items()
        }
