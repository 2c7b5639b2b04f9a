"""Floors, and what is said of results at or below them."""

from collections.abc import Mapping

import numpy as np
import pytest

from fedcore.core.data.figures import Figure
from fedcore.core.data.floors import WORDS, Comparison, Floor, Result, beats, doubts, floor_of, majority_floor
from fedcore.core.errors import DataError

FLOORS = {"always answering 'neg'": 0.5, "the untrained model": 0.48, WORDS: 0.76}

ACCURACY = Figure(name="accuracy", title="accuracy", unit="share")
ERROR = Figure(name="rmse", title="RMSE", higher_is_better=False, digits=1)


def against(floors: Mapping[str, float], dense: float | None = None, figure: Figure = ACCURACY) -> Comparison:
    return Comparison(figure=figure, floors=floors, dense=dense)


def result(accuracy: float, **changes: object) -> Result:
    values = {"name": "nx (35% pruned)", "value": accuracy, "rows": 2000, "pruned": True}
    return Result(**{**values, **changes})  # type: ignore[arg-type]


def test_one_answer_for_every_row_gets_its_share_right() -> None:
    labels = np.array([0, 0, 0, 1])
    assert majority_floor(labels, 0) == Floor(figures={"accuracy": 0.75, "macro_f1": (6 / 7 + 0) / 2}, rows=4)
    assert majority_floor(labels, 1).figures["accuracy"] == 0.25
    assert floor_of(labels, labels) == Floor(figures={"accuracy": 1.0, "macro_f1": 1.0}, rows=4)
    with pytest.raises(DataError):
        majority_floor(np.array([], dtype=np.int64), 0)


@pytest.mark.parametrize(
    ("accuracy", "rows", "better"),
    [(0.518, 2000, False), (0.519, 2000, True), (0.58, 100, False), (0.59, 100, True), (0.5, 10**9, False)],
)
def test_a_result_must_exceed_a_floor_by_more_than_the_error_of_its_rows(
    accuracy: float, rows: int, better: bool
) -> None:
    """1.645 standard errors of a share of one half: 0.0184 on 2000 rows, 0.0823 on 100."""
    assert beats(result(accuracy, rows=rows), 0.5, ACCURACY) is better


def test_nothing_beats_a_floor_of_one_and_no_row_is_no_result() -> None:
    assert not beats(result(1.0), 1.0, ACCURACY) and beats(result(0.01), 0.0, ACCURACY)
    with pytest.raises(DataError, match="figures on 0 rows"):
        beats(result(0.5, rows=0), 0.5, ACCURACY)


def test_a_good_result_gives_no_doubt() -> None:
    assert doubts([result(0.85)], against(FLOORS, dense=0.75)) == () and doubts([result(0.85)], against({})) == ()


def test_a_model_with_one_answer_is_named_with_its_answer() -> None:
    (text,) = doubts([result(0.503, top_answer="neg", top_share=0.993)], against(FLOORS))
    assert text.startswith(
        "accuracy of nx (35% pruned) 0.503 is no better than always answering 'neg' (0.500) or TF-IDF with logistic "
        "regression (0.760), allowing for chance on 2000 held-back rows; nx (35% pruned) answers 'neg' for 99% "
        "of the rows. Likely causes: "
    )
    assert text.index("learning_rate") < text.index("label skew") < text.index("run.rounds")


def test_results_that_miss_the_same_floors_share_a_warning() -> None:
    both = [result(0.7), result(0.71, name="agx"), result(0.5, name="tx2")]
    first, second = doubts(both, against(FLOORS))
    assert "nx (35% pruned) 0.700, agx 0.710 is no better than TF-IDF" in first
    assert "max_length" in first and "label skew" not in first
    assert "tx2 0.500 is no better than always answering 'neg'" in second


def test_the_cut_is_a_cause_where_the_dense_model_does_better() -> None:
    (text,) = doubts([result(0.5)], against(FLOORS, dense=0.8))
    assert "Likely causes: the cut: the dense adapter has 0.800" in text
    for whole in (result(0.5, pruned=False), result(0.77)):
        (text,) = doubts([whole], against(FLOORS, dense=0.78))
        assert "the cut" not in text
    (text,) = doubts([result(0.45)], against(FLOORS, dense=0.49))
    assert "the cut" not in text, "the dense model has learned nothing either"


def test_labels_that_words_do_not_tell_either_point_at_the_column() -> None:
    (text,) = doubts([result(0.5, pruned=False)], against({**FLOORS, WORDS: 0.505}))
    assert "is data.label right?" in text
    (text,) = doubts([result(0.5, pruned=False)], against(FLOORS))
    assert "is data.label right?" not in text


def test_of_an_error_less_is_better_and_any_difference_counts() -> None:
    assert beats(result(1.9), 2.0, ERROR) and not beats(result(2.0), 2.0, ERROR)
    (text,) = doubts([result(3.0)], against({"the untrained model": 2.5}, 2.0, ERROR))
    assert text.startswith("RMSE of nx (35% pruned) 3.0 is no better than the untrained model (2.5)")
    assert "the cut: the dense adapter has 2.0" in text
