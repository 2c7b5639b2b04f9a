"""Outcomes: the words of a status on the wire, and equality without scores."""

from dataclasses import replace

import numpy as np

from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.outcome import PHASES, DeviceReport, GroupScores, Outcome, Status, TrainingMetrics

METRICS = TrainingMetrics(loss_before=1.0, loss_after=0.5, train_loss=0.7, peak_memory_mb=10.0, adapter_importance=0.1)
REPORT = DeviceReport(
    metrics=METRICS, phase_s=dict.fromkeys(PHASES, 1.0), num_examples=9, steps=2, bytes_down=3, bytes_up=4
)
OUTCOME = Outcome(
    device="ada",
    device_class="nx",
    round=1,
    arm=Arm(sparsity=0.0, rank=4),
    status=Status.ACCEPTED,
    time_s=5.0,
    report=REPORT,
)


def test_a_status_is_written_by_its_word():
    assert [str(status) for status in Status] == ["accepted", "missed_deadline", "lost", "rejected", "out_of_memory"]


def test_phases_are_named_in_the_order_of_a_round():
    assert PHASES == ("download", "prune", "train", "encode", "upload")
    assert not REPORT.repushed and OUTCOME.fold_s is None and OUTCOME.network == ""


def test_scores_do_not_count_for_equality():
    scores = GroupScores(heads=(np.ones(2, np.float32),), channels=(np.ones(3, np.float32),))
    assert replace(OUTCOME, scores=scores) == OUTCOME
    assert replace(OUTCOME, time_s=6.0) != OUTCOME
