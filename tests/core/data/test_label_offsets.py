import numpy as np
import pytest

from fedcore.core.data.label_offsets import MOST_ROWS, label_offsets, lacks_labels, rows_apart
from fedcore.core.data.metrics import measure


def outputs_of(targets: np.ndarray, labels: int, shift: np.ndarray, seed: int = 0) -> np.ndarray:
    """Outputs that tell labels apart, each with noise, all moved by `shift`."""
    noise = np.random.default_rng(seed).normal(size=(len(targets), labels))
    return (3.0 * np.eye(labels)[targets] + noise + shift).astype(np.float32)


def test_the_fleet_lacks_labels_where_most_rows_are_on_devices_of_few():
    assert not lacks_labels([{"a": 50, "b": 50}, {"a": 10, "b": 30}])
    assert lacks_labels([{"a": 100}, {"b": 80}])
    assert lacks_labels([{"a": 10, "b": 10}, {"a": 200}])


def test_devices_without_counts_or_of_one_label_in_all_lack_nothing():
    assert not lacks_labels([])
    assert not lacks_labels([{}, {}])
    assert not lacks_labels([{"a": 3}, {"a": 4}])


def test_a_single_small_device_of_one_label_changes_nothing():
    assert not lacks_labels([{"a": 300, "b": 300}, {"a": 3}])


def test_rows_apart_are_few_of_every_label_and_evenly_spread():
    targets = np.array([0] * 80 + [1] * 7 + [2] * 4000)

    apart = rows_apart(targets)

    assert [int(apart[targets == label].sum()) for label in range(3)] == [10, 0, MOST_ROWS]
    assert apart[0] and apart[79]


def test_offsets_bring_back_thresholds_that_drifted():
    targets = np.random.default_rng(1).integers(0, 3, size=600)
    drifted = outputs_of(targets, 3, np.array([0.0, 5.0, -2.0]))
    apart = rows_apart(targets)

    offsets = label_offsets(drifted[apart], targets[apart])

    rest = ~apart
    before, after = (
        measure(values[rest], targets[rest]).figures["macro_f1"] for values in (drifted, drifted + offsets)
    )
    right = measure(outputs_of(targets, 3, np.zeros(3))[rest], targets[rest]).figures["macro_f1"]
    assert before < 0.5
    assert after > right - 0.03
    assert offsets.sum() == pytest.approx(0, abs=1e-5)


def test_offsets_that_would_cost_answers_are_not_taken():
    margins = np.array([0.5] * 8 + [-0.5] * 4 + [-17.0] * 4)  # the middle of the labels' means is far to one side
    targets = np.repeat([0, 1], 8)

    offsets = label_offsets(np.stack([margins, np.zeros(16)], axis=1).astype(np.float32), targets)

    assert not offsets.any()


def test_offsets_need_rows_of_two_labels():
    assert not label_offsets(np.ones((4, 3), dtype=np.float32), np.zeros(4, dtype=np.int64)).any()
    assert label_offsets(np.empty((0, 3), dtype=np.float32), np.empty(0, dtype=np.int64)).shape == (3,)
