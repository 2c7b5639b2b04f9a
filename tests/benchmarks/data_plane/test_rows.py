"""Ratios and merging."""

import json

from benchmarks.data_plane.rows import merged, stored, with_ratios


def row(kind, s_per_round, *, run="a", tls=True, tiers=1, **more):
    fleet = {"kind": kind, "devices": 10, "payload": "100 MB", "tiers": tiers, "tls": tls, "run": run}
    return {**fleet, "s_per_round": s_per_round, "mb_per_s": 2000 / s_per_round, **more}


def test_ours_is_compared_with_its_own_tls_and_with_flwr():
    rows = [row("ours", 4.0), row("raw_grpc", 2.0), row("raw_grpc", 1.0, tls=False), row("flwr", 40.0, tls=False)]
    found = with_ratios(rows)[0]
    assert (found["share_of_raw_grpc"], found["times_less_time_than_flwr"]) == (0.5, 10.0)
    assert found["times_flwr_throughput"] == 10.0 and found["ratios_across_runs"] is False
    assert with_ratios(rows)[1:] == rows[1:]


def test_a_counterpart_of_another_run_is_marked_and_a_missing_one_gives_nothing():
    assert with_ratios([row("ours", 4.0), row("raw_grpc", 2.0, run="b")])[0]["ratios_across_runs"] is True
    assert with_ratios([row("ours", 4.0)]) == [row("ours", 4.0)]


def test_a_failed_counterpart_gives_nothing():
    failed = {
        key: value for key, value in row("flwr", 1.0, tls=False).items() if key not in ("s_per_round", "mb_per_s")
    }
    assert with_ratios([row("ours", 4.0), {**failed, "error": "hung"}])[0] == row("ours", 4.0)


def test_new_rows_take_the_place_of_old_ones(tmp_path):
    old, other = row("ours", 9.0), row("ours", 5.0, tiers=2)
    assert merged([old, other], [row("ours", 4.0), row("raw_grpc", 2.0)]) == [
        row("ours", 4.0),
        other,
        row("raw_grpc", 2.0),
    ]
    path = tmp_path / "data_plane.json"
    assert stored(path) == []
    path.write_text(json.dumps({"rows": [old]}))
    assert stored(path) == [old]
