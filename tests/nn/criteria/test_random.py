import numpy as np
import pytest

from fedcore.nn.criteria.random import RandomScorer
from tests.scored import adapted_classifier, labelled_batch


def test_random_scores_depend_on_the_seed_alone() -> None:
    classifier = adapted_classifier("bert")
    one, again, other = (RandomScorer(seed=seed).scores(classifier, labelled_batch()) for seed in (1, 1, 2))
    for kind in ("heads", "channels"):
        for layer, row in enumerate(getattr(one, kind)):
            assert np.linalg.norm(row) == pytest.approx(1.0, rel=1e-5)
            assert np.array_equal(row, getattr(again, kind)[layer])
            assert not np.array_equal(row, getattr(other, kind)[layer])
    assert not np.array_equal(one.channels[0], one.channels[1])
