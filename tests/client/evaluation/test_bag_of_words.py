"""TF-IDF with logistic regression: the same figures as scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from fedcore.client.evaluation.bag_of_words import MAX_WORDS, BagOfWords, predict_by_words, terms

WORDS = [f"w{number}" for number in range(40)]


def drawn(rows: int, seed: int, labels: int = 3) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Rows of six words, the first of which tells the label in four rows of five."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(labels, size=rows)
    shown = np.where(rng.random(rows) < 0.8, truth, rng.integers(labels, size=rows))
    texts = [(" ".join([f"sign{sign}", *rng.choice(WORDS, 5)]),) for sign in shown]
    return texts, truth


@pytest.mark.parametrize("labels", [2, 3])
def test_weights_and_predictions_are_scikit_learns(labels: int) -> None:
    (texts, truth), (others, _) = drawn(300, 0, labels), drawn(100, 1, labels)
    vectorizer = TfidfVectorizer(tokenizer=lambda row: list(terms(row)), preprocessor=None, lowercase=False)
    vectorizer.set_params(token_pattern=None)
    rows = vectorizer.fit_transform(texts)
    bag = BagOfWords.of(texts, 50_000)
    ours = bag.vectors(texts).to_dense().numpy()
    columns = [bag.positions[term] for term in vectorizer.get_feature_names_out()]
    np.testing.assert_allclose(ours[:, columns], rows.toarray(), atol=1e-5)

    reference = LogisticRegression(C=1.0, max_iter=1000).fit(rows, truth)
    logits = predict_by_words(texts, truth, others, labels)
    assert logits.shape == (100, labels)
    if labels > 2:  # with two labels scikit-learn has one weight a word, we have two of opposite sign
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(shares, reference.predict_proba(vectorizer.transform(others)), atol=0.01)
    agreeing = np.mean(logits.argmax(axis=1) == reference.predict(vectorizer.transform(others)))
    assert agreeing >= 0.98


def test_terms_are_words_and_neighbours_without_case() -> None:
    assert list(terms(("A good FILM!", "bad"))) == ["a", "good", "film", "a good", "good film", "bad"]


def test_writing_without_spaces_is_cut_into_characters() -> None:
    assert list(terms(("电影好 ok",))) == ["电", "影", "好", "ok", "电 影", "影 好", "好 ok"]


def test_long_rows_are_cut() -> None:
    row = ("word " * (MAX_WORDS - 1), "one two three")
    assert [term for term in terms(row) if " " not in term] == ["word"] * (MAX_WORDS - 1) + ["one"]


def test_the_most_frequent_terms_stay() -> None:
    assert list(BagOfWords.of([("b a",), ("b",), ("c",)], 2).positions) == ["b", "a"]


def test_rows_without_a_word_are_guessed_by_the_labels_shares() -> None:
    logits = predict_by_words([("!",), ("?",), ("...",)], np.array([1, 1, 0]), [("-",), ("good",)], 3)
    np.testing.assert_allclose(np.exp(logits), [[1 / 3, 2 / 3, 0]] * 2, atol=1e-6)


def test_a_row_of_unknown_words_gets_the_bias_alone() -> None:
    texts = [("good",), ("good",), ("bad",)] * 10
    logits = predict_by_words(texts, np.array([1, 1, 0] * 10), [("strange",), ("bad",)], 2)
    assert logits.argmax(axis=1).tolist() == [1, 0]


def test_the_number_of_threads_changes_nothing() -> None:
    (texts, truth), (others, _) = drawn(300, 0), drawn(100, 1)
    before, given = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            given.append(predict_by_words(texts, truth, others, 3))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert (given[0] == given[1]).all()
