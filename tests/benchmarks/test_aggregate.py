import numpy as np

from benchmarks.aggregate import BASELINE, Case, bert, measure


def test_every_method_is_measured_and_the_baseline_drops_what_delta_stack_drops():
    case = Case(model="tiny", geometry=bert(layers=1, hidden=96, ffn=80), clients=12, repeats=1)
    rows = {row["method"]: row for row in measure(case)}
    assert set(rows) == {"factor-mean", "delta-stack", BASELINE}
    np.testing.assert_allclose(rows["delta-stack"]["dropped energy"], rows[BASELINE]["dropped energy"], atol=2e-6)
    assert all(row["peak MB"] > 0 and row["fold MB/s"] > 0 for row in rows.values())
    assert rows[BASELINE]["x baseline"] == 1.0
