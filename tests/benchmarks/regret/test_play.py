from dataclasses import replace

import pytest

from benchmarks.bandit_regret import goals, rows_of
from benchmarks.regret.fleets import FLEETS, ROUNDS, TUNING, Kind
from benchmarks.regret.play import Game, Player

SMALL = replace(
    FLEETS["drifting"],
    kinds=(Kind(name="fast", count=8, slowdowns=(1.0, 2.0)), Kind(name="slow", count=8, slowdowns=(4.0, 8.0))),
)
RANDOM = Player(name="random", strategy={"bandit": "random", "pace": "off"})
ORACLE = Player(name="oracle", strategy={"bandit": "fixed", "pace": "filter"}, oracle=True)


@pytest.fixture(scope="module")
def games():
    return {player.name: [Game(SMALL, player, 0).play()] for player in (RANDOM, ORACLE)}


def test_a_game_repeats_and_another_seed_differs(games):
    assert Game(SMALL, RANDOM, 0).play() == games["random"][0]
    assert Game(SMALL, RANDOM, 1).play() != games["random"][0]


def test_regret_is_never_negative_and_the_oracle_has_less(games):
    for [played] in games.values():
        assert len(played.regret) == len(played.seconds) == len(played.progress) == ROUNDS
        assert min(played.regret) >= 0.0
    [drawn], [known] = games["random"], games["oracle"]
    assert sum(known.regret) < 0.5 * sum(drawn.regret)
    assert sum(known.progress) / sum(known.seconds) > 2 * sum(drawn.progress) / sum(drawn.seconds)


def test_drift_deals_every_device_its_next_power_mode():
    before, after = (SMALL.roster(0, t) for t in (SMALL.drift_round - 1, SMALL.drift_round))
    changed = [(a.slowdown, b.slowdown) for a, b in zip(before, after, strict=True)]
    assert set(changed) == {(1.0, 2.0), (2.0, 1.0), (4.0, 8.0), (8.0, 4.0)}
    assert [replace(profile, slowdown=1.0) for profile in before] == [
        replace(profile, slowdown=1.0) for profile in after
    ]


def test_the_tuning_fleet_is_none_of_the_reported_ones():
    assert TUNING.name not in FLEETS
    assert len({(fleet.kinds, fleet.drift_round) for fleet in FLEETS.values()} | {(TUNING.kinds, 0)}) == 4


def test_rows_hold_the_goals_figures(games):
    rows = rows_of("small", games | {"best fixed arm": games["random"]})
    by_name = {row["policy"]: row for row in rows}
    assert by_name["random"]["of_half_random"] == 2.0
    assert by_name["random"]["of_best_fixed"] == 1.0
    assert by_name["oracle"]["of_oracle_rate"] == 1.0
    reached = [row | {"policy": "linucb, filter"} for row in rows if row["policy"] == "oracle"]
    missed = [row | {"policy": name} for name in ("s-ucb, filter", "smooth-ucb, filter") for row in rows[:1]]
    told = goals([*reached, *missed])
    assert told["goal, linucb, filter"].startswith("reached")
    assert told["goal, s-ucb, filter"].startswith("missed: at worst 2.0 of half of random's")
