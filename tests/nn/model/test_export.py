import copy
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fedcore.core.errors import ModelError
from fedcore.core.model.geometry import Counts
from fedcore.core.model.keep_set import KeepSet
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.export import export_classifier
from fedcore.nn.model.load import load_classifier, load_tokenizer
from fedcore.nn.model.lora import attach, load_adapter, merge, read_adapter
from fedcore.nn.model.surgery import shrink
from tests.tiny_models import VOCAB, pad_beyond_vocabulary, random_keep_set, tiny_batch, tiny_model

LABELS = ("neg", "pos")
TEXTS = ["a great film", "the plot was not good and the actor dull"]

# What a stranger runs: transformers alone, from another folder, in a process that cannot import fedcore.
STRANGER = """
import json, sys
sys.modules["fedcore"] = None
import torch
from pathlib import Path
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

told = {}
for folder in map(Path, sys.argv[1:]):
    trust = (folder / "modeling_fedcore.py").exists()
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=trust)
    probe = load_file(folder / "probe.safetensors")
    expected = probe.pop("logits")
    with torch.no_grad():
        output = model(**probe, labels=torch.zeros(len(expected), dtype=torch.long))
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
    told[folder.name] = {
        "class": type(model).__name__,
        "error": (output.logits - expected).abs().max().item(),
        "loss": output.loss.item(),
        "parameters": sum(each.numel() for each in model.parameters()),
        "ids": tokenizer(["a great film"])["input_ids"],
        "label": classify("a great film")[0]["label"],
    }
print(json.dumps(told))
"""

CASES = {  # name -> (kind, labels the checkpoint has, dtype, head units kept)
    "bert": ("bert", 0, "float32", 2),
    "bert-stock": ("bert", 2, "float32", 3),
    "bert-bf16": ("bert", 0, "bfloat16", 2),
    "roberta": ("roberta", 0, "float32", 1),
    "roberta-stock": ("roberta", 2, "float32", 2),
    "llama": ("llama", 0, "float32", 2),
    "llama-padded": ("llama", 0, "float32", 3),  # 3 heads do not divide hidden 32
    "llama-bf16": ("llama", 0, "bfloat16", 2),
    "llama-gqa": ("llama-gqa", 0, "float32", 2),
    "llama-mqa": ("llama-mqa", 0, "float32", 2),
    "llama-mqa-padded": ("llama-mqa", 0, "float32", 3),
    "mistral": ("mistral", 2, "float32", 1),
    "qwen2": ("qwen2", 0, "float32", 1),
}
DENSE = ("bert", "llama-gqa", "qwen2")  # exported unpruned too
EXPORTS = (*CASES, *(f"{name}-dense" for name in DENSE))


def adapted_model(folder: Path, dtype: str = "float32") -> Classifier:
    classifier = load_classifier(folder, labels=LABELS, dtype=dtype)
    attach(classifier, rank=2, scale=2.0, targets=classifier.geometry.modules)
    rng = np.random.default_rng(5)
    load_adapter(
        classifier,
        {key: rng.normal(0, 0.1, old.shape).astype(np.float32) for key, old in read_adapter(classifier).items()},
    )
    return classifier


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, object]]]:
    """Export every case, some of them dense as well, and let one stranger load them all."""
    root = tmp_path_factory.mktemp("exports")
    for name, (kind, num_labels, dtype, heads) in CASES.items():
        base = tiny_model(root / "base" / name, kind, num_labels=num_labels)
        classifier = adapted_model(base, dtype)
        if name in DENSE:
            export_classifier(classifier, root / f"{name}-dense", base, tiny_batch())
        shrink(classifier, random_keep_set(classifier.keep_set, heads=heads, channels=24))
        export_classifier(classifier, root / name, base, tiny_batch())
    folders = [str(root / name) for name in EXPORTS]
    environment = os.environ | {"HF_HOME": str(root / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, *folders],
        cwd=root / "base",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return root, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", EXPORTS)
def test_a_stranger_gets_the_same_logits(strangers, name: str) -> None:
    told = strangers[1][name]
    assert told["error"] <= 1e-4
    assert np.isfinite(told["loss"])
    assert told["label"] in LABELS


@pytest.mark.parametrize("name", CASES)
def test_the_tokenizer_comes_along(strangers, name: str) -> None:
    root, told = strangers
    assert told[name]["ids"] == load_tokenizer(root / "base" / name)(["a great film"])["input_ids"]


@pytest.mark.parametrize("name", CASES)
def test_a_pruned_export_is_smaller_than_its_base(strangers, name: str) -> None:
    root = strangers[0]
    pruned, base = ((root / folder / "model.safetensors").stat().st_size for folder in (name, f"base/{name}"))
    assert pruned < base


@pytest.mark.parametrize("name", DENSE)
def test_parameters_that_load_are_what_the_geometry_says(strangers, name: str) -> None:
    told, geometry = strangers[1], load_classifier(strangers[0] / "base" / name, labels=LABELS).geometry
    kept = geometry.kept_params(Counts(heads=CASES[name][3], channels=24))
    assert told[f"{name}-dense"]["parameters"] - told[name]["parameters"] == geometry.prunable_params - kept


@pytest.mark.parametrize(
    ("name", "cls", "heads", "kv_heads"),
    [
        ("llama", "LlamaForSequenceClassification", 2, 2),
        ("llama-gqa", "LlamaForSequenceClassification", 6, 2),
        ("llama-mqa", "LlamaForSequenceClassification", 2, 1),
        ("llama-padded", "LlamaForSequenceClassification", 4, 4),
        ("mistral", "MistralForSequenceClassification", 2, 1),
        ("qwen2", "Qwen2ForSequenceClassification", 2, 1),
    ],
)
def test_a_llama_type_is_a_plain_config(strangers, name: str, cls: str, heads: int, kv_heads: int) -> None:
    root, told = strangers
    config = json.loads((root / name / "config.json").read_text())
    assert told[name]["class"] == cls and config["architectures"] == [cls]
    assert "auto_map" not in config and not list((root / name).glob("*.py"))
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (heads, kv_heads)
    assert config["intermediate_size"] == 24
    assert config["id2label"] == {"0": "neg", "1": "pos"}


def test_every_weight_is_saved_in_float32(strangers) -> None:
    for name in ("bert-bf16", "llama-bf16"):
        tensors = load_file(strangers[0] / name / "model.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
        assert json.loads((strangers[0] / name / "config.json").read_text())["dtype"] == "float32"


def test_nothing_of_this_machine_is_written(strangers) -> None:
    root = strangers[0]
    for file in root.glob("*/*.json"):
        assert str(root) not in file.read_text(), file


def test_the_report_and_keep_set_tell_what_is_there(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", "bert")
    classifier = adapted_model(base)
    shrink(classifier, random_keep_set(classifier.keep_set, heads=2, channels=24))
    report = export_classifier(classifier, tmp_path / "out", base)
    assert report.parameters == classifier.count_parameters()
    assert report.files == tuple(sorted(file.name for file in (tmp_path / "out").iterdir()))
    assert "modeling_fedcore.py" in report.files and "probe.safetensors" not in report.files
    assert report.size_bytes == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    assert KeepSet.from_bytes((tmp_path / "out" / "keep_set.json").read_bytes()) == classifier.keep_set


@pytest.mark.parametrize("kind", ["bert", "llama-gqa"])
def test_exporting_leaves_the_classifier_as_it_is(tmp_path: Path, kind: str) -> None:
    base = tiny_model(tmp_path / "base", kind)
    classifier = adapted_model(base)
    classifier.model.train()
    before = copy.deepcopy(classifier.model.state_dict())
    export_classifier(classifier, tmp_path / "out", base, tiny_batch())
    assert classifier.model.training
    after = classifier.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_file_has_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", "bert")
    before = os.umask(0o027)
    try:
        export_classifier(load_classifier(base, labels=LABELS), tmp_path / "out", base, tiny_batch())
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "out").iterdir()}
    assert set(modes.values()) == {0o640}, modes


@pytest.mark.parametrize(
    ("kind", "limit", "expected"),
    [("bert", None, 40), ("roberta", None, 39), ("llama", None, 64), ("bert", 12, 12), ("bert", 512, 40)],
)
def test_its_tokenizer_cuts_where_the_model_ends(kind: str, limit: int | None, expected: int, tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", kind)
    settings = json.loads((base / "tokenizer_config.json").read_text())
    settings.pop("model_max_length")
    (base / "tokenizer_config.json").write_text(json.dumps(settings | ({"model_max_length": limit} if limit else {})))
    export_classifier(load_classifier(base, labels=LABELS), tmp_path / "out", base)
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["model_max_length"] == expected
    ids = AutoTokenizer.from_pretrained(tmp_path / "out")("good film " * 99, truncation=True)["input_ids"]
    assert len(ids) == expected


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "qwen2"])
def test_its_tokenizer_pads_within_the_vocabulary_of_the_model(kind: str, tmp_path: Path) -> None:
    base = pad_beyond_vocabulary(tiny_model(tmp_path / "base", kind))
    export_classifier(load_classifier(base, labels=LABELS), tmp_path / "out", base)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.pad_token_id == model.config.pad_token_id < VOCAB
    with torch.no_grad():
        both = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
        alone = torch.cat([model(**tokenizer([text], return_tensors="pt")).logits for text in TEXTS])
    torch.testing.assert_close(both, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "llama-gqa", "mistral", "qwen2"])
def test_a_pruned_llama_type_is_quantised_adapted_and_checkpointed_as_its_family(kind: str, tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", kind)
    classifier = load_classifier(base, labels=LABELS)
    shrink(classifier, random_keep_set(classifier.keep_set, heads=2, channels=24))
    export_classifier(classifier, tmp_path / "out", base)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that torchao will take this over
        quantised = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    with torch.no_grad():
        exact, rounded = model(**tiny_batch()).logits, quantised(**tiny_batch()).logits
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.15 * exact.abs().max().item())
    adapted = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj", "v_proj"]))
    adapted.gradient_checkpointing_enable()
    adapted.enable_input_require_grads()
    adapted.train()
    adapted(**tiny_batch(), labels=torch.tensor([0, 1, 0])).loss.backward()
    trained = {name for name, each in adapted.named_parameters() if each.grad is not None and each.grad.abs().sum() > 0}
    assert any("score" in name for name in trained) and any("lora_B" in name for name in trained)


@pytest.mark.parametrize("kind", ["llama-gqa", "qwen2"])
def test_a_pruned_llama_type_is_a_base_model_again(kind: str, tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", kind)
    classifier = load_classifier(base, labels=LABELS)
    shrink(classifier, random_keep_set(classifier.keep_set, heads=2, channels=24))
    export_classifier(classifier, tmp_path / "out", base)
    again = load_classifier(tmp_path / "out", labels=LABELS)
    assert again.geometry.head_units == 2 and again.geometry.ffn == 24
    with torch.no_grad():
        torch.testing.assert_close(again.model(**tiny_batch()).logits, classifier.model(**tiny_batch()).logits)


def test_a_merged_classifier_exports_the_same_weights(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", "bert")
    classifier = adapted_model(base)
    export_classifier(classifier, tmp_path / "out", base)
    merge(classifier)
    export_classifier(classifier, tmp_path / "merged", base)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "merged"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-6, rtol=1e-6)


def test_an_export_replaces_an_older_one_whole(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", "qwen2")
    classifier = load_classifier(base, labels=LABELS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stale.txt").write_text("old")
    export_classifier(classifier, tmp_path / "out", base)
    assert not (tmp_path / "out" / "stale.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "out"]


def test_a_failed_export_leaves_the_older_one(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", "bert")
    classifier = load_classifier(base, labels=LABELS)
    export_classifier(classifier, tmp_path / "out", base)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="no usable tokenizer"):
        export_classifier(classifier, tmp_path / "out", tmp_path / "empty")
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert not list(tmp_path.glob(".out*"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", "bert")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match=r"cannot write the export to .*free space or choose another folder"):
        export_classifier(load_classifier(base, labels=LABELS), tmp_path / "file" / "out", base)
