"""What an export of a BERT type can do beside classifying: what its family can."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from fedcore.nn.model.export import export_classifier
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.modeling_fedcore import FedcoreBertConfig, FedcoreBertForSequenceClassification, loss_of
from fedcore.nn.model.surgery import shrink
from tests.tiny_models import KINDS as FAMILIES
from tests.tiny_models import VOCAB, random_keep_set, tiny_batch, tiny_model

LABELS = ("neg", "pos")
BATCH = tiny_batch()
WANTED = torch.tensor([0, 1, 0])
KINDS = {"bert": ("bert", 0), "bert-stock": ("bert", 2), "roberta": ("roberta", 0), "roberta-stock": ("roberta", 2)}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with two of four heads left."""
    root = tmp_path_factory.mktemp("exports")
    kind, own_labels = KINDS[request.param]
    base = tiny_model(root / "base", kind, num_labels=own_labels)
    classifier = load_classifier(base, labels=LABELS)
    shrink(classifier, random_keep_set(classifier.keep_set, heads=2, channels=20))
    export_classifier(classifier, root / "export", base)
    return root / "export"


def loaded(folder: Path, **how: Any) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True, **how)


@pytest.fixture
def model(folder: Path) -> Iterator[Any]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield loaded(folder)


def _gradients(model: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.manual_seed(1)
    model(**BATCH, labels=WANTED).loss.backward()
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("how", [{}, {"use_reentrant": False}, {"use_reentrant": True}], ids=str)
def test_activation_checkpointing_gives_the_same_gradients(model: Any, how: dict[str, bool]) -> None:
    model.eval()  # dropout draws anew in the second pass of a checkpoint
    for layer in model.backbone.encoder.layer:
        layer.train()
    plain = _gradients(copy.deepcopy(model))
    if how.get("use_reentrant"):
        model.enable_input_require_grads()
    model.gradient_checkpointing_enable(how or None)
    assert model.is_gradient_checkpointing
    checkpointed = _gradients(model)
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


def test_embeddings_are_resized_and_come_back(model: Any, tmp_path: Path) -> None:
    before = model(**BATCH).logits
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == VOCAB
    model.resize_token_embeddings(VOCAB + 6)
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == VOCAB + 6
    model.save_pretrained(tmp_path / "saved")
    again = loaded(tmp_path / "saved")
    assert again.get_input_embeddings().num_embeddings == VOCAB + 6
    torch.testing.assert_close(again(**BATCH).logits, before, rtol=0, atol=0)


def test_what_is_saved_anew_loads_with_the_same_logits(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "modeling_fedcore.py").is_file()
    with torch.no_grad():
        torch.testing.assert_close(loaded(tmp_path / "saved")(**BATCH).logits, model(**BATCH).logits, rtol=0, atol=0)


def test_states_and_attentions_come_where_they_are_asked_for(folder: Path) -> None:
    model = loaded(folder, attn_implementation="eager")
    with torch.no_grad():
        plain = model(**BATCH)
        asked = model(**BATCH, output_hidden_states=True, output_attentions=True)
        model.config.output_hidden_states = True
        by_config = model(**BATCH)
    assert plain.hidden_states is None and plain.attentions is None
    assert len(asked.hidden_states) == 3 and len(asked.attentions) == 2
    assert asked.attentions[0].shape == (3, 2, 7, 7), "of the two heads left"
    assert len(by_config.hidden_states) == 3
    torch.testing.assert_close(asked.logits, plain.logits, rtol=0, atol=0)


def test_a_tuple_comes_where_it_is_asked_for(model: Any) -> None:
    with torch.no_grad():
        logits = model(**BATCH).logits
        assert torch.equal(model(**BATCH, return_dict=False)[0], logits)
        loss, again = model(**BATCH, labels=WANTED, return_dict=False)
    assert torch.equal(again, logits) and loss.ndim == 0


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_may_be_changed(model: Any, attention: str) -> None:
    with torch.no_grad():
        before = model(**BATCH).logits
        model.set_attn_implementation(attention)
        torch.testing.assert_close(model(**BATCH).logits, before, rtol=1e-5, atol=1e-5)
    assert model.backbone.config._attn_implementation == attention


@pytest.mark.parametrize(
    ("problem", "labels", "wanted"),
    [
        ("regression", 1, torch.tensor([0.5, 1.0, 2.0])),
        ("multi_label_classification", 3, torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 0]])),
        ("single_label_classification", 3, torch.tensor([2, 0, 1])),
    ],
)
def test_it_can_be_fine_tuned_for_another_task(folder: Path, problem: str, labels: int, wanted: torch.Tensor) -> None:
    model = loaded(folder, num_labels=labels, problem_type=problem, ignore_mismatched_sizes=True)
    output = model(**BATCH, labels=wanted)
    assert output.logits.shape == (3, labels) and output.loss.ndim == 0
    output.loss.backward()
    assert model.get_input_embeddings().weight.grad is not None


def test_losses_are_those_of_transformers() -> None:
    from transformers.loss.loss_utils import ForSequenceClassificationLoss

    generator = torch.Generator().manual_seed(0)
    for problem, labels in (("regression", 1), ("regression", 3), ("multi_label_classification", 3)):
        logits = torch.randn(4, labels, generator=generator)
        wanted = torch.rand(4, labels, generator=generator).round()
        config = FedcoreBertConfig(problem_type=problem, num_labels=labels)
        torch.testing.assert_close(
            loss_of(problem, logits, wanted), ForSequenceClassificationLoss(wanted, logits, config)
        )


def test_the_backbone_alone_gives_features(folder: Path, model: Any) -> None:
    features = AutoModel.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        found = features(**BATCH)
        expected = model.eval()(**BATCH, output_hidden_states=True).hidden_states[-1]
        as_tuple = features(**BATCH, return_dict=False)
    torch.testing.assert_close(found.last_hidden_state, expected, rtol=0, atol=0)
    assert torch.equal(as_tuple[0], expected)


def test_the_config_answers_what_tools_ask_of_their_family(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert (config.vocab_size, config.num_hidden_layers, config.num_attention_heads) == (VOCAB, 2, 4)
    assert (config.max_position_embeddings, config.hidden_size, config.num_labels) == (40, 32, 2)
    written = json.loads((folder / "config.json").read_text())
    assert not {"vocab_size", "num_hidden_layers"} & set(written), "they are the backbone's, and there once"


def test_adapters_attach_to_it_with_checkpointing(model: Any) -> None:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(
        model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"], modules_to_save=["head"])
    )
    adapted.gradient_checkpointing_enable()
    adapted.enable_input_require_grads()
    adapted.train()
    adapted(**BATCH, labels=WANTED).loss.backward()
    assert any(each.grad is not None for name, each in adapted.named_parameters() if "lora_B" in name)


def test_half_precision_loads_and_answers(folder: Path) -> None:
    model = loaded(folder, dtype=torch.bfloat16)
    assert model(**BATCH).logits.dtype == torch.bfloat16


def test_layers_may_keep_different_widths() -> None:
    backbone = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 64} | FAMILIES["bert"]
    config = FedcoreBertConfig(backbone=backbone, kept_heads=[1, 3], ffn_sizes=[5, 48], num_labels=3)
    model = FedcoreBertForSequenceClassification(config).eval()
    widths = [
        (layer.attention.self.query.out_features, layer.output.dense.in_features)
        for layer in model.backbone.encoder.layer
    ]
    assert widths == [(8, 5), (24, 48)]
    assert model(**tiny_batch(), return_dict=False)[0].shape == (3, 3)
    with pytest.raises(ValueError, match="shorter"):
        FedcoreBertForSequenceClassification(FedcoreBertConfig(backbone=backbone, kept_heads=[1]))
