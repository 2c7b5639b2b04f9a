import numpy as np
import pytest

from fedcore.core.errors import ConfigError
from fedcore.core.pruning.criteria import CRITERIA, Criterion
from fedcore.core.pruning.score_check import verify_scores
from fedcore.nn.criteria.table import SCORERS, Beginning, make_scorer
from fedcore.nn.model.surgery import shrink
from tests.scored import adapted_classifier, labelled_batch, loss_of
from tests.tiny_classifiers import FAMILIES, tiny_classifier
from tests.tiny_models import random_keep_set


def test_every_name_of_the_configuration_has_a_scorer() -> None:
    assert list(SCORERS) == list(CRITERIA)


def test_an_unknown_name_lists_the_known_ones() -> None:
    begin = Beginning(geometry=tiny_classifier("bert").geometry, seed=0)
    with pytest.raises(ConfigError, match=r"expected one of lora-taylor, taylor, magnitude.*; got 'luck'"):
        make_scorer("luck", begin)


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_scorer_scores_what_is_kept(name: str, family: str) -> None:
    classifier = adapted_classifier(family)
    shrink(classifier, random_keep_set(classifier.keep_set, heads=2, channels=20))
    scorer = make_scorer(name, Beginning(geometry=classifier.geometry, seed=3))
    loss_of(classifier).backward()
    scorer.observe(classifier)
    scores = scorer.scores(classifier, labelled_batch())
    verify_scores(scores, classifier.keep_set)
    for row in (*scores.heads, *scores.channels):
        assert row.dtype == np.float32
        assert np.linalg.norm(row) == pytest.approx(1.0, rel=1e-5)


def test_what_scoring_costs() -> None:
    assert Criterion(once=0.5, per_step=0.1).steps(10) == pytest.approx(1.5)
    assert CRITERIA["random"].steps(10) == 0.0
    assert CRITERIA["taylor"].steps(10) == 1.5
