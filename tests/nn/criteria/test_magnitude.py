import numpy as np
import pytest

from fedcore.nn.criteria.magnitude import MagnitudeScorer
from fedcore.nn.model.surgery import shrink
from tests.scored import MEMBERS, adapted_classifier, effective
from tests.tiny_classifiers import FAMILIES
from tests.tiny_models import random_keep_set


@pytest.mark.parametrize("family", FAMILIES)
def test_magnitude_is_the_norm_of_all_weights_of_a_group(family: str) -> None:
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
