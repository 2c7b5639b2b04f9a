"""What a base's config says beside its architecture changes neither a run nor what its export answers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, pipeline

from fedcore.nn.model.config_keys import architecture
from fedcore.nn.model.export import export_classifier
from fedcore.nn.model.load import load_classifier
from tests.tiny_models import KINDS, tiny_batch, tiny_model

LABELS = ("neg", "pos")
# Of a base's last owner, each with a value that would change what comes out, or break it.
FOREIGN: dict[str, Any] = {
    "problem_type": "multi_label_classification",
    "id2label": {"0": "a", "1": "b", "2": "c"},
    "label2id": {"a": 0, "b": 1, "c": 2},
    "num_labels": 3,
    "task_specific_params": {"text-classification": {"function_to_apply": "none"}},
    "finetuning_task": "stsb",
    "return_dict": False,
    "use_return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "torchscript": True,
    "use_cache": True,
    "chunk_size_feed_forward": 3,
    "torch_dtype": "float16",
    "dtype": "bfloat16",
    "architectures": ["SomethingElse"],
    "auto_map": {"AutoConfig": "not_here.Config", "AutoModel": "not_here.Model"},
    "custom_pipelines": {"text-classification": {"impl": "not_here.Pipeline"}},
    "pruned_heads": {"0": [1]},
    "gradient_checkpointing": True,
    "is_encoder_decoder": True,
    "_attn_implementation": "flash_attention_2",
    "attn_implementation": "flash_attention_2",
    "tokenizer_class": "NotHereTokenizer",
    "prefix": "translate: ",
    "temperature": 3.0,
    "sep_token_id": 1,
    "decoder_start_token_id": 1,
    "_name_or_path": "/home/somebody/model",
    "transformers_version": "2.0",
    "quantization_config": None,
}


def with_keys(folder: Path, **values: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


def exported(base: Path, out: Path) -> dict[str, Any]:
    export_classifier(load_classifier(base, labels=LABELS), out, base)
    written: dict[str, Any] = json.loads((out / "config.json").read_text())
    return written


@pytest.mark.parametrize("kind", KINDS)
def test_foreign_keys_change_nothing(kind: str, tmp_path: Path) -> None:
    plain, strange = (tiny_model(tmp_path / name, kind) for name in ("plain", "strange"))
    with_keys(strange, **FOREIGN)
    with torch.no_grad():
        logits = [load_classifier(each, labels=LABELS).model(**tiny_batch()).logits for each in (plain, strange)]
    assert torch.equal(*logits)
    assert exported(strange, tmp_path / "x-strange") == exported(plain, tmp_path / "x-plain")


@pytest.mark.parametrize("key", FOREIGN)
def test_each_foreign_key_by_itself_changes_no_answer(key: str, tmp_path: Path) -> None:
    for kind in ("bert", "llama"):
        base = with_keys(tiny_model(tmp_path / kind, kind), **{key: FOREIGN[key]})
        written = exported(base, tmp_path / f"x-{kind}")
        assert written["problem_type"] == "single_label_classification"
        classify = pipeline(
            "text-classification", model=str(tmp_path / f"x-{kind}"), trust_remote_code=True, device="cpu"
        )
        scores = classify("the film was good", top_k=None)
        assert {each["label"] for each in scores} == set(LABELS)
        assert sum(each["score"] for each in scores) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_the_architecture_stays(kind: str, tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", kind)
    config = AutoConfig.from_pretrained(base).to_dict()
    written = exported(base, tmp_path / "x")
    kept = architecture(config)
    found = written.get("backbone", written)
    same = {key: value for key, value in kept.items() if key != "pad_token_id" and value is not None}
    assert {key: found.get(key) for key in same} == same
    # Whatever the family's own config class has beyond what all configs have, but for the cache of a generator.
    own = set(type(AutoConfig.for_model(config["model_type"]))().to_dict()) - set(AutoConfig.for_model("t5").to_dict())
    assert {key for key in own - set(kept) if not key.startswith("_")} <= {"use_cache"}


def test_old_rotary_settings_are_taken_over(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", "llama")
    values = json.loads((base / "config.json").read_text())
    values.pop("rope_parameters", None)
    values |= {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}
    (base / "config.json").write_text(json.dumps(values))
    written = exported(base, tmp_path / "x")
    assert written["rope_parameters"] == {
        "rope_theta": 5e5,
        "rope_type": "linear",
        "factor": 2.0,
        "type": "linear",
    } or (written["rope_parameters"] == {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0})


def test_a_tokenizer_that_names_code_leaves_it_behind(tmp_path: Path) -> None:
    for kind in ("bert", "llama"):
        base = tiny_model(tmp_path / kind, kind)
        path = base / "tokenizer_config.json"
        named = {"auto_map": {"AutoTokenizer": [None, "not_here.Tokenizer"]}}
        path.write_text(json.dumps(json.loads(path.read_text()) | named))
        exported(base, tmp_path / f"x-{kind}")
        assert "auto_map" not in json.loads((tmp_path / f"x-{kind}" / "tokenizer_config.json").read_text())
