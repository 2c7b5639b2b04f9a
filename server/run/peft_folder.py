"""The global adapter as a folder that peft reads."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from fedcore.core.codec.container import Outline, opening
from fedcore.core.model.adapter import AdapterSpec, Tensors
from fedcore.core.model.base_shift import SHIFT, shift_of, shift_shapes
from fedcore.core.model.module_paths import module_path
from fedcore.storage.atomic import Buffer, write_atomic


def write_peft_folder(folder: Path, spec: AdapterSpec, tensors: Tensors, base_model: str) -> None:
    """Write adapter_config.json and adapter_model.safetensors for peft, and head.safetensors beside them.

    B includes the LoRA scale already, so alpha = r. An adapter cannot express an addition to the base weights: a base
    shift, if there is one, goes into base_shift.safetensors under the names of those weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    factors = {
        f"base_model.model.{module_path(spec.geometry, layer, module)}.lora_{factor}.weight": (
            f"layers.{layer}.{module}.{factor}"
        )
        for layer, module in spec.modules()
        for factor in ("A", "B")
    }
    config = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": base_model,
        "r": spec.rank,
        "lora_alpha": spec.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": sorted({module_path(spec.geometry, layer, module) for layer, module in spec.modules()}),
    }
    write_atomic(folder / "adapter_config.json", json.dumps(config, indent=2).encode())
    write_atomic(folder / "adapter_model.safetensors", _for_torch(tensors, factors, spec))
    write_atomic(folder / "head.safetensors", _for_torch(tensors, {name: name for name, _ in spec.head}, spec))
    shift = {
        f"{module_path(spec.geometry, layer, module)}.weight": f"layers.{layer}.{module}{SHIFT}"
        for layer, module in spec.modules()
    }
    if shift_of(tensors):
        write_atomic(folder / "base_shift.safetensors", _for_torch(tensors, shift, spec))


def _for_torch(tensors: Tensors, names: Mapping[str, str], spec: AdapterSpec) -> Iterator[Buffer]:
    """Yield a safetensors file as torch's tools expect it, tensor by tensor; `names` maps names in the file to ours."""
    shapes = spec.shapes() | shift_shapes(spec)
    outlines = {new: Outline(tag="F32", shape=shapes[name]) for new, name in sorted(names.items())}
    yield opening(outlines, {"format": "pt"})
    for new in outlines:
        yield np.ascontiguousarray(tensors[names[new]], dtype="<f4").reshape(-1).view(np.uint8).data
