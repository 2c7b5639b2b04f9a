import numpy as np

from fedcore.nn.training.evaluate import predict
from fedcore.nn.training.teacher import answers
from tests.tiny_classifiers import learnable_rows, tiny_classifier


def test_it_answers_what_it_is_asked_and_nothing_else() -> None:
    classifier, rows = tiny_classifier("bert"), learnable_rows(9)
    wanted = np.array([1, 4, 7])
    table = answers(classifier, rows, wanted, 2)
    assert table.shape == (9, 2) and table.dtype == np.float32
    np.testing.assert_allclose(table[wanted], predict(classifier, rows)[wanted], atol=1e-6)
    assert np.isnan(np.delete(table, wanted, axis=0)).all()


def test_asked_about_nothing_it_says_nothing() -> None:
    table = answers(tiny_classifier("bert"), learnable_rows(3), np.empty(0, dtype=np.int64), 2)
    assert table.shape == (3, 2) and np.isnan(table).all()
