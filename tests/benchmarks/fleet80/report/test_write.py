from pathlib import Path

import pytest

from benchmarks.fleet80.cases.tracks import TRACKS
from benchmarks.fleet80.cases.variants import VARIANTS
from benchmarks.fleet80.plan import Plan
from benchmarks.fleet80.report.entries import entries
from benchmarks.fleet80.report.tables import spread
from benchmarks.fleet80.report.write import write_report
from benchmarks.fleet80.stored import store
from tests.benchmarks.fleet80.known import result

KNOWN = {  # variant: (accuracy, seconds a round, whether it prunes)
    "fedspine": (0.85, 10.0, True),
    "fedit": (0.84, 40.0, False),
    "uniform": (0.75, 25.0, True),
    "by-class": (0.80, 10.0, True),
}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    made = Plan(track=TRACKS["fast"], say=lambda _: None).below(tmp_path)
    for name, (accuracy, seconds, prunes) in KNOWN.items():
        for seed in (0, 1) if name != "uniform" else (0,):
            case = made.case(VARIANTS[name], seed)
            store(case, result(case, accuracy, seconds=seconds, prunes=prunes), made.results)
    return made


def test_the_report_tells_speed_accuracy_and_what_may_be_claimed(plan: Plan, tmp_path: Path) -> None:
    page, *figures = write_report(plan)
    text = page.read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert any(line.startswith("| fedspine | 2 | 12 | 120 ± 0 | 0.002 | 85.00 ± 0.00 |") for line in lines)
    # Both reach 80 % in the same round, which takes FedSpine a quarter of the time.
    section = text.partition("## Virtual time to 80 %")[2].partition("\n## ")[0]
    assert any(
        line.startswith("| fedspine | 2 of 2 |") and line.endswith("| 4.00 ± 0.00 |") for line in section.split("\n")
    )
    assert any(line.startswith("| uniform | 0 of 1 | - |") for line in section.split("\n"))
    assert "| uniform | yes | 1 | +10.00 |" in text
    saved = text.partition("## Where the time saved")[2]
    assert "| fedspine | 30.00 | 15.00 | 22.50 | 7.50 | 75.00 |" in saved
    assert "## Questions" in text
    assert "| by-class |" in text
    assert {path.name for path in figures} == {
        f"fleet80-fast-{name}.png" for name in ("accuracy", "waiting", "arms", "speedup")
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in figures)


def test_results_of_other_configurations_are_left_out_and_counted(plan: Plan) -> None:
    case = Plan(track=plan.track, say=print, overrides=("run.rounds=21",)).case(VARIANTS["fedit"], 0)
    store(case, result(case, 0.99, seconds=1.0, prunes=False), plan.results)
    found, stale = entries(plan)
    assert stale == 1
    assert {path.name: len(path.results) for path in found} == {"fedspine": 2, "fedit": 2, "uniform": 1, "by-class": 2}


def test_nothing_stored_is_said_and_writes_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    plan = Plan(track=TRACKS["heavy"], say=said.append).below(tmp_path)
    assert write_report(plan) == []
    assert "nothing is stored" in said[0]
    assert not (tmp_path / "figures").exists()


def test_a_spread_is_told_where_there_is_one() -> None:
    assert spread([1.0, 3.0], "{:.1f}".format) == "2.0 ± 1.4"
    assert spread([1.0], "{:.1f}".format) == "1.0"
    assert spread([], "{:.1f}".format) == "-"
