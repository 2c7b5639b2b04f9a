import itertools

import pytest
import torch

from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.module_paths import blocks_path
from fedcore.nn.criteria.influence import block_influences
from fedcore.nn.criteria.table import SCORERS, Beginning
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import attach
from fedcore.nn.model.surgery import shrink
from tests.scored import labelled_batch, loss_of
from tests.tiny_models import tiny_model

KINDS = ("bert", "llama-gqa")


@pytest.mark.parametrize("kind", KINDS)
def test_an_influence_is_one_less_the_cosine_over_true_tokens(tmp_path, kind: str) -> None:
    classifier = load_classifier(tiny_model(tmp_path, kind, layers=3), labels=("neg", "pos"))
    batch = labelled_batch()
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        states = classifier.backbone(**inputs, output_hidden_states=True).hidden_states
    real = batch["attention_mask"].bool()
    found = block_influences(classifier, batch)
    expected = [
        1 - torch.nn.functional.cosine_similarity(before[real], after[real], dim=-1).mean().item()
        for before, after in itertools.pairwise(states)
    ]
    # transformers' last hidden state of a Llama is that after the final norm, so the last block is compared apart
    last = len(expected) - (kind != "bert")
    assert found[:last].tolist() == pytest.approx(expected[:last], abs=1e-5)
    assert found.shape == (3,) and (found > 0).all()


def test_a_block_that_passes_its_input_on_has_none(tmp_path) -> None:
    classifier = load_classifier(tiny_model(tmp_path, "llama-gqa", layers=3), labels=("neg", "pos"))
    block = classifier.backbone.get_submodule(f"{blocks_path(classifier.geometry)}.1")
    with torch.no_grad():
        block.self_attn.o_proj.weight.zero_()
        block.mlp.down_proj.weight.zero_()
    found = block_influences(classifier, labelled_batch())
    assert found[1] == pytest.approx(0.0, abs=1e-6) and found[0] > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCORERS)
def test_every_criterion_scores_the_layers_that_are_left(tmp_path, kind: str, name: str) -> None:
    classifier = load_classifier(tiny_model(tmp_path, kind, layers=3), labels=("neg", "pos"))
    full = KeepSet.full(classifier.geometry)
    kept = KeepSet(heads=((), *full.heads[1:]), channels=((), *full.channels[1:]))
    shrink(classifier, kept)
    attach(classifier, rank=2, scale=2.0, targets=classifier.geometry.modules)
    scorer = SCORERS[name](Beginning(geometry=classifier.geometry, seed=0))
    with scorer.during_steps(classifier):
        loss_of(classifier).backward()
        scorer.observe(classifier)
    scores = scorer.scores(classifier, labelled_batch())
    assert [len(row) for row in scores.heads] == [len(row) for row in kept.heads]
    assert [len(row) for row in scores.channels] == [0, *[len(row) for row in kept.channels[1:]]]
