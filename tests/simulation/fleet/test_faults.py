import itertools
import math
from statistics import fmean, stdev

import pytest

from fedcore.core.config.tables import ClassConfig
from fedcore.simulation.fleet.faults import FaultDraw, draw_faults


def draws(kind: ClassConfig, count: int = 2000) -> list[FaultDraw]:
    return [draw_faults(kind, f"a-{number}", round_index=1, attempt=0, seed=3) for number in range(count)]


def test_a_class_without_faults_has_none() -> None:
    assert set(map(repr, draws(ClassConfig(name="a"), 50))) == {repr(FaultDraw())}


def test_links_spread_around_their_speed_as_configured() -> None:
    drawn = draws(ClassConfig(name="a", link_sigma=0.5))
    for side in ("uplink", "downlink"):
        logs = [math.log(getattr(draw, side)) for draw in drawn]
        assert fmean(logs) == pytest.approx(0.0, abs=0.05)
        assert stdev(logs) == pytest.approx(0.5, abs=0.03)
    assert all(draw.uplink != draw.downlink for draw in drawn)


def test_the_configured_shares_fail_and_vanish_somewhere_in_their_work() -> None:
    drawn = draws(ClassConfig(name="a", dropout=0.2, failure=0.1))
    vanished = [draw.vanishes_at for draw in drawn if draw.vanishes_at is not None]
    failed = [draw.fails_at for draw in drawn if draw.fails_at is not None]
    assert len(vanished) / len(drawn) == pytest.approx(0.2, abs=0.03)
    assert len(failed) / len(drawn) == pytest.approx(0.1, abs=0.03)
    assert all(0 < at < 1 for at in (*vanished, *failed))
    assert fmean(vanished) == pytest.approx(0.5, abs=0.05)


def test_another_attempt_is_another_draw_and_the_same_one_repeats() -> None:
    kind = ClassConfig(name="a", link_sigma=1.0)
    first = draw_faults(kind, "a-0", round_index=1, attempt=0, seed=0)
    assert first == draw_faults(kind, "a-0", round_index=1, attempt=0, seed=0)
    assert first != draw_faults(kind, "a-0", round_index=1, attempt=1, seed=0)
    assert first != draw_faults(kind, "a-0", round_index=2, attempt=0, seed=0)


def test_a_drifting_link_moves_slowly_and_spreads_as_asked_at_every_moment() -> None:
    kind = ClassConfig(name="a", link_sigma=0.5, link_period_s=100.0)

    def log_speed(number: int, now_s: float) -> float:
        return math.log(draw_faults(kind, f"a-{number}", round_index=1, attempt=0, seed=3, now_s=now_s).uplink)

    for now_s in (0.0, 50.0, 1025.0):
        assert stdev(log_speed(number, now_s) for number in range(2000)) == pytest.approx(0.5, abs=0.03)
    path = [log_speed(0, float(now_s)) for now_s in range(1000)]
    assert max(abs(after - before) for before, after in itertools.pairwise(path)) < 0.05
    assert stdev(path) > 0.2


def test_a_drifting_link_does_not_depend_on_round_or_attempt() -> None:
    kind = ClassConfig(name="a", link_sigma=0.5, link_period_s=100.0)
    first = draw_faults(kind, "a-0", round_index=1, attempt=0, seed=3, now_s=30.0)
    assert first == draw_faults(kind, "a-0", round_index=7, attempt=2, seed=3, now_s=30.0)
