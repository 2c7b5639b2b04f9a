import numpy as np
import pytest

from fedcore.nn.criteria.magnitude import MagnitudeScorer
from fedcore.nn.criteria.random import RandomScorer
from fedcore.nn.model.surgery import shrink
from tests.scored import MEMBERS, adapted_classifier, effective, labelled_batch
from tests.tiny_classifiers import FAMILIES
from tests.tiny_models import random_keep_set


@pytest.mark.parametrize("family", FAMILIES)
def test_magnitude_is_the_norm_of_all_that_leaves_with_a_group(family: str) -> None:
    classifier = adapted_classifier(family)
    geometry = classifier.geometry
    shrink(classifier, random_keep_set(classifier.keep_set, heads=2, channels=13))
    scores = MagnitudeScorer().scores(classifier, {})
    for kind, got in (("heads", scores.heads), ("channels", scores.channels)):
        for layer, row in enumerate(got):
            squares = np.zeros(len(row))
            for module in MEMBERS[kind]:
                if module not in geometry.modules or (cut := geometry.cut(module)) is None:
                    continue
                weight = effective(classifier, layer, module)
                lines = weight if cut.side == "out" else weight.T
                squares += [(part**2).sum() for part in np.split(lines, len(row))]
            expected = np.sqrt(squares) / np.sqrt(squares.sum())
            np.testing.assert_allclose(row, expected, rtol=1e-4)


def test_chance_depends_on_the_seed_alone() -> None:
    classifier = adapted_classifier("bert")
    one, again, other = (RandomScorer(seed=seed).scores(classifier, labelled_batch()) for seed in (1, 1, 2))
    for kind in ("heads", "channels"):
        for layer, row in enumerate(getattr(one, kind)):
            assert np.linalg.norm(row) == pytest.approx(1.0, rel=1e-5)
            assert np.array_equal(row, getattr(again, kind)[layer])
            assert not np.array_equal(row, getattr(other, kind)[layer])
    assert not np.array_equal(one.channels[0], one.channels[1])
