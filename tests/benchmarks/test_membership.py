from benchmarks.membership import measure


def test_a_few_members_join_and_stay():
    row = measure(4, 2.0)
    assert row["members"] == 4
    assert row["join_wall_s"] > 0
    # The kernel counts processor time in ticks of 10 ms, which four members may not fill.
    assert 0 <= row["join_cpu_s"] < 1 and 0 <= row["beat_cpu_s"] < 1
