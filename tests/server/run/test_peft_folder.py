"""The global adapter as a folder that peft loads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModel

from fedcore.core.model.adapter import AdapterSpec, initial_adapter
from fedcore.core.model.base_shift import shift_shapes
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.module_paths import module_path
from fedcore.server.run.peft_folder import write_peft_folder
from fedcore.storage.models.checkpoint import read_config
from tests.tiny_models import tiny_batch, tiny_model
from tests.tiny_run import MODEL, drawn_adapter, spec_of

GEOMETRY = geometry_from_config(MODEL)


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama-gqa", "llama-mqa", "qwen2"])
def test_peft_loads_the_folder_and_computes_the_merged_function(kind: str, tmp_path: Path) -> None:
    model_folder = tiny_model(tmp_path / "model", kind)
    geometry = geometry_from_config(read_config(model_folder))
    spec = AdapterSpec(
        geometry=geometry,
        rank=3,
        targets=geometry.modules,
        head=(("head.bias", (2,)), ("head.weight", (2, geometry.hidden))),
    )
    tensors = {name: 0.1 * value for name, value in drawn_adapter(spec).items()}
    write_peft_folder(tmp_path / "global", spec, tensors, str(model_folder))
    batch = tiny_batch()
    with torch.no_grad():
        plain = AutoModel.from_pretrained(model_folder).eval()
        base = plain(**batch).last_hidden_state
        loaded = PeftModel.from_pretrained(AutoModel.from_pretrained(model_folder), tmp_path / "global").eval()
        adapted = loaded(**batch).last_hidden_state
        for layer, module in spec.modules():
            weight = plain.get_submodule(module_path(geometry, layer, module)).weight
            a, b = (tensors[f"layers.{layer}.{module}.{factor}"] for factor in "AB")
            weight += torch.from_numpy(b @ a)
        merged = plain(**batch).last_hidden_state
    torch.testing.assert_close(adapted, merged, atol=2e-5, rtol=1e-4)
    assert float((adapted - base).abs().max()) > 1e-2, "the adapter does something"


def test_an_untrained_adapter_changes_nothing(tmp_path: Path) -> None:
    model_folder = tiny_model(tmp_path / "model", "bert")
    geometry = geometry_from_config(read_config(model_folder))
    spec = AdapterSpec(geometry=geometry, rank=2, targets=geometry.modules, head=())
    write_peft_folder(tmp_path / "global", spec, initial_adapter(spec, np.random.default_rng(0)), "base")
    batch = tiny_batch()
    with torch.no_grad():
        base = AutoModel.from_pretrained(model_folder).eval()(**batch).last_hidden_state
        loaded = PeftModel.from_pretrained(AutoModel.from_pretrained(model_folder), tmp_path / "global").eval()
        torch.testing.assert_close(loaded(**batch).last_hidden_state, base)


def test_a_folder_says_what_is_added_to_the_base_weights(tmp_path: Path) -> None:
    spec = spec_of(GEOMETRY, 2)
    tensors = drawn_adapter(spec)
    write_peft_folder(tmp_path / "plain", spec, tensors, "base")
    assert not (tmp_path / "plain" / "base_shift.safetensors").exists()
    shift = {name: np.full(shape, 0.5, np.float32) for name, shape in shift_shapes(spec).items()}
    write_peft_folder(tmp_path / "shifted", spec, tensors | shift, "base")
    held = load_file(tmp_path / "shifted" / "base_shift.safetensors")
    assert held["encoder.layer.0.attention.self.query.weight"].shape == GEOMETRY.shape("q") and len(held) == len(shift)
