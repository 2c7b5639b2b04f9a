"""fedcore doctor with a configuration: tables for people, JSON for programs, exit codes."""

import json
from pathlib import Path

import pytest

import fedcore.checkup.run_facts as run_facts
from tests.cli.conftest import Fedcore


@pytest.fixture(autouse=True)
def untried(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not load the tiny model, which has no tokenizer."""
    monkeypatch.setattr(run_facts, "try_model", lambda config: None)


def test_a_run_is_shown_below_the_machine(place: Path, fedcore: Fedcore) -> None:
    said = fedcore("doctor", "cfg.toml")
    assert said.code == 0, said.out
    assert said.out.startswith("ok   python: ")
    assert "run tiny: strategy fedspine, 3 rounds" in said.out
    assert said.out.endswith("ok   the run can begin: fedcore fleet\n")
    assert not (place / "runs").exists(), "nothing is started or written"


def test_a_run_that_would_be_refused_exits_with_one(fedcore: Fedcore) -> None:
    said = fedcore("doctor", "cfg.toml", "--set", "fleet.class.tx2.memory_mb=0.01", "--set", "data.label=stars")
    assert said.code == 1
    assert "no column 'stars'; columns: text, label" in " ".join(said.out.split())
    assert "MEND device tx2-0 of class tx2: training needs" in said.out


def test_programs_get_machine_and_run(fedcore: Fedcore) -> None:
    said = fedcore(
        "doctor", "cfg.toml", "--json", "--set", "fleet.class.tx2.memory_mb=0.01", "--set", "coordinator.min_devices=2"
    )
    told = json.loads(said.out)
    assert said.code == 1 and told["run"]["ok"] is False and told["run"]["can_begin"] is True
    assert all(finding["ok"] for finding in told["machine"])


def test_overrides_need_a_configuration(fedcore: Fedcore) -> None:
    said = fedcore("doctor", "--set", "run.rounds=3")
    assert (
        said.code == 1
        and said.err == "error: --set overrides a configuration: give its file too, fedcore doctor RUN.toml\n"
    )
    assert "nowhere.toml" in fedcore("doctor", "nowhere.toml").err
