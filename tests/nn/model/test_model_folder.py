"""What lies in a model folder, and what is said of a folder that cannot be used."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers.utils import logging as hf_logging

from fedcore.core.errors import ModelError
from fedcore.nn.model.model_folder import load_tokenizer, quiet, read_config, read_tensors, tensor_shapes, weight_files
from tests.tiny_models import VOCAB, pad_beyond_vocabulary, tiny_model, tiny_tokenizer

INDEX = "model.safetensors.index.json"


def test_a_config_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 32, "own": [1]}')
    assert read_config(tmp_path) == {"model_type": "bert", "hidden_size": 32, "own": [1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected a JSON object, got list"),
        (
            '{"quantization_config": {"bits": 4}}',
            "the weights are quantized; load them with transformers, dequantize, and save again",
        ),
        (
            '{"position_embedding_type": "relative_key"}',
            "position_embedding_type 'relative_key' is not supported; expected 'absolute'",
        ),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ModelError) as error:
        read_config(tmp_path)
    assert str(error.value) == f"{path}: {message}"


def test_one_file_of_weights_comes_before_an_index_of_shards(tmp_path: Path) -> None:
    for name in ("model-1.safetensors", "model-0.safetensors", "model.safetensors"):
        (tmp_path / name).touch()
    names = {"a": "model-1.safetensors", "b": "model-0.safetensors", "c": "model-1.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
    assert weight_files(tmp_path) == (tmp_path / "model.safetensors",)
    (tmp_path / "model.safetensors").unlink()
    assert weight_files(tmp_path) == (tmp_path / "model-0.safetensors", tmp_path / "model-1.safetensors")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{}", r"malformed shard index: KeyError\('weight_map'\)"),
        ('{"weight_map": {"a": "gone.safetensors"}}', r"names 'gone\.safetensors', which is not in the folder"),
        ('{"weight_map": {"a": "../config.json"}}', r"names '\.\./config\.json', which is not in the folder"),
    ],
)
def test_an_index_names_only_files_of_its_folder(index: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "config.json").write_text("{}")
    (folder / INDEX).write_text(index)
    with pytest.raises(ModelError, match=message):
        weight_files(folder)


def test_tensors_of_several_files_are_one(tmp_path: Path) -> None:
    files = (tmp_path / "0.safetensors", tmp_path / "1.safetensors")
    save_file({"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(4)}, files[0])
    save_file({"c": torch.tensor([5], dtype=torch.int64), "d": torch.tensor(1.0)}, files[1])
    assert tensor_shapes(files) == {"a": (2, 3), "b": (4,), "c": (1,), "d": ()}
    tensors = read_tensors(files, {"a", "c", "elsewhere"})
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {"a": [[0, 1, 2], [3, 4, 5]], "c": [5]}
    files[1].write_bytes(b"broken")
    with pytest.raises(ModelError, match=r"1\.safetensors: not a readable safetensors file: .*; fetch it again$"):
        tensor_shapes(files)


def test_a_tokenizer_without_a_padding_token_pads_with_its_end(tmp_path: Path) -> None:
    tiny_tokenizer(bert=False).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.pad_token == tokenizer.eos_token
    assert tokenizer("good film")["input_ids"] == tiny_tokenizer(bert=False)("good film")["input_ids"]


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_a_tokenizer_whose_padding_is_beyond_the_vocabulary_pads_within_it(kind: str, tmp_path: Path) -> None:
    folder = pad_beyond_vocabulary(tiny_model(tmp_path, kind))
    tokenizer = load_tokenizer(folder)
    expected = {"bert": "[PAD]", "roberta": "[PAD]", "llama": "[SEP]"}  # by the config, or the end of a text
    assert tokenizer.pad_token == expected[kind] and tokenizer.pad_token_id < VOCAB
    assert tokenizer("<late-pad>")["input_ids"][1:2] == [VOCAB], "of a text itself it stays what it is"


def test_a_padding_token_that_must_be_replaced_is_never_an_unknown_word_where_another_is_known(tmp_path: Path) -> None:
    folder = pad_beyond_vocabulary(tiny_model(tmp_path, "llama"))
    config = json.loads((folder / "config.json").read_text())
    chosen = []
    for size in (VOCAB, 3, 2, 1):  # [PAD] 0, [UNK] 1, [CLS] 2 (which begins a text), [SEP] 3 (which ends it)
        (folder / "config.json").write_text(json.dumps(config | {"vocab_size": size, "pad_token_id": VOCAB}))
        chosen.append(load_tokenizer(folder).pad_token)
    assert chosen == ["[SEP]", "[CLS]", "[UNK]", "[PAD]"]


def test_transformers_speaks_again_after_a_quiet_block() -> None:
    before = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    with pytest.raises(ValueError, match="a fault"), quiet():
        assert (hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()) == (hf_logging.ERROR, False)
        raise ValueError("a fault")
    assert (hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()) == before
