"""The global adapter as a folder that peft loads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModel

from fedcore.client.data.rows import Rows
from fedcore.client.evaluation.model_evaluator import ModelEvaluator
from fedcore.client.training.trainer import ModelSource
from fedcore.core.model.adapter import AdapterSpec, initial_adapter
from fedcore.core.model.base_shift import shift_shapes
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.module_paths import module_path
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.nn.model.fused import part
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.modeling_fedcore import MEAN_HEAD_SCALE as APPLIED_SCALE
from fedcore.server.run.peft_folder import MEAN_HEAD_SCALE, AdapterCard, write_peft_folder, write_readme
from fedcore.storage.models.checkpoint import read_config
from tests.tiny_models import tiny_batch, tiny_model
from tests.tiny_run import MODEL, drawn_adapter, spec_of

GEOMETRY = geometry_from_config(MODEL)


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama-gqa", "llama-mqa", "qwen2", "phi3", "gpt2", "gpt-neox"])
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
        part(plain, geometry)
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


TEXTS = ("good film", "the actor was very dull and the plot was bad", "a great story")
LABELS = ("no", "yes")


def card_of(**changes: object) -> AdapterCard:
    values = {"run": "tiny", "head": "mean", "labels": LABELS, "max_length": 8, "dtype": "float32", "pruned": True}
    return AdapterCard(**{**values, "headline": CLASSIFICATION.headline, **changes})  # type: ignore[arg-type]


def test_the_page_scales_a_mean_head_as_the_model_does() -> None:
    assert MEAN_HEAD_SCALE == APPLIED_SCALE


@pytest.mark.parametrize(
    ("kind", "head", "pair"),
    [
        ("bert", "mean", False),
        ("bert", "mean", True),
        ("bert", "stock", False),
        ("roberta", "mean", False),
        ("roberta", "stock", False),
        ("llama-gqa", "last", False),
        ("mistral", "last", True),
    ],
)
def test_the_code_of_the_page_gives_the_logits_of_the_evaluator(
    kind: str, head: str, pair: bool, tmp_path: Path
) -> None:
    base = tiny_model(tmp_path / "model", kind, num_labels=2 if head == "stock" else 0)
    classifier = load_classifier(base, labels=LABELS, head=head)
    geometry = classifier.geometry
    heads = tuple((name, tuple(value.shape)) for name, value in classifier.head_parameters().items())
    spec = AdapterSpec(geometry=geometry, rank=2, targets=geometry.modules, head=heads)
    shift = {name: np.full(shape, 0.02, np.float32) for name, shape in shift_shapes(spec).items()} if pair else {}
    tensors = {name: 0.2 * value for name, value in drawn_adapter(spec).items()} | shift
    write_peft_folder(tmp_path / "global", spec, tensors, str(base))
    write_readme(tmp_path / "global", spec, str(base), card_of(head=head))
    code = (tmp_path / "global" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(code, names)

    rows = Rows(texts=tuple((text, "not bad") if pair else (text,) for text in TEXTS), labels=("no",) * len(TEXTS))
    source = ModelSource(folder=base, labels=LABELS, head=head, dtype="float32", max_length=8, targets=geometry.modules)
    evaluator = ModelEvaluator(source=source, test=rows, train=Rows(texts=(), labels=()))
    expected = evaluator.predict(tensors, KeepSet.full(geometry), 0, 2.0).logits
    columns = [list(column) for column in zip(*rows.texts, strict=True)]
    given = names["logits"](*columns).numpy()  # type: ignore[operator]
    np.testing.assert_allclose(given, expected, atol=1e-4, rtol=1e-4)
    assert np.ptp(given, axis=0).max() > 1e-2, "the rows differ"


def test_the_page_says_what_the_adapter_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "global"
    spec = spec_of(GEOMETRY, 2)
    write_peft_folder(folder, spec, drawn_adapter(spec), "base")
    write_readme(folder, spec, "base", card_of(dense=0.749, classes={"tx2": 0.853}))
    page = (folder / "README.md").read_text()
    assert "It is not what the run delivers" in page and "this adapter on the dense model 0.749" in page
    assert "the model of class tx2 0.853" in page and 'base_shift.safetensors")' not in page
    write_readme(folder, spec, "base", card_of(pruned=False))
    page = (folder / "README.md").read_text()
    assert "not what the run delivers" not in page and "Accuracy on held-back rows" not in page


@pytest.mark.parametrize("kind", ["phi3", "gpt2", "gpt-neox"])
def test_a_shift_of_fused_layers_is_under_their_names(kind: str, tmp_path: Path) -> None:
    model_folder = tiny_model(tmp_path / "model", kind)
    geometry = geometry_from_config(read_config(model_folder))
    spec = AdapterSpec(geometry=geometry, rank=2, targets=geometry.modules, head=())
    tensors = drawn_adapter(spec)
    shift = {name: np.full(shape, 0.1, np.float32) for name, shape in shift_shapes(spec).items()}
    write_peft_folder(tmp_path / "shifted", spec, tensors | shift, "base")
    held = load_file(tmp_path / "shifted" / "base_shift.safetensors")
    plain = AutoModel.from_pretrained(model_folder)
    for name, value in held.items():
        assert value.shape == tuple(plain.get_parameter(name).shape)
        assert np.all(value == np.float32(0.1))
