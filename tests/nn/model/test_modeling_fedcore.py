"""What an export of a BERT type can do beside classifying: what its family can."""

import copy
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from fedcore.nn.model.export import export_classifier
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.modeling_fedcore import (
    STANDARD_KEYS,
    FedcoreBertConfig,
    FedcoreBertForSequenceClassification,
    loss_of,
)
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


def test_without_a_problem_the_labels_tell_it_as_in_transformers() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    rows, hot = torch.tensor([0, 2, 1, 1]), torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
    assert torch.equal(loss_of(None, logits, rows), loss_of("single_label_classification", logits, rows))
    assert torch.equal(loss_of(None, logits, hot), loss_of("multi_label_classification", logits, hot))
    assert torch.equal(loss_of(None, logits[:, :1], hot[:, 0]), loss_of("regression", logits[:, :1], hot[:, 0]))
    assert torch.equal(
        loss_of(None, logits, rows.to(torch.uint8)[:, None]), loss_of("single_label_classification", logits, rows)
    )


@pytest.mark.parametrize(
    ("problem", "labels", "words"),
    [
        ("single_label_classification", torch.ones(4, 3), "expected integers of shape .4,..* got torch.float32"),
        (
            "single_label_classification",
            torch.ones(4, 3).long(),
            "'multi_label_classification' for 0 and 1",
        ),
        ("single_label_classification", torch.ones(4), "expected integers of shape .4,."),
        ("multi_label_classification", torch.ones(4).long(), "expected 0 and 1 of shape .4, 3.* problem_type"),
        ("regression", torch.ones(4), "expected numbers of shape .4, 3."),
        ("ranking", torch.ones(4), "problem_type 'ranking': expected one of regression, single_label"),
        (None, torch.ones(4), "expected 0 and 1 of shape .4, 3."),
    ],
)
def test_labels_that_do_not_fit_the_problem_are_refused(problem: str | None, labels: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        loss_of(problem, torch.zeros(4, 3), labels)


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
    assert config.intermediate_size == 20, "channels left"
    written = json.loads((folder / "config.json").read_text())
    read_by_tools = {key: written[key] for key in ("hidden_size", *STANDARD_KEYS)}
    assert read_by_tools == {key: getattr(config, key) for key in read_by_tools}


def test_the_backbone_decides_where_a_copy_of_its_sizes_differs(folder: Path, tmp_path: Path) -> None:
    written = json.loads((folder / "config.json").read_text())
    config = FedcoreBertConfig(**written | {"num_hidden_layers": 7, "intermediate_size": 9})
    assert (config.num_hidden_layers, config.intermediate_size) == (2, 20)
    assert FedcoreBertConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()


@pytest.mark.parametrize("targets", [["query", "value"], "all-linear"], ids=str)
def test_adapters_train_its_head_as_they_train_their_family_s(model: Any, targets: Any, tmp_path: Path) -> None:
    adapted = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=targets))
    adapted.gradient_checkpointing_enable()
    adapted.enable_input_require_grads()
    before = {name: each.clone() for name, each in head_of(adapted).items()}
    trained = [each for each in adapted.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    adapted.train()
    for _ in range(3):
        optimizer.zero_grad()
        adapted(**BATCH, labels=WANTED).loss.backward()
        optimizer.step()
    after = head_of(adapted)
    assert before and all(not torch.equal(after[name], before[name]) for name in before)
    adapted.save_pretrained(tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    heads = {name.rpartition("classifier.")[2]: each for name, each in saved.items() if ".classifier." in name}
    assert heads.keys() == after.keys()
    assert all(torch.equal(heads[name], after[name]) for name in heads)


def head_of(adapted: Any) -> dict[str, torch.Tensor]:
    """The head that peft trains, by name within it."""
    own = adapted.base_model.model.classifier.modules_to_save["default"]
    return {name: each.detach().clone() for name, each in own.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16], ids=str)
def test_dynamic_quantisation_gives_nearly_the_same_answers(model: Any, dtype: torch.dtype) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that torchao will take this over
        quantised = torch.ao.quantization.quantize_dynamic(model.eval(), {torch.nn.Linear}, dtype=dtype)
    with torch.no_grad():
        exact, rounded = model(**BATCH).logits, quantised(**BATCH).logits
    assert not list(quantised.classifier.parameters()), "its weights are packed"
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.1 * exact.abs().max().item())


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
