import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fedcore.core.errors import ModelError
from fedcore.storage.file_hash import file_sha256
from fedcore.storage.models.checkpoint import backbone_name, fingerprint, model_files, read_config

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 6,
    "vocab_size": 5,
    "max_position_embeddings": 8,
    "pad_token_id": 0,
}
TENSORS = {
    "embeddings.word_embeddings.weight": np.arange(20, dtype=np.float32).reshape(5, 4),
    "encoder.layer.0.output.dense.bias": np.ones(4, dtype=np.float32),
}


def _model(
    folder: Path, tensors: Mapping[str, Any] = TENSORS, config: Mapping[str, Any] = CONFIG, tokenizer: str = "{}"
) -> Path:
    folder.mkdir()
    save_file(dict(tensors), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(dict(config)))
    (folder / "tokenizer.json").write_text(tokenizer)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return _model(tmp_path / "model")


def test_a_copy_has_the_same_fingerprint(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    assert fingerprint(copy) == fingerprint(model)
    assert fingerprint(copy).combined == fingerprint(model).combined
    assert len(fingerprint(model).combined) == 64


def test_a_classifier_on_the_same_backbone_agrees(model: Path, tmp_path: Path) -> None:
    head = {"classifier.weight": np.ones((2, 4), np.float32), "bert.pooler.dense.bias": np.ones(4, np.float32)}
    buffers = {"bert.embeddings.position_ids": np.arange(8)}
    tensors = {**head, **buffers, **{f"bert.{name}": value for name, value in TENSORS.items()}}
    config = {**CONFIG, "architectures": ["BertForSequenceClassification"], "id2label": {"0": "no", "1": "yes"}}
    assert fingerprint(_model(tmp_path / "classifier", tensors, config)) == fingerprint(model)


def test_shards_and_order_do_not_matter(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "sharded"
    shutil.copytree(model, other)
    (other / "model.safetensors").unlink()
    for number, (name, value) in enumerate(reversed(TENSORS.items())):
        save_file({name: value}, other / f"part-{number}.safetensors")
    assert fingerprint(other) == fingerprint(model)


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder.layer.0.output.dense.bias": np.array([1, 1, 1, 1.0000001], np.float32)},
        {"encoder.layer.0.output.dense.bias": np.ones(4, np.float16)},
        {"encoder.layer.0.output.dense.bias": np.ones((4, 1), np.float32)},
        {"encoder.layer.1.output.dense.bias": np.ones(4, np.float32)},
    ],
)
def test_any_other_tensor_differs(model: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    other = fingerprint(_model(tmp_path / "other", {**TENSORS, **changes}))
    assert fingerprint(model).differences(other) == ("tensors",)
    assert other.combined != fingerprint(model).combined


@pytest.mark.parametrize(
    "changes",
    [
        {"_name_or_path": "x", "transformers_version": "9", "torch_dtype": "float32", "dtype": "float32"},
        {"problem_type": "x", "use_cache": True, "label2id": {"a": 0}, "hidden_dropout_prob": 0.3},
        {"head_dim": None, "attention_bias": False},
        {"rope_theta": None, "rope_scaling": None, "rope_parameters": {"rope_type": "default"}},
    ],
)
def test_keys_that_change_nothing_are_left_out(model: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    assert fingerprint(_model(tmp_path / "other", config={**CONFIG, **changes})) == fingerprint(model)


@pytest.mark.parametrize("changes", [{"hidden_act": "relu"}, {"layer_norm_eps": 1e-5}, {"pad_token_id": None}])
def test_keys_that_change_the_function_count(model: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    other = fingerprint(_model(tmp_path / "other", config={**CONFIG, **changes}))
    assert fingerprint(model).differences(other) == ("config",)


def test_old_and_new_spellings_of_rotary_settings_agree(tmp_path: Path) -> None:
    old = {**CONFIG, "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}
    new = {**CONFIG, "rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}}
    other = {**CONFIG, "rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}}
    prints = [fingerprint(_model(tmp_path / str(index), config=each)) for index, each in enumerate((old, new, other))]
    assert prints[0] == prints[1] != prints[2]


def test_the_tokenizer_counts(model: Path, tmp_path: Path) -> None:
    other = fingerprint(_model(tmp_path / "other", tokenizer='{"a": 1}'))
    assert fingerprint(model).differences(other) == ("tokenizer",)


def test_without_a_fast_tokenizer_the_vocabulary_counts(model: Path) -> None:
    with_fast = fingerprint(model)
    (model / "vocab.txt").write_text("a\n")
    assert fingerprint(model) == with_fast
    (model / "tokenizer.json").unlink()
    slow = fingerprint(model)
    (model / "vocab.txt").write_text("b\n")
    assert fingerprint(model).tokenizer != slow.tokenizer


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("embeddings.LayerNorm.weight", "embeddings.LayerNorm.weight"),
        ("roberta.encoder.layer.3.output.dense.weight", "encoder.layer.3.output.dense.weight"),
        ("model.layers.0.mlp.up_proj.weight", "layers.0.mlp.up_proj.weight"),
        ("base_model.model.norm.weight", "norm.weight"),
        ("lm_head.weight", None),
        ("score.weight", None),
        ("cls.predictions.bias", None),
        ("bert.pooler.dense.weight", None),
        ("roberta.embeddings.position_ids", None),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", None),
    ],
)
def test_backbone_names(name: str, inside: str | None) -> None:
    assert backbone_name(name) == inside


def test_a_tensor_under_two_prefixes_is_refused(tmp_path: Path) -> None:
    tensors = {**TENSORS, "bert.encoder.layer.0.output.dense.bias": np.ones(4, np.float32)}
    with pytest.raises(ModelError, match="are the same backbone tensor"):
        fingerprint(_model(tmp_path / "twice", tensors))


def test_a_checkpoint_without_a_backbone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no backbone tensor found"):
        fingerprint(_model(tmp_path / "head", {"classifier.weight": np.ones((2, 4), np.float32)}))


def test_model_files_are_those_a_device_needs(model: Path) -> None:
    (model / "README.md").write_text("x")
    (model / "pytorch_model.bin").write_text("x")
    (model / "vocab.txt").write_text("a\n")
    (model / "tokenizer_config.json").write_text("{}")
    files = model_files(model)
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    assert [file.name for file in files] == names
    for file in files:
        assert (file.size, file.sha256) == ((model / file.name).stat().st_size, file_sha256(model / file.name))


def test_served_files_make_the_same_model(model: Path, tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.mkdir()
    for file in model_files(model):
        shutil.copy(model / file.name, device)
    assert fingerprint(device) == fingerprint(model)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"config\.json is missing"), ("{", "not readable as JSON"), ("[]", "expected a JSON object, got list")],
)
def test_a_bad_config_is_named(model: Path, content: str | None, message: str) -> None:
    (model / "config.json").unlink()
    if content is not None:
        (model / "config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        read_config(model)


def test_missing_parts_say_what_was_expected(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        fingerprint(tmp_path / "gone")
    (model / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer file; expected one of tokenizer\.json"):
        fingerprint(model)
