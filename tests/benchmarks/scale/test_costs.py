import json

import pytest

from benchmarks.data_plane.processes import MeasurementFailed
from benchmarks.report import RESULTS
from benchmarks.scale.costs import RosterCosts, read_costs
from tests.benchmarks.scale.known import COSTS


def test_costs_between_measured_fleets_are_interpolated_and_beyond_them_grow_in_proportion():
    assert COSTS.alive_s(1_000) == 1e-3
    assert COSTS.alive_s(5_500) == pytest.approx(5.5e-3)
    assert COSTS.alive_s(100_000) == pytest.approx(0.1)
    assert COSTS.joined_s(10_000) == 2e-2


def test_seating_everybody_adds_up_what_each_join_costs_among_those_before():
    # 2 ms each up to 1,000; from there rising to 20 ms at 10,000
    assert COSTS.seating_s(500) == pytest.approx(1.0)
    assert COSTS.seating_s(10_000) == pytest.approx(2.0 + 9_000 * 11e-3)


def test_a_turn_costs_something_for_the_cohort_and_something_for_everybody():
    # 1 s for a cohort of 100 in the smallest fleet; 9,000 more devices cost 9 s more
    assert COSTS.turn_s(0, 100) == pytest.approx(1.0)
    assert COSTS.turn_s(1_000, 200) == pytest.approx(2.0 + 1.0)


def test_every_cost_is_read_from_the_stored_results():
    costs = read_costs(RESULTS)
    assert [fleet.registered for fleet in costs.roster] == [1_000, 10_000, 100_000, 1_000_000]
    assert all(isinstance(fleet, RosterCosts) for fleet in costs.roster)
    assert 0 < costs.mb_cpu_s < 1 and 0 < costs.update_share < 1 and costs.leaf_bytes > 50


def test_a_missing_result_names_its_command(tmp_path):
    with pytest.raises(MeasurementFailed, match=r"python -m benchmarks\.membership --json"):
        read_costs(tmp_path)


def test_a_missing_row_is_named(tmp_path):
    for path in RESULTS.glob("*.json"):
        content = json.loads(path.read_text())
        if path.stem == "codecs":
            content["rows"] = [row for row in content["rows"] if row["codec"] != "bf16+zstd"]
        (tmp_path / path.name).write_text(json.dumps(content))
    with pytest.raises(MeasurementFailed, match=r"codecs has no row with .*bf16\+zstd"):
        read_costs(tmp_path)
