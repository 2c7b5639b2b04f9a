from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fedcore.core.errors import ModelError
from fedcore.core.model.geometry import Geometry, geometry_from_config
from fedcore.core.model.module_paths import module_path
from fedcore.storage.models.magnitudes import check_layers, weight_magnitudes

SIZES = {
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "intermediate_size": 6,
    "vocab_size": 5,
    "max_position_embeddings": 4,
}
BERT = geometry_from_config({"model_type": "bert", "num_attention_heads": 4, **SIZES})
GROUPED = geometry_from_config({"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2, **SIZES})
SHARED = geometry_from_config({"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 1, **SIZES})


def _tensors(geometry: Geometry, prefix: str = "") -> dict[str, Any]:
    rng = np.random.default_rng(0)
    tensors: dict[str, Any] = {}
    for layer in range(geometry.layers):
        for module in geometry.modules:
            path = prefix + module_path(geometry, layer, module)
            shape = geometry.shape(module)
            tensors[f"{path}.weight"] = rng.normal(size=shape).astype(np.float32)
            if geometry.family == "bert":
                tensors[f"{path}.bias"] = rng.normal(size=shape[0]).astype(np.float32)
    return tensors


def _dense(geometry: Geometry, tensors: dict[str, Any], layer: int, unit: str) -> Any:
    """Zero each group in turn and see how much of the squared weights goes away."""
    count = geometry.head_units if unit == "head" else geometry.ffn
    gone = np.zeros(count)
    for module in geometry.modules:
        cut = geometry.cut(module)
        if cut is None or cut.unit != unit:
            continue
        path = module_path(geometry, layer, module)
        for group in range(count):
            part = slice(group * cut.width, (group + 1) * cut.width)
            weight = tensors[f"{path}.weight"].astype(np.float64)
            gone[group] += np.sum((weight[part] if cut.side == "out" else weight[:, part]) ** 2)
            if cut.side == "out" and f"{path}.bias" in tensors:
                gone[group] += np.sum(tensors[f"{path}.bias"][part].astype(np.float64) ** 2)
    return np.sqrt(gone) / np.linalg.norm(np.sqrt(gone))


@pytest.mark.parametrize("geometry", [BERT, GROUPED, SHARED])
def test_scores_are_what_leaves_with_a_group(tmp_path: Path, geometry: Geometry) -> None:
    tensors = _tensors(geometry)
    save_file(tensors, tmp_path / "model.safetensors")
    scores = weight_magnitudes(tmp_path, geometry)
    assert len(scores.heads) == len(scores.channels) == geometry.layers
    for layer in range(geometry.layers):
        for unit, vector in (("head", scores.heads[layer]), ("channel", scores.channels[layer])):
            assert vector.dtype == np.float32
            np.testing.assert_allclose(vector, _dense(geometry, tensors, layer, unit), rtol=1e-6)
            assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


def test_the_names_may_carry_a_prefix(tmp_path: Path) -> None:
    for name, prefix in (("plain", ""), ("headed", "bert.")):
        (tmp_path / name).mkdir()
        save_file(_tensors(BERT, prefix), tmp_path / name / "model.safetensors")
    plain, headed = (weight_magnitudes(tmp_path / name, BERT) for name in ("plain", "headed"))
    assert all(np.array_equal(a, b) for a, b in zip(plain.channels, headed.channels, strict=True))


def test_one_heavy_head_stands_out(tmp_path: Path) -> None:
    tensors = _tensors(BERT)
    tensors["encoder.layer.1.attention.self.query.weight"][4:6] *= 100
    save_file(tensors, tmp_path / "model.safetensors")
    assert int(np.argmax(weight_magnitudes(tmp_path, BERT).heads[1])) == 2


def test_a_layer_of_zeros_scores_zero(tmp_path: Path) -> None:
    save_file({name: np.zeros_like(value) for name, value in _tensors(BERT).items()}, tmp_path / "model.safetensors")
    assert weight_magnitudes(tmp_path, BERT).heads[0].tolist() == [0.0] * 4


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    tensors = _tensors(BERT)
    next(value for name, value in tensors.items() if "layer.1" in name and "query.weight" in name)[0, 0] = np.nan
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=rf"{tmp_path}: weights of layer 1 hold NaN or infinite values"):
        weight_magnitudes(tmp_path, BERT)


def test_a_config_of_another_model_is_noticed(tmp_path: Path) -> None:
    save_file(_tensors(BERT), tmp_path / "model.safetensors")
    other = geometry_from_config({"model_type": "bert", "num_attention_heads": 4, **SIZES, "intermediate_size": 7})
    with pytest.raises(ModelError, match=r"has shape \(6, 8\), the config implies \(7, 8\)"):
        weight_magnitudes(tmp_path, other)
    with pytest.raises(ModelError, match=r"no tensor 'layers\.0\.self_attn\.q_proj\.weight'"):
        weight_magnitudes(tmp_path, GROUPED)


@pytest.mark.parametrize("geometry", [BERT, GROUPED, SHARED])
def test_a_whole_checkpoint_has_its_layers(tmp_path: Path, geometry: Geometry) -> None:
    save_file(_tensors(geometry), tmp_path / "model.safetensors")
    check_layers(tmp_path, geometry)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (None, r"the checkpoint has no tensor 'encoder\.layer\.1\.output\.dense\.weight'; does config\.json belong"),
        (np.zeros((8, 5), np.float32), r"has shape \(8, 5\), the config implies \(8, 6\)"),
        (np.zeros((8, 6), np.int8), r"output\.dense\.weight' is I8; expected F64, F32, F16 or BF16"),
    ],
)
def test_a_layer_that_no_device_could_load_is_named(tmp_path: Path, value: Any, part: str) -> None:
    tensors = _tensors(BERT)
    name = "encoder.layer.1.output.dense.weight"
    tensors = {key: each for key, each in tensors.items() if key != name} | ({} if value is None else {name: value})
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=part) as caught:
        check_layers(tmp_path, BERT)
    assert str(tmp_path) in str(caught.value)
