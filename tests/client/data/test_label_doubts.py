import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.client.data.label_doubts import label_doubts

ALIKE = [
    ("Neg", "neg"),
    ("e\u0301t\xe9", "\xe9t\xe9"),
    ("a  b", "a b"),
    ("not-ok", "not_ok"),
    ("01", "1"),
    ("1e1", "10"),
    ("pos", "po\u200bs"),
    ("ﬁn", "fin"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_two_spellings_of_a_label_are_doubtful(one: str, other: str) -> None:
    (doubt,) = label_doubts([one, other, other, "third"], "label")
    first, second = sorted([(one, 1), (other, 2)])
    assert doubt == (
        f"labels {first[0]!r} ({first[1]} rows) and {second[0]!r} ({second[1]} rows) differ in spelling alone and are "
        "different classes; spell them alike if they are one"
    )


@pytest.mark.parametrize(
    "labels",
    [("neg", "pos"), ("0", "1"), ("inf", "x"), ("a", "b", "ab"), ("1", "1.5"), ("C", "C++"), ("no", "note")],
)
def test_different_labels_are_not(labels: tuple[str, ...]) -> None:
    assert label_doubts(labels * 3, "label") == ()


def test_many_groups_are_counted() -> None:
    doubts = label_doubts([each for name in "abcde" for each in (name, name.upper())] * 2, "label")
    assert len(doubts) == 4 and doubts[3] == "2 more groups of labels differ in spelling alone"


def test_a_label_to_nearly_every_row_is_doubtful() -> None:
    (doubt,) = label_doubts([f"text {number}" for number in range(80)], "stars")
    assert doubt == (
        "column 'stars' has 80 different labels in 80 rows; most have no second row to learn from: is it the label "
        "column?"
    )
    assert label_doubts([f"text {number % 40}" for number in range(80)], "stars") == ()
    assert label_doubts([f"word {number}" for number in range(9)], "stars") == (), "a handful of rows to try with"


@given(st.lists(st.text(), max_size=20))
def test_any_labels_can_be_doubted(labels: list[str]) -> None:
    assert all(isinstance(each, str) for each in label_doubts(labels, "label"))


def test_words_for_a_missing_label_are_doubtful() -> None:
    (doubt,) = label_doubts(["a", "b", "NaN", "n/a"] * 5, "label")
    assert doubt == (
        "label 'NaN' (5 rows), 'n/a' (5 rows) is a class like the others; drop these rows if it says that the label is "
        "missing"
    )


def test_labels_of_a_single_row_are_doubtful() -> None:
    (doubt,) = label_doubts([*["pos", "neg"] * 9, "posi", "nega"], "label")
    assert doubt == (
        "2 of 4 labels have a single row, which cannot be learnt and measured: 'nega', 'posi'; mend what is misspelt, "
        "or drop these rows"
    )
    (doubt,) = label_doubts([*["pos"] * 30, *(f"odd {number}" for number in range(12))], "label")
    assert "'odd 5' and 4 more; mend" in doubt
    assert label_doubts(["pos", "neg", "meh"], "label") == (), "a handful of rows to try with"


def test_numbers_that_look_measured_are_doubtful() -> None:
    (doubt,) = label_doubts([str(number / 2) for number in range(2, 12)] * 9, "stars")
    assert doubt == (
        "the 10 labels of column 'stars' are numbers from 1 to 5.5 and each is a class of its own, without an order; "
        'for a rating, set task.kind = "regression", or write a column of a few words, such as low and high'
    )
    assert label_doubts([str(number) for number in range(12)] * 9, "stars") == (), "numbered classes"
    assert label_doubts([str(number) for number in range(1, 6)] * 9, "stars") == (), "a few stars"


def test_one_device_may_have_rare_labels_and_gaps_in_their_numbers() -> None:
    labels = [*(str(number * number) for number in range(12)), *["7"] * 30]
    assert len(label_doubts(labels, "label")) == 2
    assert label_doubts(labels, "label", part=True) == ()
    assert len(label_doubts(["pos", "Pos"] * 9, "label", part=True)) == 1
