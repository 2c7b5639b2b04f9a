"""Floors come from rows that the evaluator has, and from no held-back row's own label."""

import pytest

from fedcore.client.data.rows import Rows
from fedcore.client.evaluation.floors import _some, find_floors, with_majority
from fedcore.core.errors import DataError

LABELS = ("no", "yes")


def rows_of(count: int, *, first: int = 0, yes_of_ten: int = 3) -> Rows:
    """Rows of different texts, in which one word tells the label."""
    labels = tuple("yes" if number % 10 < yes_of_ten else "no" for number in range(count))
    texts = tuple((f"{label}sign word{first + number}",) for number, label in enumerate(labels))
    return Rows(texts=texts, labels=labels)


def test_words_are_learned_from_training_rows() -> None:
    floors = find_floors(rows_of(40), rows_of(100, first=1000), LABELS)
    assert floors.majority_label == "no" and floors.majority.figures["accuracy"] == 0.7 and floors.majority.rows == 40
    assert floors.tfidf is not None and floors.tfidf.figures["accuracy"] == 1.0 and floors.tfidf.rows == 40
    assert floors.tfidf_rows == 100 and not floors.cross_validated


def test_without_training_rows_words_are_cross_validated() -> None:
    floors = find_floors(rows_of(50), Rows(texts=(), labels=()), LABELS)
    assert floors.cross_validated and floors.tfidf_rows == 40
    assert floors.tfidf is not None and floors.tfidf.figures["accuracy"] == 1.0 and floors.tfidf.rows == 50


def test_a_file_given_twice_teaches_nothing() -> None:
    """Without the rule, texts learned by heart would be a floor of 1."""
    held_back = Rows(texts=tuple((f"word{number}",) for number in range(60)), labels=("yes", "no") * 30)
    floors = find_floors(held_back, held_back, LABELS)
    assert floors.cross_validated and floors.tfidf is not None and floors.tfidf.figures["accuracy"] <= 0.6


def test_too_few_rows_give_no_floor_of_words() -> None:
    floors = find_floors(rows_of(10), Rows(texts=(), labels=()), LABELS)
    assert floors.tfidf is None and floors.tfidf_rows == 0 and not floors.cross_validated
    assert find_floors(rows_of(5), rows_of(10, first=100), LABELS).tfidf is None


@pytest.mark.parametrize(
    ("majority", "own", "label"),
    [("yes", 7, "yes"), ("", 7, "yes"), ("", 3, "no"), ("unheard", 3, "no"), ("", None, "no")],
)
def test_the_majority_is_the_fleets_else_of_the_training_rows_else_of_the_held_back(
    majority: str, own: int | None, label: str
) -> None:
    train = Rows(texts=(), labels=()) if own is None else rows_of(60, first=1000, yes_of_ten=own)
    floors = find_floors(rows_of(40), train, LABELS, majority)
    assert floors.majority_label == label
    assert floors.majority.figures["accuracy"] == (0.3 if label == "yes" else 0.7)


def test_a_held_back_label_that_was_not_agreed_is_refused() -> None:
    with pytest.raises(DataError, match="outside the agreed labels"):
        find_floors(rows_of(40), rows_of(10), ("no", "maybe"))


def test_a_majority_that_is_known_later_changes_that_floor_alone() -> None:
    test = rows_of(40)
    floors = find_floors(test, rows_of(100, first=1000), LABELS)
    assert with_majority(floors, test, LABELS, "") == floors == with_majority(floors, test, LABELS, "unheard")
    later = with_majority(floors, test, LABELS, "yes")
    assert (later.majority_label, later.majority.figures["accuracy"], later.tfidf) == ("yes", 0.3, floors.tfidf)


def test_rows_are_bounded_and_fewer_where_labels_are_many() -> None:
    assert len(_some(30, 2)) == 30 and sorted(_some(30, 2)) == list(range(30))
    assert [len(_some(10**5, labels)) for labels in (2, 50, 100, 10**4)] == [5000, 5000, 2500, 1000]
    assert (_some(100, 2) == _some(100, 2)).all()
