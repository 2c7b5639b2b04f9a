import os
import sys

import numpy as np
import pytest

from benchmarks.data_plane.processes import MeasurementFailed
from benchmarks.simulation.cases import prepare
from benchmarks.simulation.measure import compared, difference, missing, per_round, pss_mb, run_simulator


def test_the_first_round_is_not_counted():
    assert per_round([0.0, 10.0, 11.0, 13.0, 14.0]) == 1.0
    with pytest.raises(MeasurementFailed, match="two rounds"):
        per_round([0.0, 10.0])


def test_what_is_missing_is_said(tmp_path):
    assert missing("ours", sys.executable) == ""
    assert missing("pfl", "") == "no --rivals interpreter was given"
    assert "cannot be run" in missing("pfl", str(tmp_path / "python"))
    empty = tmp_path / "empty"
    empty.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    empty.chmod(0o755)
    assert "No module named 'pfl'" in missing("pfl", str(empty))


def test_memory_of_a_process_and_of_none():
    assert pss_mb(os.getpid()) > 1
    assert pss_mb(1 << 30) == 0.0


@pytest.mark.long
def test_ours_runs_in_a_process_of_its_own(tmp_path):
    case = prepare("mlp", 4, 3, tmp_path / "case")
    row = run_simulator("ours", sys.executable, case, tmp_path / "case")
    assert row["ms_per_client"] > 0 and row["peak_mb"] > 50 and row["rounds"] == 3


def test_rows_stand_beside_ours(tmp_path):
    np.savez(tmp_path / "ours.npz", a=np.zeros(2), token=np.zeros(1))
    np.savez(tmp_path / "pfl.npz", a=np.array([0.5, -0.25]))
    rows = [
        {"simulator": "ours", "ms_per_client": 2.0},
        {"simulator": "pfl", "ms_per_client": 9.0},
        {"simulator": "flower", "not_run": "absent"},
    ]
    assert compared(rows, tmp_path) == [
        rows[0],
        {"simulator": "pfl", "ms_per_client": 9.0, "times_ours": 4.5, "largest_difference": 0.5},
        rows[2],
    ]


def test_without_ours_there_is_nothing_to_compare_with(tmp_path):
    rows = [{"simulator": "pfl", "ms_per_client": 9.0}]
    assert compared(rows, tmp_path) == rows


def test_models_without_a_common_tensor_are_a_mistake(tmp_path):
    np.savez(tmp_path / "one.npz", a=np.zeros(1))
    np.savez(tmp_path / "other.npz", b=np.zeros(1))
    with pytest.raises(ValueError, match="no tensor in common"):
        difference(tmp_path / "one.npz", tmp_path / "other.npz")
