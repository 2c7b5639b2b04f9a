"""The measured rounds are real ones: everybody's update counts, and every part of them is timed."""

import pytest

from benchmarks import framework_overhead


def test_every_part_of_a_round_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framework_overhead, "REGISTERED", 12)
    monkeypatch.setattr(framework_overhead, "COHORT", 5)
    rows = {row["part"]: row for row in framework_overhead.measure_rounds(3)}
    parts = ("plan", "close", "commit", "turn's log", "planned", "arrivals", "verify + fold", "log", "rest of the turn")
    assert rows["total"]["us"] > max(rows[part]["us"] for part in parts)
    assert all(rows[part]["us"] > 0 for part in (*parts, "total", "a join (once)"))
