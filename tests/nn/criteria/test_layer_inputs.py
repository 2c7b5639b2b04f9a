"""Criteria of one forward pass (wanda-sp, flap, amp) against plain formulas, on true tokens only."""

import dataclasses

import numpy as np
import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear

from fedcore.core.errors import FedcoreError
from fedcore.core.model.geometry import READERS, Cut
from fedcore.nn.criteria.amp import amp
from fedcore.nn.criteria.flap import flap
from fedcore.nn.criteria.layer_inputs import InputScorer, watch_inputs
from fedcore.nn.criteria.wanda_sp import wanda_sp
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.surgery import shrink
from tests.scored import adapted_classifier, effective, labelled_batch
from tests.tiny_classifiers import FAMILIES
from tests.tiny_models import random_keep_set

RULES = {"wanda-sp": wanda_sp, "flap": flap, "amp": amp}
HEAD, CHANNEL = Cut(unit="head", side="in", width=2), Cut(unit="channel", side="in", width=1)
INPUTS = torch.tensor([[1.0, 0.0, 2.0, -3.0], [3.0, 4.0, 2.0, 1.0]])  # (tokens, in)


def linear() -> torch.nn.Linear:
    layer = torch.nn.Linear(4, 2)
    layer.weight.data = torch.tensor([[1.0, -2.0, 0.0, 1.0], [3.0, 0.0, -4.0, 1.0]])
    return layer


def test_exact_numbers() -> None:
    # mean |W| by column 2, 1, 2, 1; norms of X sqrt 10, 4, sqrt 8, sqrt 10
    roots = np.sqrt([10, 16, 8, 10]) * [2, 1, 2, 1]
    assert wanda_sp(linear(), CHANNEL, INPUTS).tolist() == pytest.approx(roots.tolist())
    assert wanda_sp(linear(), HEAD, INPUTS).tolist() == pytest.approx([roots[0] + roots[1], roots[2] + roots[3]])
    # variances 1, 4, 0, 4; squared norms of columns 10, 4, 16, 2
    assert flap(linear(), CHANNEL, INPUTS).tolist() == [10, 16, 0, 8]
    assert flap(linear(), HEAD, INPUTS).tolist() == [26, 8]
    # contributions of the first unit to two tokens: (1, 3) and (3 - 8, 9); the second: (-3, -8 - 3) and (1, -8 + 1)
    assert amp(linear(), HEAD, INPUTS).tolist() == [(4 + 14) / 2, (14 + 8) / 2]
    assert amp(linear(), CHANNEL, INPUTS).tolist() == [2, 2, 2, 2]


def plain(name: str, weight: np.ndarray, inputs: np.ndarray, cut: Cut) -> np.ndarray:
    """The formulas of the docstrings, a group at a time."""
    groups = []
    for start in range(0, inputs.shape[1], cut.width):
        columns = range(start, start + cut.width)
        if name == "wanda-sp":
            groups.append(sum(np.abs(weight[:, j]).mean() * np.sqrt((inputs[:, j] ** 2).sum()) for j in columns))
        elif name == "flap":
            groups.append(sum(np.var(inputs[:, j]) * (weight[:, j] ** 2).sum() for j in columns))
        elif cut.unit == "head":
            groups.append(np.mean([np.abs(weight[:, columns] @ token[columns]).sum() for token in inputs]))
        else:
            groups.append(np.abs(inputs[:, start]).mean())
    return np.array(groups)


def true_inputs(classifier: Classifier) -> dict[tuple[int, str], np.ndarray]:
    """Inputs of o and down, row by row without any padding."""
    batch, seen = labelled_batch(), {}
    handles = [
        classifier.linear(layer, module).register_forward_pre_hook(
            lambda _, args, key=(layer, module): seen.setdefault(key, []).append(args[0][0].detach().double().numpy())
        )
        for layer in range(classifier.geometry.layers)
        for module in READERS
    ]
    classifier.model.eval()
    with torch.no_grad():
        for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            classifier.model(input_ids=row[None, : mask.sum()], attention_mask=mask[None, : mask.sum()])
    for handle in handles:
        handle.remove()
    return {key: np.concatenate(parts) for key, parts in seen.items()}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pruned", [False, True])
def test_scores_equal_the_formula(name: str, family: str, pruned: bool) -> None:
    classifier = adapted_classifier(family)
    if pruned:
        shrink(classifier, random_keep_set(classifier.keep_set, heads=2, channels=31))
    scores = InputScorer(rule=RULES[name]).scores(classifier, labelled_batch())
    for (layer, module), inputs in true_inputs(classifier).items():
        cut = classifier.geometry.cut(module)
        assert cut is not None
        expected = plain(name, effective(classifier, layer, module), inputs, cut)
        got = (scores.heads if module == "o" else scores.channels)[layer]
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected / np.linalg.norm(expected), rtol=1e-3, atol=1e-6)


def test_padding_and_modes_do_not_matter() -> None:
    classifier = adapted_classifier("bert")
    batch = labelled_batch()
    wider = {
        name: torch.nn.functional.pad(tensor, (0, 5)) if tensor.dim() == 2 else tensor for name, tensor in batch.items()
    }
    classifier.model.train()
    for rule in RULES.values():
        scorer = InputScorer(rule=rule)
        for one, other in zip(
            scorer.scores(classifier, batch).channels, scorer.scores(classifier, wider).channels, strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert classifier.model.training
    assert not classifier.linear(0, "o")._forward_pre_hooks


def test_without_an_adapter_the_base_weights_count() -> None:
    classifier = adapted_classifier("bert", ("v",))
    assert not isinstance(classifier.linear(0, "down"), LoraLinear)
    scores = InputScorer(rule=wanda_sp).scores(classifier, labelled_batch())
    inputs = true_inputs(classifier)[0, "down"]
    expected = plain("wanda-sp", effective(classifier, 0, "down"), inputs, CHANNEL)
    np.testing.assert_allclose(scores.channels[0], expected / np.linalg.norm(expected), rtol=1e-3)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    classifier = adapted_classifier("bert")
    next(iter(classifier.head_parameters().values())).data.fill_(float("nan"))
    with pytest.raises(FedcoreError, match="calibration loss is not finite"):
        watch_inputs(classifier, labelled_batch(), lambda *_: None)
    assert not classifier.linear(0, "o")._forward_pre_hooks


def test_scorers_are_values_without_memory() -> None:
    scorer = InputScorer(rule=flap)
    scorer.observe(adapted_classifier("bert"))
    assert scorer.state is None
    assert dataclasses.replace(scorer) == scorer
