import math
from pathlib import Path

from benchmarks.fleet80.cases.tracks import TRACKS
from benchmarks.fleet80.cases.variants import VARIANTS
from benchmarks.fleet80.stored import load, store
from benchmarks.fleet80.tuning import best_rate, last_loss, tuned_rate, tuning_cases

FAST = TRACKS["fast"]


def test_the_lowest_loss_wins_and_the_smaller_rate_of_two_alike() -> None:
    assert best_rate({1e-3: 0.5, 2e-3: 0.4, 5e-3: 0.6}) == 2e-3
    assert best_rate({5e-3: 0.4, 2e-3: 0.4}) == 2e-3
    assert best_rate({1e-3: 0.9, 2e-3: math.nan}) == 1e-3


def test_the_loss_is_that_of_the_last_round_measured() -> None:
    rounds = [{"delivered": {"loss": 0.6}}, {"delivered": {"loss": 0.5}}, {"delivered": None}]
    assert last_loss({"rounds": rounds}) == 0.5
    assert math.isnan(last_loss({"rounds": []}))


def test_a_rate_is_known_once_the_whole_search_is_stored_and_serves_those_tuned_alike(tmp_path: Path) -> None:
    cases = tuning_cases(FAST, VARIANTS["fedspine"])
    assert [case.rate for case in cases] == list(FAST.rates)
    for case, loss in zip(cases, (0.5, 0.6, 0.4), strict=True):
        assert tuned_rate(FAST, VARIANTS["fedspine"], tmp_path) is None
        store(case, {"rounds": [{"delivered": {"loss": loss}}], "final": {}}, tmp_path)
    assert tuned_rate(FAST, VARIANTS["fedspine"], tmp_path) == FAST.rates[2]
    assert tuned_rate(FAST, VARIANTS["by-class"], tmp_path) == FAST.rates[2]
    assert tuned_rate(FAST, VARIANTS["fedit"], tmp_path) is None


def test_what_is_stored_comes_back_a_round_a_line(tmp_path: Path) -> None:
    (case, *_) = tuning_cases(FAST, VARIANTS["fedit"])
    result = {"seed": 0, "rounds": [{"round": 1}, {"round": 2}], "final": {"dense": {"rows": 3}, "cut": {"rows": 3}}}
    path = store(case, result, tmp_path)
    assert load(case, tmp_path) == result
    assert sum('"round":' in line for line in path.read_text().splitlines()) == 2
    for empty in ({"rounds": [], "final": {}}, {"rounds": [{"round": 1}], "final": {}}):
        store(case, empty, tmp_path)
        assert load(case, tmp_path) == empty
