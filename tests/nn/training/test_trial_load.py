"""What no device could load is refused by loading its tokenizer and first layer."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from fedcore.core.errors import ModelError
from fedcore.nn.training.trial_load import check_loadable
from tests.tiny_models import KINDS, tiny_model

LABELS = ("neg", "pos")
SENTENCEPIECE = b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02"
TIKTOKEN = b"IQ== 0\nIg== 1\n"


def _without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _of_pieces(content: bytes, name: str = "tokenizer.model") -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        _without_tokenizer(folder)
        (folder / name).write_bytes(content)
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))

    return spoil


def _bare(kind: str) -> Callable[[Path], None]:
    """Only a tokenizer's name: transformers makes one up for it that knows nothing."""

    def spoil(folder: Path) -> None:
        _without_tokenizer(folder)
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))

    return spoil


def _text(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None


def _without_first_layer(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = {name: each for name, each in load_file(path).items() if "layers.0.mlp.up" not in name}
    save_file(tensors, path, metadata={"format": "pt"})


def _config(**values: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return spoil


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "no tokenizer": (_without_tokenizer, "no usable tokenizer"),
    "sentencepiece": (
        _of_pieces(SENTENCEPIECE),
        "tokenizer.model is of the package sentencepiece, which is not installed",
    ),
    "another name": (_of_pieces(SENTENCEPIECE, "spiece.model"), "spiece.model is of the package sentencepiece"),
    "tiktoken": (_of_pieces(TIKTOKEN), "tokenizer.model is of the package tiktoken, which is not installed"),
    "no vocabulary": (_bare("BertTokenizer"), "it knows no word beside its special tokens"),
    "of another family": (_bare("Qwen2Tokenizer"), "it knows no word beside its special tokens"),
    "no json": (_text("tokenizer.json", "{"), "no usable tokenizer"),
    "an empty object": (_text("tokenizer.json", "{}"), "no usable tokenizer"),
    "deep json": (_text("tokenizer.json", "[" * 100_000), "no usable tokenizer"),
    "no layer": (_without_first_layer, "has no .*layers.0.mlp.up"),
    "activation": (_config(hidden_act="gelu_9"), "knows nothing called 'gelu_9'"),
    "rotary": (_config(rope_parameters={"rope_type": "twisted"}), "cannot be loaded|nothing called|cannot be run"),
    "size": (_config(hidden_size=31), "cannot be loaded with this config.json|cannot be run|has other shapes"),
    "vocabulary": (_config(vocab_size=4), "has other shapes|the model knows 4 ids"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("sound"), "llama")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_a_device_loads_passes(kind: str, dtype: str, tmp_path: Path) -> None:
    check_loadable(tiny_model(tmp_path, kind), labels=LABELS, head="auto", dtype=dtype)


@pytest.mark.parametrize("name", SPOILT)
def test_what_no_device_can_load_is_refused(name: str, sound: Path, tmp_path: Path) -> None:
    for file in sound.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spoil, message = SPOILT[name]
    spoil(tmp_path)
    with pytest.raises(ModelError, match=message) as caught:
        check_loadable(tmp_path, labels=LABELS, head="auto", dtype="float32")
    assert str(tmp_path) in str(caught.value)


def test_a_head_is_tried_once_labels_are_known(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, "bert", num_labels=3)
    check_loadable(folder, labels=(), head="stock", dtype="float32")
    check_loadable(folder, labels=("a", "b", "c"), head="stock", dtype="float32")
    with pytest.raises(ModelError, match="head 'stock'"):
        check_loadable(folder, labels=LABELS, head="stock", dtype="float32")


def test_layers_after_the_first_are_not_loaded(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, "llama")
    path = folder / "model.safetensors"
    tensors = {name: each for name, each in load_file(path).items() if "layers.1." not in name}
    save_file(tensors, path, metadata={"format": "pt"})
    check_loadable(folder, labels=LABELS, head="auto", dtype="float32")
