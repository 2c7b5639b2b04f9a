import math
from statistics import fmean, stdev

import pytest

from fedcore.config import ClassConfig
from simulation.luck import Luck, draw_luck


def lucks(kind: ClassConfig, count: int = 2000) -> list[Luck]:
    return [draw_luck(kind, f"a-{number}", round_index=1, attempt=0, seed=3) for number in range(count)]


def test_nothing_befalls_a_class_that_asks_for_nothing() -> None:
    assert set(map(repr, lucks(ClassConfig(name="a"), 50))) == {repr(Luck())}


def test_links_spread_around_their_speed_as_asked() -> None:
    drawn = lucks(ClassConfig(name="a", link_sigma=0.5))
    for side in ("uplink", "downlink"):
        logs = [math.log(getattr(each, side)) for each in drawn]
        assert fmean(logs) == pytest.approx(0.0, abs=0.05)
        assert stdev(logs) == pytest.approx(0.5, abs=0.03)
    assert all(each.uplink != each.downlink for each in drawn)


def test_as_many_fail_and_vanish_as_asked_somewhere_in_their_work() -> None:
    drawn = lucks(ClassConfig(name="a", dropout=0.2, failure=0.1))
    vanished = [each.vanishes_at for each in drawn if each.vanishes_at is not None]
    failed = [each.fails_at for each in drawn if each.fails_at is not None]
    assert len(vanished) / len(drawn) == pytest.approx(0.2, abs=0.03)
    assert len(failed) / len(drawn) == pytest.approx(0.1, abs=0.03)
    assert all(0 < at < 1 for at in (*vanished, *failed))
    assert fmean(vanished) == pytest.approx(0.5, abs=0.05)


def test_another_attempt_is_another_draw_and_the_same_one_repeats() -> None:
    kind = ClassConfig(name="a", link_sigma=1.0)
    first = draw_luck(kind, "a-0", round_index=1, attempt=0, seed=0)
    assert first == draw_luck(kind, "a-0", round_index=1, attempt=0, seed=0)
    assert first != draw_luck(kind, "a-0", round_index=1, attempt=1, seed=0)
    assert first != draw_luck(kind, "a-0", round_index=2, attempt=0, seed=0)
