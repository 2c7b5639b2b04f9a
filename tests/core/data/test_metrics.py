import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from fedcore.core.data.metrics import accuracy, cross_entropy, log_softmax, macro_f1, measure, roc_auc, softmax
from fedcore.core.errors import DataError

LABELS = hnp.arrays(np.int64, st.integers(2, 30), elements=st.integers(0, 1))


def test_accuracy_of_three_in_four() -> None:
    assert accuracy([0, 1, 1, 2], [0, 1, 1, 0]) == 0.75


def test_auc_counts_a_tie_as_half() -> None:
    assert roc_auc([0.1, 0.5, 0.5, 0.9], [0, 0, 1, 1]) == pytest.approx(3.5 / 4)


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 0, 0]])
def test_auc_is_none_where_one_class_is_absent(labels: list[int]) -> None:
    assert roc_auc([0.1, 0.2, 0.3], labels) is None


@settings(max_examples=50, deadline=None)
@given(data=st.data(), labels=LABELS)
def test_auc_equals_scikit_learn_with_many_ties(data: st.DataObject, labels: np.ndarray) -> None:
    scores = data.draw(hnp.arrays(np.int64, len(labels), elements=st.integers(-3, 3)))
    ours = roc_auc(scores, labels)
    if len(set(labels.tolist())) == 2:
        assert ours == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    else:
        assert ours is None


@settings(max_examples=50, deadline=None)
@given(data=st.data(), size=st.integers(1, 30))
def test_macro_f1_equals_scikit_learn(data: st.DataObject, size: int) -> None:
    draw = hnp.arrays(np.int64, size, elements=st.integers(0, 4))
    predicted, labels = data.draw(draw), data.draw(draw)
    assert macro_f1(predicted, labels) == pytest.approx(sk.f1_score(labels, predicted, average="macro"), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(logits=hnp.arrays(np.float64, (5, 3), elements=st.floats(-30, 30)))
def test_softmax_and_cross_entropy_agree_with_their_definitions(logits: np.ndarray) -> None:
    labels = np.array([0, 1, 2, 0, 1])
    probabilities = softmax(logits)
    np.testing.assert_allclose(probabilities, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), atol=1e-12)
    expected = sk.log_loss(labels, np.clip(probabilities, 1e-300, None), labels=[0, 1, 2])
    # scikit-learn clips probabilities at machine epsilon; ours has no floor
    assert cross_entropy(logits, labels) >= expected - 1e-9


def test_log_softmax_of_huge_logits_is_finite() -> None:
    np.testing.assert_allclose(log_softmax([[1e4, 0.0]]), [[0.0, -1e4]])


def test_measure_fills_every_field() -> None:
    logits, labels = np.array([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 3.0]]), np.array([0, 1, 1, 1])
    result = measure(logits, labels)
    assert (result.figures["accuracy"], result.figures["auc"], result.rows) == (0.75, 1.0, 4)
    assert result.figures["macro_f1"] == pytest.approx(sk.f1_score(labels, logits.argmax(1), average="macro"))
    assert result.figures["loss"] == pytest.approx(sk.log_loss(labels, softmax(logits)))


def test_measure_has_no_auc_with_three_classes() -> None:
    assert measure(np.eye(3), np.arange(3)).figures["auc"] is None


def test_no_rows_or_unequal_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        accuracy([], [])
    with pytest.raises(DataError, match="as many"):
        roc_auc([0.1], [0, 1])
