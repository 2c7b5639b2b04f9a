from benchmarks.membership import measure


def test_a_few_members_join_and_stay():
    row = measure(4, 2.0)
    assert row["members"] == 4
    assert row["join_cpu_s"] > 0 and row["beat_cpu_s"] >= 0
