import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from fedcore.core.errors import ModelError
from fedcore.nn.model.load import load_classifier, load_tokenizer
from fedcore.nn.training.batches import collate, encode_for
from tests.tiny_models import KINDS, VOCAB, pad_beyond_vocabulary, tiny_batch, tiny_model

LABELS = ("neg", "pos")


def edit_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def edit_weights(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_head_is_trainable(tmp_path: Path, kind: str) -> None:
    classifier = load_classifier(tiny_model(tmp_path, kind), labels=LABELS)
    trainable = [name for name, parameter in classifier.model.named_parameters() if parameter.requires_grad]
    assert len(trainable) == len(classifier.head_parameters()) == len(classifier.head.shapes)
    assert {name: tuple(parameter.shape) for name, parameter in classifier.head_parameters().items()} == dict(
        classifier.head.shapes
    )
    assert not classifier.model.training


@pytest.mark.parametrize("kind", KINDS)
def test_linear_layers_have_the_shapes_of_the_geometry(tmp_path: Path, kind: str) -> None:
    classifier = load_classifier(tiny_model(tmp_path, kind), labels=LABELS)
    for layer in range(classifier.geometry.layers):
        for module in classifier.geometry.modules:
            linear = classifier.base_linear(layer, module)
            assert tuple(linear.weight.shape) == classifier.geometry.shape(module)


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_classifier_gives_the_logits_of_plain_transformers(tmp_path: Path, kind: str) -> None:
    tiny_model(tmp_path, kind, num_labels=2)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    classifier = load_classifier(tmp_path, labels=LABELS)
    plain.config.pad_token_id = classifier.model.config.pad_token_id
    if classifier.geometry.family == "llama":
        plain.config.pad_token_id = load_tokenizer(tmp_path).pad_token_id
    batch = tiny_batch()
    with torch.no_grad():
        torch.testing.assert_close(classifier.model(**batch).logits, plain(**batch).logits)


def test_a_checkpoints_head_rows_follow_the_order_of_the_labels(tmp_path: Path) -> None:
    tiny_model(tmp_path, "bert", num_labels=2)
    edit_config(tmp_path, id2label={"0": "NEG", "1": "POS"})
    batch = tiny_batch()
    with torch.no_grad():
        straight = load_classifier(tmp_path, labels=("neg", "pos")).model(**batch).logits
        swapped = load_classifier(tmp_path, labels=("pos", "neg")).model(**batch).logits
    torch.testing.assert_close(swapped, straight.flip(1))


def test_the_mean_head_is_scaled_normalised_masked_mean(tmp_path: Path) -> None:
    classifier = load_classifier(tiny_model(tmp_path, "bert"), labels=LABELS)
    batch = tiny_batch()
    with torch.no_grad():
        states = classifier.backbone(**batch).last_hidden_state
        means = torch.stack(
            [row[: int(mask.sum())].mean(0) for row, mask in zip(states, batch["attention_mask"], strict=True)]
        )
        head = classifier.head_parameters()
        expected = (10 * means / means.norm(dim=1, keepdim=True)) @ head["head.weight"].T + head["head.bias"]
        torch.testing.assert_close(classifier.model(**batch).logits, expected)


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama-gqa", "qwen2"])
def test_padding_never_changes_the_logits(tmp_path: Path, kind: str) -> None:
    classifier = load_classifier(tiny_model(tmp_path, kind), labels=LABELS)
    pad = load_tokenizer(tmp_path).pad_token_id
    ids = torch.tensor([[5, 6, 7, 8]])
    padded = torch.cat([ids, torch.full((1, 3), pad)], dim=1)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
    with torch.no_grad():
        short = classifier.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        long = classifier.model(input_ids=padded, attention_mask=mask).logits
    torch.testing.assert_close(long, short, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bfloat16_base_has_a_float32_head_that_learns(tmp_path: Path, kind: str) -> None:
    classifier = load_classifier(tiny_model(tmp_path, kind), labels=LABELS, dtype="bfloat16")
    assert classifier.base_linear(0, "q").weight.dtype == torch.bfloat16
    output = classifier.model(**tiny_batch(), labels=torch.tensor([0, 1, 0]))
    assert output.logits.dtype == torch.float32
    output.loss.backward()
    assert all(
        parameter.dtype == torch.float32 and parameter.grad is not None
        for parameter in classifier.head_parameters().values()
    )


def test_loading_is_repeatable_and_leaves_the_random_state_alone(tmp_path: Path) -> None:
    tiny_model(tmp_path, "llama")
    before = torch.get_rng_state()
    first = load_classifier(tmp_path, labels=LABELS).head_parameters()["head.weight"]
    second = load_classifier(tmp_path, labels=LABELS).head_parameters()["head.weight"]
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_llama_without_a_padding_token_pads_with_its_end_token(tmp_path: Path) -> None:
    tiny_model(tmp_path, "llama")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 3
    assert load_classifier(tmp_path, labels=LABELS).model.config.pad_token_id == 3


def test_a_sharded_checkpoint_loads(tmp_path: Path) -> None:
    tiny_model(tmp_path, "bert")
    whole = load_classifier(tmp_path, labels=LABELS)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    weight_map = {}
    for part, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2])):
        file = f"model-{part}.safetensors"
        save_file({name: tensors[name] for name in names}, tmp_path / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    sharded = load_classifier(tmp_path, labels=LABELS)
    with torch.no_grad():
        assert torch.equal(sharded.model(**tiny_batch()).logits, whole.model(**tiny_batch()).logits)
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(ModelError, match=r"names 'model-1\.safetensors', which is not in the folder"):
        load_classifier(tmp_path, labels=LABELS)


BREAKAGES = {
    "no such model folder": lambda folder: [file.unlink() for file in folder.iterdir()] and folder.rmdir(),
    "config.json is missing": lambda folder: (folder / "config.json").unlink(),
    "not readable as JSON": lambda folder: (folder / "config.json").write_text("{"),
    "expected a JSON object": lambda folder: (folder / "config.json").write_text("[]"),
    "cannot prune a model of type 't5'": lambda folder: edit_config(folder, model_type="t5"),
    "weights are quantized": lambda folder: edit_config(folder, quantization_config={"bits": 4}),
    "position_embedding_type 'relative_key'": lambda folder: edit_config(
        folder, position_embedding_type="relative_key"
    ),
    "no weights found": lambda folder: (folder / "model.safetensors").unlink(),
    "convert them once": lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
    "not a readable safetensors file": lambda folder: (folder / "model.safetensors").write_bytes(b"broken"),
    "cannot be loaded with this config.json": lambda folder: edit_config(folder, intermediate_size=40),
    r"has more than the config: encoder\.layer\.1\.": lambda folder: edit_config(folder, num_hidden_layers=1),
    r"checkpoint has no encoder\.layer\.2\.": lambda folder: edit_config(folder, num_hidden_layers=3),
    r"has no encoder\.layer\.0\.output\.dense\.weight": lambda folder: edit_weights(
        folder, lambda tensors: tensors.pop("encoder.layer.0.output.dense.weight")
    ),
}


@pytest.mark.parametrize("message", BREAKAGES)
def test_a_broken_folder_is_refused_with_the_remedy(tmp_path: Path, message: str) -> None:
    folder = tiny_model(tmp_path / "model", "bert")
    BREAKAGES[message](folder)
    with pytest.raises(ModelError, match=message):
        load_classifier(folder, labels=LABELS)


def test_what_transformers_has_no_name_for_is_told(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", "bert")
    edit_config(folder, hidden_act="foo")
    with pytest.raises(ModelError, match="transformers knows nothing called 'foo'"):
        load_classifier(folder, labels=LABELS)


def test_a_forward_pass_in_chunks_takes_any_length(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", "bert")
    edit_config(folder, chunk_size_feed_forward=4)
    with torch.no_grad():
        assert load_classifier(folder, labels=LABELS).model(**tiny_batch(tokens=7)).logits.shape == (3, 2)


def test_an_unknown_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown dtype 'int4'; expected one of float32, bfloat16"):
        load_classifier(tmp_path, labels=LABELS, dtype="int4")


def test_a_tokenizer_that_is_missing_or_cannot_pad_is_refused(tmp_path: Path) -> None:
    tiny_model(tmp_path, "llama")
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in config.items() if key != "eos_token"}))
    with pytest.raises(ModelError, match="neither a padding nor an end token"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="no usable tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_padding_token_beyond_the_vocabulary_pads_with_another(tmp_path: Path, kind: str) -> None:
    texts, labels = [("good film",), ("a bad film the plot was dull",)], [0, 1]
    plain = tiny_model(tmp_path / "plain", kind)
    late = pad_beyond_vocabulary(tiny_model(tmp_path / "late", kind))
    logits = []
    for folder in (plain, late):
        classifier = load_classifier(folder, labels=LABELS)
        batch = collate(encode_for(folder, texts, labels, 16), [0, 1])
        assert batch["input_ids"].max() < VOCAB
        batch.pop("labels")
        with torch.no_grad():
            logits.append(classifier.model(**batch).logits)
    torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=1e-5)


def test_many_loads_at_once_leave_transformers_as_it_was(tmp_path: Path) -> None:
    """A model that ties its weights after them still does: devices of one process load in threads of their own."""
    folder, before = tiny_model(tmp_path, "bert"), PreTrainedModel.tie_weights
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda _: load_classifier(folder, labels=LABELS), range(24)))) == 24
    assert PreTrainedModel.tie_weights is before
