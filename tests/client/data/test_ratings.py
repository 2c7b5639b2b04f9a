"""Numbers that are ratings, and numbers that are classes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.client.data.ratings import rating


def test_eighty_numbers_in_eighty_rows_are_a_rating() -> None:
    assert rating([str(number) for number in range(80)], "stars") == (
        "label column 'stars' has 80 different numbers in 80 rows, from 0 to 79: that is a rating, not 80 labels. "
        'Set task.kind = "regression" to learn the number itself; or write a column of words, such as low up to 26, '
        "middle up to 53 and high above (a third of the rows each), and name it in data.label; or list the numbers in "
        "data.labels if they are classes"
    )


@pytest.mark.parametrize(
    "labels",
    [
        [f"{number / 10:.1f}" for number in range(12)],
        [f"{number / 10:.1f}".replace(".", ",") for number in range(12)],
        [f"{number}.5 %" for number in range(12)],
        [f"-{number}e-3" for number in range(1, 30)],
        [f"{number / 100}" for number in range(50)] * 200,
        [f".{number}" for number in range(10, 30)],
        [*map(str, range(80)), "unknown", "unknown"],
    ],
)
def test_measured_numbers_are_a_rating(labels: list[str]) -> None:
    assert rating(labels, "y") is not None


@pytest.mark.parametrize(
    "labels",
    [
        ["0", "1"] * 40,
        [str(number) for number in range(12)],
        [str(number) for number in range(150)] * 2,
        [str(number / 2) for number in range(2, 11)] * 9,
        [f"word {number}" for number in range(80)],
        [*map(str, range(80)), *(f"word {number}" for number in range(10))],
        ["nan", "inf"] * 40,
        ["1.2.3", "4"] * 40,
        [],
    ],
)
def test_classes_are_no_rating(labels: list[str]) -> None:
    assert rating(labels, "y") is None


@given(st.lists(st.text(max_size=6) | st.floats().map(str) | st.integers().map(str), max_size=60))
def test_any_labels_can_be_asked_about(labels: list[str]) -> None:
    told = rating(labels, "y")
    assert told is None or "that is a rating" in told
