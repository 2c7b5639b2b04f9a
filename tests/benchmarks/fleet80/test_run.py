"""A whole case on a tiny model: measured, stored, taken up again where it was broken off."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import benchmarks.fleet80.run
import fedcore.client.evaluation.model_evaluator
from benchmarks.fleet80.bits import packed, unpacked
from benchmarks.fleet80.cases.case import Case, make_case
from benchmarks.fleet80.cases.tracks import TRACKS
from benchmarks.fleet80.cases.variants import VARIANTS
from benchmarks.fleet80.examine import Examiner
from benchmarks.fleet80.plan import Plan
from benchmarks.fleet80.report.write import write_report
from benchmarks.fleet80.run import run_case
from benchmarks.fleet80.stored import Result, load
from fedcore.simulation.rounds.evaluation import RunEvaluation
from tests.simulation.test_generation_run import dialogues
from tests.tiny_models import tiny_model
from tests.whole.stage import texts

SMALL = (
    "model.max_length=16",
    "run.rounds=3",
    "strategy.cohort=4",
    "strategy.ranks=[2, 4]",
    "strategy.warmup_rounds=1",
    "strategy.recovery_rounds=1",
    "training.local_steps=2",
    "training.batch_size=4",
    "simulation.workers=1",
)


@dataclass(frozen=True, slots=True)
class Ground:
    root: Path
    overrides: tuple[str, ...]

    def case(self, name: str, *more: str, seed: int = 0) -> Case:
        overrides = (*self.overrides, *more)
        return make_case(TRACKS["fast"], VARIANTS[name], seed=seed, rate=2e-3, overrides=overrides)

    def run(self, case: Case, say: Callable[[str], None] = lambda _: None) -> Result:
        return run_case(case, say, base=self.root / "results", runs=self.root / "runs")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    root = tmp_path_factory.mktemp("fleet80")
    with (root / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *texts(("neg", "pos"), 240)])
    model = tiny_model(root / "bert", "bert")
    with pytest.MonkeyPatch.context() as patch:  # threads of a tiny model wait for each other longer than they work
        patch.setattr(fedcore.client.evaluation.model_evaluator, "use_all_cores", lambda: None)
        yield Ground(root, (*SMALL, f"model.path={model}", f"data.train={root / 'rows.csv'}"))


def test_a_pruned_run_tells_every_round_and_every_model(ground: Ground) -> None:
    case = ground.case("by-class")
    result = ground.run(case)
    assert load(case, ground.root / "results") == result
    assert not list((ground.root / "runs" / "fast").iterdir())
    assert [record["round"] for record in result["rounds"]] == [1, 2, 3]
    for record in result["rounds"]:
        assert record["delivered"]["sparsity"] == pytest.approx(record["sparsity"], abs=0.2) or record["round"] == 3
        parts = record["wait_s"] + record["download_s"] + record["compute_s"] + record["upload_s"]
        assert parts == pytest.approx(record["duration_s"])
    assert result["rounds"][0]["dense"] == result["rounds"][0]["delivered"]
    final = result["final"]
    assert {"dense", "tx2", "nx", "agx"} <= set(final)
    assert {name: model["share"] for name, model in final.items() if model["share"]} == {
        "tx2": 0.375,
        "nx": 0.5,
        "agx": 0.125,
    }
    assert final["tx2"]["parameters"] < final["nx"]["parameters"] < final["dense"]["parameters"]
    for model in final.values():
        assert unpacked(model["right"], model["rows"]).mean() == pytest.approx(model["accuracy"], abs=1e-6)


def test_strategies_meet_the_same_fleet_rows_and_cohorts(ground: Ground) -> None:
    results = [ground.run(ground.case(name)) for name in ("fedit", "random-arms")]
    cohorts = [
        [{name: arms["devices"] for name, arms in line["classes"].items()} for line in result["rounds"]]
        for result in results
    ]
    assert cohorts[0] == cohorts[1]
    first = [result["rounds"][0]["loss_before"] for result in results]
    assert first[0] == pytest.approx(first[1])  # the same devices probe the same untrained model
    dense = results[0]["final"]["dense"]
    assert results[0]["final"] == {"dense": dense}
    assert dense["share"] == 1.0


def test_models_that_write_are_measured_by_row_and_reported(ground: Ground) -> None:
    track = TRACKS["write"]
    rows = ground.root / "rows.jsonl"
    languages = ("French", "Spanish")
    lines = [
        {"prompt": asked, "response": told, "language": languages[place % 2]}
        for place, (asked, told) in enumerate(dialogues(240))
    ]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    model = tiny_model(ground.root / "llama", "llama", writes=True)
    small = (*SMALL, f"model.path={model}", f"data.train={rows}", "model.dtype=float32", "data.test_fraction=0.1")
    plan = Plan(track=track, overrides=small, say=lambda _: None).below(ground.root)
    results = [plan.run(VARIANTS[name], 0) for name in ("fedspine", "fedit")]
    for result in results:
        for model_result in result["final"].values():
            right = unpacked(model_result["right"], model_result["rows"]).mean()
            assert right == pytest.approx(model_result["exact_match"], abs=1e-6)
            assert np.mean(model_result["losses"]) == pytest.approx(model_result["loss"], abs=1e-3)
        assert all(record["delivered"]["perplexity"] > 1 for record in result["rounds"])
    page, *pictures = write_report(plan)
    text = page.read_text()
    assert "## Virtual time to perplexity 100" in text and "## Virtual time to 5 % exact match" in text
    assert "| fedspine minus | prunes | seeds | nats a token |" in text
    assert "fleet80-write-perplexity.png" in {path.name for path in pictures}


class Stopped(Exception):
    pass


def test_a_run_that_was_broken_off_goes_on_to_the_same_result(ground: Ground) -> None:
    def stop(text: str) -> None:
        if text.startswith("round 2/"):
            raise Stopped

    whole, broken = ground.case("uniform", "strategy.ranks=[4]"), ground.case("uniform", "strategy.ranks=[4]")
    expected = ground.run(whole)
    with pytest.raises(Stopped):
        ground.run(broken, stop)
    again = ground.run(broken)
    assert again["rounds"] == expected["rounds"]
    assert again["final"] == expected["final"]


@pytest.mark.parametrize("number", [2, 3])
def test_a_round_that_closed_unmeasured_is_measured_when_the_run_goes_on(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    case = ground.case("uniform", "strategy.ranks=[4]", seed=number)
    expected = ground.run(case)

    class Interrupted(Examiner):
        def __call__(self, judging: RunEvaluation) -> None:
            if judging.engine.model.adapter.round == number:
                raise Stopped
            super().__call__(judging)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(benchmarks.fleet80.run, "Examiner", Interrupted)
        ground.run(case)
    again = ground.run(case)
    assert again["rounds"] == expected["rounds"]
    assert again["final"] == expected["final"]


@pytest.mark.parametrize("rows", [1, 8, 13])
def test_rows_that_were_right_come_back(rows: int) -> None:
    right = np.random.default_rng(rows).random(rows) < 0.5
    assert (unpacked(packed(right), rows) == right).all()
