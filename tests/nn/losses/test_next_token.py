"""The loss of the next token, in chunks."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

import fedcore.nn.losses.next_token as module
from fedcore.core.contract.distillation import Distillation
from fedcore.core.tasks.generation import GENERATION
from fedcore.nn.losses.cross_entropy import divergences
from fedcore.nn.losses.loss import Lesson
from fedcore.nn.losses.next_token import NEXT_TOKEN, next_token_losses
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import attach, trainable_parameters
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.memory import MIB, LiveTensorMeter
from fedcore.nn.training.objective import blended
from tests.tiny_models import VOCAB, random_keep_set, tiny_batch, tiny_model

ANSWERED = 3  # first answered position of every row


def writer(folder: Path, kind: str = "llama", **how: bool) -> Classifier:
    model = load_classifier(tiny_model(folder, kind, writes=True, **how), labels=(), task=GENERATION)
    attach(model, rank=2, scale=2.0, targets=model.geometry.modules)
    with torch.no_grad():
        for name, parameter in trainable_parameters(model).items():
            if name.endswith(".B"):
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))
    return model


def labelled() -> dict[str, torch.Tensor]:
    batch = tiny_batch(rows=4, tokens=9)
    ids = batch["input_ids"]
    place = torch.arange(ids.shape[1])[None]
    hidden = (place < ANSWERED) | (batch["attention_mask"] == 0)
    return {**batch, "labels": ids.masked_fill(hidden, -100)}


def gradients(model: Classifier, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    parameters = trainable_parameters(model)
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


@pytest.mark.parametrize(("kind", "tied"), [("llama", True), ("llama-gqa", False), ("mistral", True), ("qwen2", True)])
def test_loss_and_gradients_are_those_of_whole_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, tied: bool
) -> None:
    model, batch = writer(tmp_path, kind, tied=tied), labelled()
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * VOCAB * 5)  # five positions a chunk
    outputs = NEXT_TOKEN.outputs(model, batch, None)
    loss = NEXT_TOKEN.mean(outputs, torch.zeros(4))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    whole = model.model(**inputs, labels=batch["labels"])  # transformers' own
    torch.testing.assert_close(loss, whole.loss, rtol=1e-5, atol=1e-6)
    plain = gradients(model, whole.loss)
    for name, value in gradients(model, loss).items():
        torch.testing.assert_close(value, plain[name], rtol=1e-5, atol=1e-6)
    targets = batch["labels"][:, 1:]
    answered = targets != -100
    right = (whole.logits[:, :-1].argmax(dim=-1) == targets) & answered
    assert outputs[:, 1].tolist() == answered.sum(dim=1).tolist()
    assert outputs[:, 2].tolist() == right.sum(dim=1).tolist()


def test_a_row_has_its_own_mean(tmp_path: Path) -> None:
    model, batch = writer(tmp_path), labelled()
    with torch.no_grad():
        together = NEXT_TOKEN.each(NEXT_TOKEN.outputs(model, batch, None), torch.zeros(4))
        for row in range(4):
            alone = {name: value[row : row + 1] for name, value in batch.items()}
            torch.testing.assert_close(
                NEXT_TOKEN.mean(NEXT_TOKEN.outputs(model, alone, None), torch.zeros(1)), together[row]
            )


def test_rows_that_answer_nothing_cost_nothing(tmp_path: Path) -> None:
    model, batch = writer(tmp_path), labelled()
    batch["labels"] = torch.full_like(batch["labels"], -100)
    assert NEXT_TOKEN.mean(NEXT_TOKEN.outputs(model, batch, None), torch.zeros(4)).item() == 0.0


def test_logits_are_never_held_whole() -> None:
    words, positions, hidden = 8192, 1024, 16
    layer = torch.nn.Linear(hidden, words, bias=False).requires_grad_(False)
    states = torch.randn(positions, hidden, requires_grad=True)
    targets = torch.randint(words, (positions,))
    with pytest.MonkeyPatch.context() as patch, LiveTensorMeter(layer) as meter:
        patch.setattr(module, "CHUNK_BYTES", MIB)
        (losses,), _ = next_token_losses(states, targets, layer, words=words)
        losses.sum().backward()
    assert meter.peak_mb < 8 < positions * words * 4 / MIB == 32
    plain = functional.cross_entropy(layer(states.detach().requires_grad_()), targets, reduction="none")
    torch.testing.assert_close(losses, plain, rtol=1e-5, atol=1e-6)


def test_gradients_follow_the_weights_of_the_losses() -> None:
    layer = torch.nn.Linear(4, 7, bias=False).requires_grad_(False)
    states, targets = torch.randn(5, 4, requires_grad=True), torch.randint(7, (5,))
    weights = torch.rand(5)
    (losses,), _ = next_token_losses(states, targets, layer, words=7)
    (mine,) = torch.autograd.grad((losses * weights).sum(), states)
    plain = functional.cross_entropy(layer(states), targets, reduction="none")
    (expected,) = torch.autograd.grad((plain * weights).sum(), states)
    torch.testing.assert_close(mine, expected)


HOW = Distillation(weight=0.7, temperature=2.0, mix=0.6)


def cut(model: Classifier) -> Classifier:
    """Cut a model to half of its groups, so that it differs from its teacher."""
    shrink(model, random_keep_set(model.keep_set, heads=1, channels=24))
    return model


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_teacher_is_compared_as_with_whole_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    student, dense, batch = cut(writer(tmp_path / "a", kind)), writer(tmp_path / "a", kind), labelled()
    monkeypatch.setattr(module, "CHUNK_BYTES", 2 * 4 * VOCAB * 3)  # three positions of both models a chunk
    assert NEXT_TOKEN.states is not None
    with torch.no_grad():
        lesson = Lesson(answers=NEXT_TOKEN.states(dense, batch), how=HOW)
    outputs = NEXT_TOKEN.outputs(student, batch, lesson)
    own, apart = NEXT_TOKEN.mean(outputs, torch.zeros(4)), NEXT_TOKEN.divergence(outputs, lesson.answers, HOW).mean()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    answered = batch["labels"][:, 1:] != -100
    logits = student.model(**inputs).logits[:, :-1][answered]
    with torch.no_grad():
        teacher = dense.model(**inputs).logits[:, :-1][answered]
    plain = functional.cross_entropy(logits, batch["labels"][:, 1:][answered])
    far = divergences(logits, teacher, HOW).mean()
    assert far.item() > 1e-3
    torch.testing.assert_close(own, plain, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(apart, far, rtol=1e-5, atol=1e-6)
    expected = gradients(student, blended(plain, far, HOW))
    for name, value in gradients(student, blended(own, apart, HOW)).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


def test_a_teachers_logits_are_never_held_whole_either() -> None:
    words, positions, hidden = 8192, 1024, 16
    layer = torch.nn.Linear(hidden, words, bias=False).requires_grad_(False)
    states = torch.randn(positions, hidden, requires_grad=True)
    targets, lesson = torch.randint(words, (positions,)), Lesson(answers=torch.randn(positions, hidden), how=HOW)
    with pytest.MonkeyPatch.context() as patch, LiveTensorMeter(layer) as meter:
        patch.setattr(module, "CHUNK_BYTES", MIB)
        losses, _ = next_token_losses(states, targets, layer, words=words, lesson=lesson)
        losses.sum().backward()
    assert meter.peak_mb < 8 < positions * words * 4 / MIB == 32
