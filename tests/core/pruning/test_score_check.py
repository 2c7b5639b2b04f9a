import numpy as np
import pytest

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.pruning.score_check import verify_scores

KEPT = KeepSet(heads=((0, 2), (1, 3)), channels=((0, 1, 2), (4, 5, 6)))


def scores(heads=((1, 2), (3, 4)), channels=((1, 2, 3), (4, 5, 6))):
    return GroupScores(
        heads=tuple(np.array(row, dtype=np.float32) for row in heads),
        channels=tuple(np.array(row, dtype=np.float32) for row in channels),
    )


def test_accepts_one_score_per_kept_group():
    verify_scores(scores(), KEPT)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (scores(heads=((1, 2, 3), (3, 4))), "head scores of layer 0: expected shape"),
        (scores(heads=((1, 2),)), "head scores of layer 1: expected shape .* got none"),
        (scores(channels=((1, 2, 3), (4, 5, 6), (7,))), "channel scores of layer 2: expected shape none"),
        (scores(channels=((1, 2, 3), (4, np.nan, 6))), "channel scores of layer 1: expected finite"),
        (scores(heads=((1, -2), (3, 4))), "head scores of layer 0: expected finite values of 0 or more"),
    ],
)
def test_names_the_layer_that_does_not_fit(wrong, message):
    with pytest.raises(UpdateRejected, match=message):
        verify_scores(wrong, KEPT)
