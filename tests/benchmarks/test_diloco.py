from pathlib import Path

import pytest

from benchmarks.diloco.__main__ import rows
from benchmarks.diloco.cases import CODECS, DILOCO, FEDIT, LOCAL_STEPS, QUICK, Point, cases, points, tuning_cases
from benchmarks.diloco.figure import COLOURS, LINES, draw


def run(*losses: float) -> list[Point]:
    return [
        Point(round=n, bytes_up=n * 1000, bytes_down=n * 2000, virtual_s=n * 3.0, loss=loss, accuracy=0.5)
        for n, loss in enumerate(losses)
    ]


def test_every_case_takes_as_many_steps_and_differs_in_one_thing() -> None:
    made = cases()
    assert len({case.name for case in made}) == len(made) == 8 and made[0].strategy == FEDIT
    for case in made:
        config = case.config(QUICK)
        assert config.run.rounds * config.training.local_steps == 90 and config.training.keep_optimizer
        assert config.training.codec in COLOURS and config.training.local_steps in LINES
    assert {case.codec for case in made if case.strategy == DILOCO} == set(CODECS)
    assert {case.local_steps for case in made} == set(LOCAL_STEPS)
    assert {(case.strategy, case.config().run.rounds, case.seed) for case in tuning_cases()} == {
        (strategy, 3, 100) for strategy in (FEDIT, DILOCO)
    }


def test_points_add_up_what_rounds_cost() -> None:
    record = {"bytes_up": 3, "bytes_down": 5, "duration_s": 2.0, "loss": 0.5, "accuracy": 0.75}
    summary = {
        "global": {"untrained": {"loss": 0.7, "accuracy": 0.5}},
        "rounds": [{"round": n, **record} for n in (1, 2)],
    }
    assert [(point.bytes_up, point.bytes_down, point.virtual_s, point.loss) for point in points(summary)] == [
        (0, 0, 0.0, 0.7),
        (3, 5, 2.0, 0.5),
        (6, 10, 4.0, 0.5),
    ]


def test_rows_tell_bytes_per_nat_and_up_to_the_baselines_last_loss() -> None:
    first, second, third, *_ = cases()
    told = rows({first: run(0.7, 0.65, 0.6), second: run(0.7, 0.59, 0.5), third: run(0.7, 0.71, 0.72)})
    assert told[0]["up_mb_per_nat"] == pytest.approx(0.02) and told[0]["up_mb_to_fedit"] == 0.002
    assert told[1]["up_mb_per_nat"] == pytest.approx(0.01) and told[1]["up_mb_to_fedit"] == 0.001
    assert told[1]["virtual_s_to_fedit"] == 3.0 and told[1]["down_mb_to_fedit"] == 0.002
    assert told[2]["up_mb_per_nat"] is None and told[2]["up_mb_to_fedit"] is None


def test_the_figure_is_a_picture(tmp_path: Path) -> None:
    draw({case: run(0.7, 0.6, 0.5) for case in cases()}, tmp_path / "figures" / "diloco.png")
    assert (tmp_path / "figures" / "diloco.png").read_bytes().startswith(b"\x89PNG")
