import numpy as np
import pytest

from benchmarks.simulation.rows import compared, difference


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
