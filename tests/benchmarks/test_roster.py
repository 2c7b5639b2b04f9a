import pytest

from benchmarks.roster import measure


def test_a_small_fleet_gives_every_figure():
    row = measure(60, 20, 2)
    assert row["registered"] == 60 and row["cohort"] == 20
    assert all(
        row[f"{step}_s"] > 0 for step in ("alive", "joined", "roster", "sample", "plan", "close", "log", "commit")
    )
    assert row["event_bytes_per_client_round"] > 400 and row["ledger_bytes_per_client_round"] > 400
    assert row["leaf_bytes"] == pytest.approx(140, abs=30)
