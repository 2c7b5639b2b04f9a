"""One case of the data-plane benchmark: how many devices, how large an adapter, and a base model that makes it so."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.geometry import Geometry, geometry_from_config

MAX_LENGTH = 8
LABELS = ("a", "b")
MODULES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}
SMALL = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
LARGE = {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}
LARGE_BYTES = 1_000_000  # payloads from here on take the larger model


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What one row measures. `payload_bytes` is the adapter's size as float32, met to within one rank."""

    devices: int
    payload_bytes: int
    rounds: int  # measured ones; the first round of a run is not
    tls: bool = True
    tiers: int = 1  # 1: devices at the coordinator; 2: edges between them
    edges: int = 2  # with two tiers
    cohort: int = 0  # devices drawn per round; 0 is all

    @property
    def model(self) -> dict[str, Any]:
        """The base model's config.json."""
        sizes = LARGE if self.payload_bytes >= LARGE_BYTES else SMALL
        fixed = {"model_type": "bert", "vocab_size": 8, "max_position_embeddings": 8, "type_vocab_size": 2}
        return fixed | sizes

    @property
    def geometry(self) -> Geometry:
        """Shapes of the base model."""
        return geometry_from_config(self.model)

    @property
    def rank(self) -> int:
        """The LoRA rank at which the adapter has `payload_bytes`."""
        spec = spec_of(self.geometry, 1)
        head = sum(4 * math.prod(shape) for _, shape in spec.head)
        return max(1, round((self.payload_bytes - head) / (4 * spec.num_values() - head)))

    def config(self, model: Path) -> str:
        """The run's TOML: every device trains the one rank, nothing is pruned, no evaluator is asked."""
        drawn = self.cohort or self.devices
        return f"""
[run]
name = "data-plane"
rounds = {self.rounds + 1}
[model]
path = "{model}"
max_length = {MAX_LENGTH}
[data]
labels = {json.dumps(LABELS)}
[strategy]
name = "fedavg-lora"
ranks = [{self.rank}]
target_sparsity = 0.0
cohort = {self.cohort}
[training]
codec = "identity"
[coordinator]
min_devices = {self.devices}
join_deadline_s = 300.0
round_deadline_s = {max(120.0, drawn * self.payload_bytes / 10e6)}
[evaluation]
rows_per_round = 0
"""

    def label(self) -> dict[str, Any]:
        """The columns that name this case in a table."""
        return {"devices": self.devices, "payload": size_text(self.payload_bytes), "tiers": self.tiers, "tls": self.tls}


def spec_of(geometry: Geometry, rank: int) -> AdapterSpec:
    """The adapter that devices of this benchmark send."""
    head = (("head.bias", (len(LABELS),)), ("head.weight", (len(LABELS), geometry.hidden)))
    return AdapterSpec(geometry=geometry, rank=rank, targets=geometry.modules, head=head)


def write_model(case: Case, folder: Path) -> None:
    """Write a base model of at most 13 MB with random weights; no device ever loads it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(case.model), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    rng, geometry = np.random.default_rng(0), case.geometry
    tensors = {
        f"encoder.layer.{layer}.{path}.weight": rng.standard_normal(geometry.shape(name), dtype=np.float32)
        for layer in range(geometry.layers)
        for name, path in MODULES.items()
    }
    save_file(tensors, folder / "model.safetensors")


def size_text(size: int) -> str:
    """1000 -> '1 kB', 100_000_000 -> '100 MB'."""
    return f"{size / 1e6:g} MB" if size >= 1e6 else f"{size / 1e3:g} kB"
