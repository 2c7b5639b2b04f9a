"""What every family of the table must do: load, learn, score, prune, change its rank, export, and answer as before.

`kind` is a tiny random model, `causal` whether it writes or classifies.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from fedcore.core.cost.training_step import base_parameters
from fedcore.core.model.families import FAMILIES
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.generation import GENERATION
from fedcore.nn.criteria.table import SCORERS, Beginning, make_scorer
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.export import export_classifier
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import adapted, attach, factors, load_adapter, merge, read_adapter, trainable_parameters
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.evaluate import forward_logits
from fedcore.nn.training.objective import objective_of
from fedcore.storage.models.checkpoint import fingerprint
from fedcore.storage.models.magnitudes import check_layers, weight_magnitudes
from tests.tiny_models import KINDS, random_keep_set, tiny_batch, tiny_config, tiny_model

LABELS = ("neg", "pos")
BERT_KINDS = ("bert", "roberta")
CASES = [*((kind, False) for kind in KINDS), *((kind, True) for kind in KINDS if kind not in BERT_KINDS)]
NAMES = [f"{kind}-{'causal' if causal else 'classifier'}" for kind, causal in CASES]


def load(folder: Path, causal: bool) -> Classifier:
    return load_classifier(folder, labels=() if causal else LABELS, task=GENERATION if causal else CLASSIFICATION)


def batch_of(causal: bool) -> dict[str, torch.Tensor]:
    batch = tiny_batch(tokens=9)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100) if causal else torch.arange(3) % 2
    return batch | {"labels": labels}


def loss_of(classifier: Classifier, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return objective_of(classifier)(forward_logits(classifier, batch), batch["labels"])


def logits_of(classifier: Classifier, causal: bool) -> torch.Tensor:
    batch = batch_of(causal)
    mask = batch["attention_mask"].bool()
    del batch["labels"]
    with torch.no_grad():
        logits: torch.Tensor = classifier.model(**batch).logits
    return logits[mask] if causal else logits


def with_adapter(classifier: Classifier, rank: int = 2) -> Classifier:
    """Put an adapter on that does something."""
    attach(classifier, rank=rank, scale=2.0, targets=classifier.geometry.modules)
    rng = np.random.default_rng(rank)
    drawn = {name: rng.normal(0, 0.1, old.shape).astype(np.float32) for name, old in read_adapter(classifier).items()}
    load_adapter(classifier, drawn)
    return classifier


def sizes(classifier: Classifier) -> list[tuple[int, int]]:
    """Several sparsities: (head units, channels), ever less."""
    geometry = classifier.geometry
    heads = {geometry.head_units, -(-geometry.head_units // 2), 1}
    return list(zip(sorted(heads, reverse=True), (40, 24, 8), strict=False))


@pytest.fixture(scope="module", params=CASES, ids=NAMES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    kind, causal = request.param
    return tiny_model(tmp_path_factory.mktemp(kind), kind, writes=causal), causal


def test_every_family_has_a_tiny_model() -> None:
    assert {tiny_config(kind).model_type for kind in KINDS} >= set(FAMILIES) - {"xlm-roberta"}


def test_a_loaded_model_answers_as_transformers_does(case: tuple[Path, bool]) -> None:
    folder, causal = case
    classifier = load(folder, causal)
    batch = batch_of(causal)
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    with torch.no_grad():
        if causal:
            expected = AutoModelForCausalLM.from_pretrained(folder).eval()(**inputs).logits
            got = classifier.model(**inputs).logits
        else:
            expected = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state
            got = classifier.backbone(**inputs).last_hidden_state
    mask = batch["attention_mask"].bool()
    torch.testing.assert_close(got[mask], expected[mask], atol=1e-4, rtol=1e-4)


def test_parameters_are_what_the_cost_model_says(case: tuple[Path, bool]) -> None:
    folder, causal = case
    classifier = load(folder, causal)
    frozen = sum(parameter.numel() for parameter in classifier.backbone.parameters())
    assert base_parameters(classifier.geometry, classifier.geometry.dense) == frozen


def test_a_step_lowers_the_loss_and_trains_the_adapter_alone(case: tuple[Path, bool]) -> None:
    folder, causal = case
    classifier = with_adapter(load(folder, causal))
    frozen = {name: value.clone() for name, value in classifier.model.state_dict().items() if "base_layer" in name}
    batch = batch_of(causal)
    losses = []
    for _ in range(3):
        loss = loss_of(classifier, batch)
        losses.append(float(loss))
        parameters = list(trainable_parameters(classifier).values())
        gradients = torch.autograd.grad(loss, parameters)
        assert all(bool(gradient.abs().sum() > 0) for gradient in gradients)
        with torch.no_grad():
            norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(0.02 * gradient / norm)
    assert losses[-1] < losses[0]
    state = classifier.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in frozen.items())


@pytest.mark.parametrize("criterion", [name for name in SCORERS if name not in ("l0", "lora-taylor")])
def test_every_criterion_scores_every_group(case: tuple[Path, bool], criterion: str) -> None:
    folder, causal = case
    classifier = with_adapter(load(folder, causal))
    shrink(classifier, random_keep_set(classifier.keep_set, heads=1, channels=24))
    scorer = make_scorer(criterion, Beginning(geometry=classifier.geometry, seed=0))
    scores = scorer.scores(classifier, batch_of(causal))
    assert {len(row) for row in scores.heads} == {1} and {len(row) for row in scores.channels} == {24}
    assert all(np.isfinite(row).all() for row in (*scores.heads, *scores.channels))


def test_magnitudes_of_the_checkpoint_are_those_of_the_model(case: tuple[Path, bool]) -> None:
    folder, causal = case
    classifier = load(folder, causal)
    geometry = classifier.geometry
    check_layers(folder, geometry)
    found = weight_magnitudes(folder, geometry)
    for layer, unit in itertools.product(range(geometry.layers), ("head", "channel")):
        squares: Any = 0.0
        for module in geometry.modules:
            cut = geometry.cut(module)
            if cut is None or cut.unit != unit:
                continue
            linear = classifier.base_linear(layer, module)
            lines = linear.weight.square().sum(dim=1 if cut.side == "out" else 0)
            if cut.side == "out" and linear.bias is not None:
                lines = lines + linear.bias.square()
            squares = squares + lines.view(-1, cut.width).sum(dim=1)
        expected = squares.sqrt() / squares.sum().sqrt()
        got = (found.heads if unit == "head" else found.channels)[layer]
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5)
    assert fingerprint(folder).tensors


def test_a_cut_model_computes_what_the_masked_one_computes(case: tuple[Path, bool]) -> None:
    folder, causal = case
    cut, masked = with_adapter(load(folder, causal)), with_adapter(load(folder, causal))
    merge(masked)
    for step, (heads, channels) in enumerate(sizes(cut)):
        keep_set = random_keep_set(cut.keep_set, heads=heads, channels=channels, seed=step)
        shrink(cut, keep_set)
        _mask(masked, keep_set)
        torch.testing.assert_close(logits_of(cut, causal), logits_of(masked, causal), atol=1e-4, rtol=1e-3)


def _mask(classifier: Classifier, keep_set: KeepSet) -> None:
    """Zero what reads the groups that are gone."""
    for layer, module in itertools.product(range(classifier.geometry.layers), ("o", "down")):
        weight = classifier.base_linear(layer, module).weight.data
        kept = keep_set.indices(classifier.geometry, layer, module)
        assert kept is not None
        gone = torch.ones(weight.shape[1], dtype=torch.bool)
        gone[torch.from_numpy(kept)] = False
        weight[:, gone] = 0.0


def test_the_rank_grows_and_shrinks(case: tuple[Path, bool]) -> None:
    folder, causal = case
    classifier = with_adapter(load(folder, causal), rank=3)
    before, held = logits_of(classifier, causal), read_adapter(classifier)
    grown = {name: np.pad(value, _padding(name)) for name, value in held.items()}
    load_adapter(classifier, grown)
    assert {factors(layer)[0].shape[0] for _, layer in adapted(classifier)} == {5}
    torch.testing.assert_close(logits_of(classifier, causal), before, atol=1e-5, rtol=1e-4)
    load_adapter(classifier, held)
    torch.testing.assert_close(logits_of(classifier, causal), before, atol=1e-6, rtol=1e-5)


def _padding(name: str) -> list[tuple[int, int]]:
    return {"A": [(0, 2), (0, 0)], "B": [(0, 0), (0, 2)]}.get(name[-1], [(0, 0)] * (1 + name.endswith("weight")))


def test_an_export_is_what_transformers_loads(case: tuple[Path, bool], tmp_path: Path) -> None:
    folder, causal = case
    classifier = with_adapter(load(folder, causal))
    auto = AutoModelForCausalLM if causal else AutoModelForSequenceClassification
    for step, (heads, channels) in enumerate([(classifier.geometry.head_units, 48), *sizes(classifier)]):
        shrink(classifier, random_keep_set(classifier.keep_set, heads=heads, channels=channels, seed=step))
        out = tmp_path / str(step)
        export_classifier(classifier, out, folder)
        trust = (out / "modeling_fedcore.py").exists()
        loaded = auto.from_pretrained(out, trust_remote_code=trust).eval()
        batch = batch_of(causal)
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        with torch.no_grad():
            got = loaded(**inputs).logits
        got = got[batch["attention_mask"].bool()] if causal else got
        torch.testing.assert_close(got, logits_of(classifier, causal), atol=1e-4, rtol=1e-3)
        if causal:
            asked = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": 3}
            words = {name: tensor[:1] for name, tensor in inputs.items()}
            assert torch.equal(loaded.generate(**words, **asked), classifier.model.generate(**words, **asked))
