from pathlib import Path

import numpy as np
import torch

from fedcore.nn.losses.next_token import NEXT_TOKEN
from fedcore.nn.training.batches import NO_TARGET, EncodedRows, collate
from fedcore.nn.training.evaluate import predict
from fedcore.nn.training.teacher import AnswerStates, answers
from tests.nn.losses.test_next_token import writer
from tests.tiny_classifiers import PAD, learnable_rows, tiny_classifier


def test_it_answers_what_it_is_asked_and_nothing_else() -> None:
    classifier, rows = tiny_classifier("bert"), learnable_rows(9)
    wanted = np.array([1, 4, 7])
    table = answers(classifier, rows, wanted, 2)
    assert isinstance(table, np.ndarray)
    assert table.shape == (9, 2) and table.dtype == np.float32
    np.testing.assert_allclose(table[wanted], predict(classifier, rows)[wanted], atol=1e-6)
    assert np.isnan(np.delete(table, wanted, axis=0)).all()


def test_asked_about_nothing_it_says_nothing() -> None:
    table = answers(tiny_classifier("bert"), learnable_rows(3), np.empty(0, dtype=np.int64), 2)
    assert isinstance(table, np.ndarray)
    assert table.shape == (3, 2) and np.isnan(table).all()


def written_rows(count: int) -> EncodedRows:
    rows = learnable_rows(count)
    targets = tuple((NO_TARGET, *ids[1:]) for ids in rows.token_ids)
    return EncodedRows(
        token_ids=rows.token_ids, segment_ids=(), labels=np.zeros(count), pad_id=PAD, token_targets=targets
    )


def test_one_that_writes_leaves_the_states_of_answered_positions(tmp_path: Path) -> None:
    classifier, rows = writer(tmp_path), written_rows(9)
    found = answers(classifier, rows, np.array([1, 4, 7]), 2)
    assert isinstance(found, AnswerStates) and NEXT_TOKEN.states is not None
    for place, states in enumerate(found.rows):
        assert len(states) == (len(rows.token_ids[place]) - 1 if place in (1, 4, 7) else 0)
    with torch.no_grad():
        alone = NEXT_TOKEN.states(classifier, collate(rows, [7, 1]))
    torch.testing.assert_close(found[np.array([7, 1])], alone)
