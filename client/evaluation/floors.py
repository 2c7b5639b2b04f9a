"""The floors of an evaluator's held-back rows, from rows that this evaluator may see and no others.

In a fleet on one machine these include training rows. In a real run they are what the evaluator was started with:
no row of a device, and nothing made from one, is used. Where the held-back rows are the most that it has, words are
learned from four fifths of them and tried on the last, in turn.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedcore.client.data.rows import Rows, label_ids, targets_of
from fedcore.client.evaluation.bag_of_words import Ids, predict_by_words
from fedcore.core.data.floors import Floor, Floors, floor_of, majority_floor
from fedcore.core.seeds import generator
from fedcore.core.tasks.task import Task

MAX_ROWS = 5_000  # to learn from, and to try on: some seconds on one core
MAX_LOGITS = 250_000  # rows times labels, where there are many labels; 1,000 rows at least
PARTS = 5  # of a cross-validation
MIN_ROWS = 20  # to learn from


def find_floors(test: Rows, train: Rows, labels: Sequence[str], majority: str = "") -> Floors:
    """Return the floors of the rows of `test` under the agreed `labels`.

    `majority` is the fleet's most frequent training label; where it is not known, that of `train` stands for it, else
    that of `test`. Texts in `train` that `test` has too are left out. Raises DataError for a label that was not agreed.
    """
    truth = label_ids(test, labels)
    held_back = set(test.texts)
    train = train.under(labels)
    known = set(labels)
    own = train.select(
        index
        for index, (texts, label) in enumerate(zip(train.texts, train.labels, strict=True))
        if texts not in held_back and label in known
    )
    answer = majority if majority in known else _most_frequent(own if len(own) else test, labels)
    floor = majority_floor(truth, list(labels).index(answer))
    across = len(own) < len(test) * (PARTS - 1) // PARTS
    rows, tfidf = _across(test, truth, len(labels)) if across else _from(own, test, truth, labels)
    return Floors(
        majority_label=answer, majority=floor, tfidf=tfidf, tfidf_rows=rows, cross_validated=across and rows > 0
    )


def constant_floors(test: Rows, train: Rows, task: Task) -> Floors | None:
    """Return the floor of one answer for every row of `test`, the best for `train`, or for `test` where that is empty.

    None for a task without such an answer.
    """
    if task.constant is None:
        return None
    truth = targets_of(test, (), task)
    constant = task.constant(targets_of(train, (), task) if len(train) else truth)
    measured = task.measure(np.tile(constant.outputs, (len(truth), 1)), truth)
    return Floors(
        majority_label=constant.name, majority=Floor(figures=task.complete(measured).figures, rows=len(truth))
    )


def with_majority(floors: Floors, test: Rows, labels: Sequence[str], majority: str) -> Floors:
    """Return the floors with `majority` as the fleet's most frequent label; unchanged where it is not known."""
    if majority not in set(labels):
        return floors
    floor = majority_floor(label_ids(test, labels), list(labels).index(majority))
    return replace(floors, majority_label=majority, majority=floor)


def _most_frequent(rows: Rows, labels: Sequence[str]) -> str:
    counts = Counter(rows.under(labels).labels)
    return max(labels, key=lambda label: counts[label])


def _from(own: Rows, test: Rows, truth: Ids, labels: Sequence[str]) -> tuple[int, Floor | None]:
    """Learn from the evaluator's training rows; return their number and the floor."""
    if len(own) < MIN_ROWS:
        return 0, None
    learned, tried = own.select(_some(len(own), len(labels))), _some(len(test), len(labels))
    logits = predict_by_words(
        learned.texts, label_ids(learned, labels), [test.texts[index] for index in tried], len(labels)
    )
    return len(learned), floor_of(logits.argmax(axis=1), truth[tried])


def _across(test: Rows, truth: Ids, num_labels: int) -> tuple[int, Floor | None]:
    """Cross-validate over the held-back rows; return how many one part learned from, and the floor."""
    chosen = _some(len(test), num_labels)
    learned = len(chosen) - -(-len(chosen) // PARTS)
    if learned < MIN_ROWS:
        return 0, None
    predicted = np.empty(len(chosen), dtype=np.int64)
    for part in range(PARTS):
        tried = np.arange(len(chosen)) % PARTS == part
        texts = [test.texts[index] for index in chosen[~tried]]
        others = [test.texts[index] for index in chosen[tried]]
        predicted[tried] = predict_by_words(texts, truth[chosen[~tried]], others, num_labels).argmax(axis=1)
    return learned, floor_of(predicted, truth[chosen])


def _some(count: int, num_labels: int) -> Ids:
    """Return the indices of a bounded number of rows, drawn the same way every time, in random order."""
    most = min(MAX_ROWS, max(1_000, MAX_LOGITS // num_labels))
    drawn: Ids = generator(0, "floors").permutation(count)[:most]
    return drawn
