"""What the command line of the fleet benchmark refuses, and what a look leaves alone."""

import sys
from pathlib import Path

import pytest

from benchmarks.fleet80 import __main__ as command


def obey(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fleet80", *arguments])
    command.main()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "nothing to do: give one of --strategy"),
        (("--report", "--set", "run.rounds=3"), "--report tells of the plan as it is"),
    ],
)
def test_what_cannot_be_meant_is_a_mistake_of_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        obey(monkeypatch, *arguments)
    assert ended.value.code == 2 and told in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["foo.bar=1", "strategy.ranks=[]"])
@pytest.mark.parametrize("flag", ["--list", "--table"])
def test_a_key_that_is_wrong_for_every_line_is_an_error(monkeypatch: pytest.MonkeyPatch, flag: str, wrong: str) -> None:
    with pytest.raises(SystemExit, match=r"^error: "):
        obey(monkeypatch, flag, "--set", wrong)


def test_a_wrong_bandit_is_told_of_every_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    obey(monkeypatch, "--list", "--set", "strategy.bandit=foo")
    lines = capsys.readouterr().out.splitlines()
    assert lines and all("not in this version" in line or "bandit-" in line for line in lines)


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_obey", interrupted)
    with pytest.raises(SystemExit, match="goes on after the last closed round"):
        obey(monkeypatch, "--list")


def test_a_look_writes_no_figures_of_the_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    places: list[Path] = []
    monkeypatch.setattr(command, "write_report", lambda plan: places.append(plan.figures) or [])
    obey(monkeypatch, "--quick", "--report")
    assert places and "benchmarks" not in places[0].parts
