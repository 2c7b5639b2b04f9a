import os
import sys

import pytest

from benchmarks.data_plane.processes import MeasurementFailed
from benchmarks.simulation.cases import prepare
from benchmarks.simulation.measure import missing, per_round, pss_mb, run_simulator


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
